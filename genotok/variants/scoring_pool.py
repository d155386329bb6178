"""Which pool scores the windows of a run."""

from collections.abc import Sequence

from genotok.models import GenomicLM
from genotok.variants.field_pool import FieldPool
from genotok.variants.fields import DEFAULT_FIELDS, ScoreField
from genotok.variants.masked_pool import MaskedPool, masked_way
from genotok.variants.pool import PairPool
from genotok.variants.prefix_pool import PrefixPool, make_pool

Pool = PairPool | PrefixPool | MaskedPool | FieldPool


def scoring_pool(
    model: GenomicLM,
    precision: str,
    batch_size: int,
    share_prefixes: bool = True,
    masked: str | None = None,
    fields: Sequence[ScoreField] = DEFAULT_FIELDS,
) -> Pool:
    """What scores windows: by the model's task, and with whole windows where optional fields ask for them.

    Args:
        model: on its device.
        precision: `fp32` or `bf16`.
        batch_size: windows a batch.
        share_prefixes: see `genotok.variants.prefix_pool.make_pool`; without effect where optional fields are found.
        masked: see `genotok.variants.masked_pool.masked_way`.
        fields: those that each allele gets.

    Raises:
        InputError: the model does not give what is asked for.
    """
    way = masked_way(model, masked)
    of_masked = MaskedPool(model, precision, batch_size, way) if way else None
    if len(fields) > len(DEFAULT_FIELDS):
        return FieldPool(model, precision, batch_size, fields, of_masked)
    return make_pool(model, precision, batch_size, share_prefixes) if of_masked is None else of_masked

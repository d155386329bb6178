"""Which column of the shards a model reads beside the letters, if any."""

import sys

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.shards.manifest import Manifest
from genotok.shards.reader import ShardDataset
from genotok.tokenizers import LetterTokenizer, load_tokenizer


def column_for(model: GenomicLM, dataset: ShardDataset, task: str, exact: bool = False) -> str | None:
    """The column that goes into the model as `boundary_inputs`: `boundaries`, `entropies` or None.

    Entropies of the shards know every token. Where a task hides tokens (`mlm`) a model that read them could tell
    from the chunks what is hidden, so that it works out those of what it sees.

    Args:
        model: the model.
        dataset: the windows.
        task: `lm` or `mlm`.
        exact: whether entropies that were rounded to float16 are left alone.

    Raises:
        InputError: the model cuts by given boundaries, and the shards have none or do not fit.
    """
    if check_boundaries(model.config, dataset.manifest, str(dataset.folder)):
        return "boundaries"
    if task != "lm" or (exact and (dataset.manifest.entropies or {}).get("dtype") == "float16"):
        return None
    return "entropies" if has_entropies_of(model, dataset) else None


def cuts_by_given(config: ModelConfig) -> bool:
    """Whether the outermost chunker of a model takes boundaries from the caller."""
    return bool(config.chunkers) and config.chunkers[0]["kind"] == "given"


def check_boundaries(config: ModelConfig, manifest: Manifest, folder: str) -> bool:
    """Whether a model cuts by given boundaries, which the shards in `folder` then must have.

    Raises:
        InputError: they have none, or the model has tokens of several letters.
    """
    if not cuts_by_given(config):
        return False
    tokenizer = load_tokenizer(config.tokenizer)
    if not isinstance(tokenizer, LetterTokenizer):
        raise InputError(
            f"chunkers[0].kind: 'given' takes boundaries between letters, and the tokenizer {tokenizer.name!r} has "
            "tokens of several"
        )
    if manifest.boundaries is None:
        raise InputError(
            f"{folder}: has no boundaries, by which the chunker 'given' cuts; `genotok shards boundaries` adds them"
        )
    return True


def has_entropies_of(model: GenomicLM, dataset: ShardDataset) -> bool:
    """Whether shards hold the entropies that a model with an entropy model would work out; says if another's."""
    column = dataset.manifest.entropies
    if model.entropy_model is None or column is None:
        return False
    if column["model"] == model.entropy_model.content_hash():
        return True
    print(
        f"{dataset.folder}: its entropies are those of model {column['model'][:12]} and not of the entropy model at "
        "hand, so they are worked out anew",
        file=sys.stderr,
    )
    return False

"""What training minimises."""

from dataclasses import dataclass

from torch import Tensor

from genotok.models import GenomicLM, ModelOutput
from genotok.models.chunkers.routing import Boundaries
from genotok.shards.sampler import Batch


@dataclass
class Objective:
    """The loss to minimise, and its parts.

    Attributes:
        total: the mean nats a token, and the weighted ratio loss.
        nats: mean nats a nucleotide. Where k-mers overlap these hold the letters that are known already, and are
            more than the likelihood counts.
        ratio: the ratio loss summed over learned stages.
        output: of the model.
    """

    total: Tensor
    nats: Tensor
    ratio: Tensor
    output: ModelOutput


def ratio_loss(boundaries: Boundaries, target: float) -> Tensor:
    """Pull a stage towards chunks of `target` tokens (H-Net, arXiv 2507.07955, eq. 9).

    With F the fraction of boundaries, G their mean probability and N the target length:
    N / (N - 1) * ((N - 1) F G + (1 - F)(1 - G)), which is 1 where F = G = 1 / N.
    """
    chosen, wanted = boundaries.mask.float().mean(), boundaries.prob.mean()
    return target / (target - 1) * ((target - 1) * chosen * wanted + (1 - chosen) * (1 - wanted))


def objective(model: GenomicLM, batch: Batch, targets: list[float], weight: float) -> Objective:
    """Run the model on a batch and weigh up its losses.

    Args:
        model: the model.
        batch: the windows.
        targets: tokens a chunk, one value a chunking stage; those of stages whose boundaries are not learned
            are ignored.
        weight: of the ratio loss.
    """
    output = model(batch.input_ids, task="lm", labels=batch.labels, lengths=batch.lengths)
    ratio = output.loss.new_zeros(())
    for boundaries, target in zip(output.packed_boundaries, targets, strict=True):
        if boundaries.learned:
            ratio = ratio + ratio_loss(boundaries, target)
    nats = output.loss * (max(batch.tokens, 1) / max(batch.nucleotides, 1))
    return Objective(output.loss + weight * ratio, nats, ratio, output)

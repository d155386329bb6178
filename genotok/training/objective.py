"""What training minimises."""

from dataclasses import dataclass

from torch import Tensor

from genotok.models import GenomicLM, ModelOutput
from genotok.models.chunkers.routing import Boundaries
from genotok.models.language_model import next_token_loss, token_loss
from genotok.shards.sampler import Batch
from genotok.training.label_weights import weighted_loss
from genotok.training.labelled import LabelledBatch


@dataclass
class Objective:
    """The loss to minimise, and its parts.

    Attributes:
        total: what is minimised.
        nats: the loss of the task alone, without label smoothing and weights of labels: mean nats a nucleotide in
            `lm` (where k-mers overlap with the letters that are known already, hence more than the likelihood counts),
            a masked token in `mlm`, and in `prediction` the weighted sum over the heads.
        ratio: the ratio loss summed over learned stages.
        output: what the model gave.
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


def objective(
    model: GenomicLM,
    batch: Batch | LabelledBatch,
    targets: list[float],
    weight: float,
    task: str = "lm",
    label_smoothing: float = 0.0,
) -> Objective:
    """Run the model on a batch and weigh up its losses.

    Args:
        model: the model.
        batch: the windows, or for `prediction` the labelled sequences.
        targets: tokens a chunk, one value a chunking stage; those of stages whose boundaries are not learned
            are ignored.
        weight: of the ratio loss.
        task: `lm`, `mlm` or `prediction`.
        label_smoothing: share of the labels of `lm` and `mlm` that is spread over the vocabulary.
    """
    weights = getattr(batch, "weights", None)
    output = model(
        batch.input_ids,
        task=task,
        labels=batch.labels if weights is None else None,
        lengths=batch.lengths,
        boundary_inputs=getattr(batch, "boundary_inputs", None),  # labelled sequences have none
        label_smoothing=label_smoothing,
    )
    if weights is not None:
        loss = weighted_loss(output.logits, batch.labels, weights, task, label_smoothing)
        output.losses, output.loss = {task: loss}, model.config.task_weights.get(task, 1.0) * loss
    ratio = output.loss.new_zeros(())
    for boundaries, target in zip(output.packed_boundaries, targets, strict=True):
        if boundaries.learned:
            ratio = ratio + ratio_loss(boundaries, target)
    nats = output.loss if task == "prediction" else output.losses[task]
    if (label_smoothing or weights is not None) and task != "prediction":
        loss = next_token_loss if task == "lm" else token_loss
        nats = loss(output.logits.detach(), batch.labels, batch.lengths)
    if task == "lm":
        nats = nats * (max(batch.tokens, 1) / max(batch.nucleotides, 1))
    return Objective(output.loss + weight * ratio, nats, ratio, output)

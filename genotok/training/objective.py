"""What training minimises.

The loss of a step is that of its global batch: of all micro batches of all ranks together. It is a mean over labels
(nucleotides), and the ratio loss is one of the fractions over all rows, neither a mean of means. So each pass over a
micro batch gives sums, which are weighed by what all of them have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genotok.models import GenomicLM, ModelConfig, ModelOutput
from genotok.models.chunkers.routing import Boundaries
from genotok.models.language_model import next_token_loss, token_loss
from genotok.models.prediction_heads import known_labels
from genotok.shards.sampler import Batch
from genotok.tokenizers import IGNORED_LABEL
from genotok.training.label_weights import weighted_loss
from genotok.training.labelled import LabelledBatch
from genotok.training.stages import StageNumbers, binary_entropy


class PassSums(NamedTuple):
    """What a pass over one micro batch gives.

    Attributes:
        losses: by the name of a task or head, the mean over its labels by their weights, with gradient.
        nats: the loss of `lm` or `mlm` without label smoothing and weights of labels, a mean over these; of other
            tasks 0.
        likely: (S,) the sum of the boundary probability of each chunking stage, with gradient.
        unsure: (S,) float64, the sum of the entropies of these probabilities in bits.
        chosen: (S,) float64, how many rows of each begin a chunk.
        rows: (S,) float64, how many rows each has.
        left_out: (S,) float64, how many boundaries of each there was no room for.
    """

    losses: dict[str, Tensor]
    nats: Tensor
    likely: Tensor
    unsure: Tensor
    chosen: Tensor
    rows: Tensor
    left_out: Tensor


@dataclass
class StepLosses:
    """The losses of a global batch, as numbers.

    Attributes:
        total: what is minimised.
        nats: the loss of the task alone, without label smoothing and weights of labels: mean nats a nucleotide in
            `lm` (where k-mers overlap with the known letters, hence more than the likelihood counts), a masked token
            in `mlm`, and in `prediction` the weighted sum over the heads.
        ratio: the ratio loss summed over learned stages.
        by_name: the loss of each task and head.
        stages: the chunks of each chunking stage, outermost first.
        left_out: boundaries that there was no room for, summed over the stages; with any, the others are not those of
            the model.
    """

    total: float
    nats: float
    ratio: float
    by_name: dict[str, float]
    stages: list[StageNumbers]
    left_out: int = 0


class Passes(nn.Module):
    """A model whose pass gives the parts of the loss.

    Args:
        model: the model.
        label_smoothing: share of the labels of `lm` and `mlm` that is spread over the vocabulary.

    Attributes:
        output: what the model gave for the latest micro batch of this rank.
    """

    def __init__(self, model: GenomicLM, label_smoothing: float = 0.0):
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing
        self.output: ModelOutput | None = None

    def forward(
        self, batch: Batch | LabelledBatch, task: str, chunk_capacity: Sequence[float] = ()
    ) -> PassSums:
        """Run the model on a batch, which lies on its device but for the lengths, which may lie on the host.

        Args:
            batch: what to read.
            task: `lm`, `mlm` or `prediction`.
            chunk_capacity: see `GenomicLM.forward`.
        """
        weights = getattr(batch, "weights", None)
        output = self.output = self.model(
            batch.input_ids,
            task=task,
            labels=batch.labels if weights is None else None,
            lengths=batch.lengths,
            boundary_inputs=getattr(batch, "boundary_inputs", None),  # labelled sequences have none
            label_smoothing=self.label_smoothing,
            chunk_capacity=chunk_capacity,
        )
        if weights is not None:
            loss = weighted_loss(output.logits, batch.labels, weights, task, self.label_smoothing)
            output.losses = {task: loss}
        stages = output.packed_boundaries
        likely = [_of_real_rows(stage.prob, stage).sum() for stage in stages]
        nats = output.loss.detach().new_zeros(()) if task == "prediction" else output.losses[task].detach()
        if (self.label_smoothing or weights is not None) and task != "prediction":
            loss = next_token_loss if task == "lm" else token_loss
            nats = loss(output.logits.detach(), batch.labels, batch.lengths)
        return PassSums(
            output.losses,
            nats,
            torch.stack(likely) if stages else nats.new_zeros(0),
            boundary_entropies(output),
            *boundary_counts(output),
            left_out(output),
        )


@torch.no_grad()
def boundary_entropies(output: ModelOutput) -> Tensor:
    """(S,) float64: the sum of the binary entropies of each chunking stage's boundary probabilities, in bits."""
    stages = output.packed_boundaries
    sums = [_of_real_rows(binary_entropy(stage.prob), stage).sum() for stage in stages]
    return torch.stack(sums).double() if sums else torch.zeros(0, dtype=torch.float64)


def left_out(output: ModelOutput) -> Tensor:
    """(S,) float64: how many boundaries of each chunking stage there was no room for."""
    stages = output.packed_boundaries
    if not stages:
        return torch.zeros(0, dtype=torch.float64)
    none = torch.zeros_like(stages[0].mask[0], dtype=torch.long)
    return torch.stack([none if stage.left_out is None else stage.left_out for stage in stages]).double()


def _of_real_rows(values: Tensor, stage: Boundaries) -> Tensor:
    """(T,) values of the rows of a stage, 0 in those that only fill its layout up."""
    return values if stage.ragged.real is None else torch.where(stage.ragged.is_real, values, 0)


def boundary_counts(output: ModelOutput) -> tuple[Tensor, Tensor]:
    """(S,) float64 each: how many rows of each chunking stage begin a chunk, and how many there are."""
    stages = output.packed_boundaries
    if not stages:
        return (torch.zeros(0, dtype=torch.float64),) * 2
    chosen = torch.stack([stage.real_mask.sum() for stage in stages])
    rows = [
        chosen.new_full((), stage.ragged.total) if (real := stage.ragged.real) is None else real
        for stage in stages
    ]
    return chosen.double(), torch.stack(rows).double()


def ratio_loss(chosen: Tensor, likely: Tensor, target: float) -> Tensor:
    """Pull a stage towards chunks of `target` tokens (H-Net, arXiv 2507.07955, eq. 9).

    With F = `chosen` the fraction of boundaries, G = `likely` their mean probability and N the target length:
    N / (N - 1) * ((N - 1) F G + (1 - F)(1 - G)), which is 1 where F = G = 1 / N.
    """
    return target / (target - 1) * ((target - 1) * chosen * likely + (1 - chosen) * (1 - likely))


def ratio_slope(chosen: Tensor, target: float) -> Tensor:
    """How the ratio loss changes with G; it is linear in it, so micro batches and ranks may add up their parts."""
    return target / (target - 1) * (target * chosen - 1)


def label_counts(batch: Batch | LabelledBatch, task: str, config: ModelConfig) -> dict[str, float]:
    """How many labels the loss of each task or head is a mean of; where labels have weights, the sum of these.

    Args:
        batch: of the host.
        task: `lm`, `mlm` or `prediction`.
        config: the model's.
    """
    if task == "prediction":
        heads = {name: config.heads[name] for name in batch.labels}
        return {
            name: int(known_labels(head, batch.labels[name], batch.lengths).sum())
            for name, head in heads.items()
        }
    if batch.weights is None:
        return {task: plain_count(batch, task)}
    begin = int(task == "lm")  # the first token has no prediction
    counted = batch.labels[:, begin:] != IGNORED_LABEL
    return {task: float(batch.weights[:, begin:].double()[counted].sum())}


def plain_count(batch: Batch | LabelledBatch, task: str) -> int:
    """How many labels of `lm` or `mlm` there are, whatever their weights; 0 for `prediction`."""
    if task == "prediction":
        return 0
    return batch.tokens if task == "lm" else int((batch.labels != IGNORED_LABEL).sum())


def loss_weight(config: ModelConfig, name: str) -> float:
    """The weight of a task or head in the loss."""
    weight = config.heads[name].weight if name in config.heads else 1.0
    return config.task_weights.get(name, weight)

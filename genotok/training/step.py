"""The gradient of one optimizer step: over its micro batches, and over all ranks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from genotok.models import GenomicLM
from genotok.shards.sampler import Batch
from genotok.training.config import TrainConfig
from genotok.training.curriculum import value_at
from genotok.training.distributed import Ranks
from genotok.training.labelled import LabelledBatch
from genotok.training.objective import (
    Passes,
    PassSums,
    StepLosses,
    boundary_counts,
    label_counts,
    loss_weight,
    plain_count,
    ratio_loss,
    ratio_slope,
)
from genotok.training.precision import Precision
from genotok.training.recorded_passes import MicroWeights, RecordedPasses, Recorder
from genotok.training.sharing import Shared
from genotok.training.stages import StageNumbers

AnyBatch = TypeVar("AnyBatch", Batch, LabelledBatch)


@dataclass
class FoundLosses:
    """The losses of a global batch, as a device holds them.

    Attributes:
        values: (N,) float64, sums over all micro batches and ranks, from which the host works the losses out.
        names: of the tasks and heads; their losses stand first, behind them the nats, and then a value a chunking
            stage of each of `likely`, `chosen`, `rows`, `unsure` and `left_out`, as in `PassSums`.
        learned: whether the boundaries of each chunking stage follow the model's own scores.
        task: of the batch.
        tokens_a_nucleotide: labels, over the nucleotides that they stand for.
        targets: tokens a chunk that the ratio loss steers each stage to.
        config: of the run.
        weights: of the losses by name.
    """

    values: Tensor
    names: list[str]
    learned: list[bool]
    task: str
    tokens_a_nucleotide: float
    targets: Sequence[float]
    config: TrainConfig
    weights: dict[str, float]

    def on_host(self, values: list[float] | None = None) -> StepLosses:
        """The losses in numbers.

        Args:
            values: those of `values`, and maybe others behind them; None to wait for them here.
        """
        values = self.values.tolist() if values is None else values
        names, stages = self.names, len(self.learned)
        by_name = dict(zip(names, values, strict=False))
        begin, end = len(names) + 1, len(names) + 1 + 5 * stages
        counts = torch.tensor(values[begin:end], dtype=torch.float64).view(5, stages)
        likely, chosen, rows, unsure, left_out = counts
        fractions, likely = chosen / rows, likely / rows
        nats, targets = values[len(names)], self.targets
        learned = [s for s in range(stages) if self.learned[s]]
        ratio = sum(ratio_loss(fractions[s], likely[s], targets[s]).item() for s in learned)
        weighted = sum(self.weights[name] * loss for name, loss in by_name.items())
        nats = {"lm": nats * self.tokens_a_nucleotide, "mlm": nats}.get(self.task, weighted)
        total = weighted + self.config.ratio_weight * ratio
        numbers = self._stages(*(part.tolist() for part in (chosen, rows, unsure)))
        return StepLosses(total, nats, float(ratio), by_name, numbers, int(left_out.sum()))

    def _stages(self, chosen: list[float], rows: list[float], unsure: list[float]) -> list[StageNumbers]:
        return [
            StageNumbers(int(rows[s]), int(chosen[s]), unsure[s] / rows[s], learned)
            for s, learned in enumerate(self.learned)
        ]

    @property
    def left_out(self) -> Tensor:
        """() float64, boundaries that there was no room for."""
        return self.values[len(self.values) - len(self.learned) :].sum()


class GradientStep:
    """Gives parameters the gradient of the loss of a global batch.

    Args:
        model: that the ranks share; see `genotok.training.sharing`.
        config: of the run.
        ranks: who else is there.
        precision: of the products; in fp16 the gradient comes scaled.
        recorder: records passes over micro batches, which are then replayed; None for none. One rank alone.

    Attributes:
        passes: runs the model; its `output` is that of the latest micro batch of this rank, or None where that was
            replayed.
        targets: tokens a chunk that the ratio loss steers each stage to, those of the latest step.
        recorded: the passes that are recorded; None without a recorder.
    """

    def __init__(
        self,
        model: GenomicLM,
        config: TrainConfig,
        ranks: Ranks,
        precision: Precision,
        recorder: Recorder | None = None,
    ):
        self.model, self.config, self.ranks, self.precision = model, config, ranks, precision
        self.passes = Passes(model, config.label_smoothing)
        self.shared = Shared(self.passes, config.parallel, ranks)
        self.targets = value_at(config.target_chunk_length, 0)
        self.recorded = None
        if recorder is not None:
            self.recorded = RecordedPasses(recorder, self.passes, self._pass, self._counts)

    def backward(self, batch: AnyBatch, task: str, exact: bool = False) -> FoundLosses:
        """Add the gradient to the parameters; without a `chunk_capacity` the host waits once a chunking stage.

        With a recorder the parameters must have no gradient yet, and get those that recordings write to.

        Args:
            batch: what this rank reads of the global batch, on the host.
            task: `lm`, `mlm` or `prediction`, the same on all ranks.
            exact: whether chunks are not filled up to a `chunk_capacity`.
        """
        capacity = () if exact else tuple(self.config.chunk_capacity or ())
        count, parts = len(batch.lengths), self.config.accumulate
        micros = [_rows(batch, slice(count * k // parts, count * (k + 1) // parts)) for k in range(parts)]
        self.targets = value_at(self.config.target_chunk_length, batch.step)
        weights, tokens_a_nucleotide = self._weights(batch, micros, task)
        found = None
        if self.recorded is not None and not exact:
            self.recorded.enter(value_at(self.config.window_length, batch.step))
            found = self.recorded.run(micros, task, capacity, weights, self._looks_ahead(micros))
        values, learned = found or self._run(micros, task, capacity, weights)
        names = sorted(weights[0].shares)
        of_losses = {name: loss_weight(self.model.config, name) for name in names}
        settings = (task, tokens_a_nucleotide, self.targets, self.config, of_losses)
        return FoundLosses(self.ranks.sum(values), names, learned, *settings)

    def _weights(
        self, batch: AnyBatch, micros: list[AnyBatch], task: str
    ) -> tuple[list[MicroWeights], float]:
        """What the micro batches weigh in the step, and the labels of the global batch over its nucleotides."""
        own = [label_counts(micro, task, self.model.config) for micro in micros]
        plain = [plain_count(micro, task) for micro in micros]
        nucleotides = float(batch.nucleotides) if task == "lm" else 0.0
        names = sorted(own[0])
        *counts, labels, nucleotides = self.ranks.sums(
            [*(sum(count[name] for count in own) for name in names), sum(plain), nucleotides]
        )
        counts = dict(zip(names, counts, strict=True))
        weights = [
            MicroWeights(
                {name: count[name] / (counts[name] or 1.0) for name in names},
                of_plain / max(labels, 1.0),
                self.config.ratio_weight,
                self.targets,
            )
            for count, of_plain in zip(own, plain, strict=True)
        ]
        return weights, labels / max(nucleotides, 1.0)

    def _run(
        self, micros: list[AnyBatch], task: str, capacity: tuple[float, ...], weights: list[MicroWeights]
    ) -> tuple[Tensor, list[bool]]:
        """Forward and backward: the `values` of `FoundLosses` on this rank, and its `learned`."""
        ahead = None
        if self._looks_ahead(micros):
            counts = [self._counts(_on_device(micro, self.ranks.device), task, capacity) for micro in micros]
            ahead = self._of_all_ranks(counts)
        values = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        for k, (micro, weight) in enumerate(zip(micros, weights, strict=True)):
            with self.shared.more_to_come(k + 1 < len(micros)):
                found, learned = self._pass(
                    _on_device(micro, self.ranks.device), task, capacity, weight, ahead
                )
            values = values + found
        self.shared.finish_gradients()
        return values, learned

    def _pass(
        self,
        micro: AnyBatch,
        task: str,
        capacity: tuple[float, ...],
        weights: MicroWeights,
        ahead: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, list[bool]]:
        """Forward and backward of one micro batch, which lies on the device.

        Args:
            micro: the micro batch.
            task, capacity: as in `backward`.
            weights: what it weighs.
            ahead: how many chunks begin in all micro batches and how many rows they have, (S,) float64 both; None
                for those of this one and of its like on the other ranks.

        Returns:
            What it adds to the `values` of `FoundLosses`, and the `learned` of these.
        """
        with self.precision.autocast():
            sums = self.shared(micro, task, capacity)
        learned = [stage.learned for stage in self.passes.output.packed_boundaries]
        global_counts = ahead or self._of_all_ranks([(sums.chosen, sums.rows)])
        self.precision.backward(self._loss(sums, weights, learned, *global_counts))
        return self._values(sums, weights), learned

    def _loss(
        self, sums: PassSums, weights: MicroWeights, learned: list[bool], chosen: Tensor, rows: Tensor
    ) -> Tensor:
        """What this micro batch adds to the loss; of several ranks the mean is taken, hence the factor."""
        total = sums.nats.new_zeros(())
        for name, loss in sums.losses.items():
            weight = loss_weight(self.model.config, name) * weights.shares[name]
            total = total + (weight.to(loss.dtype) if isinstance(weight, Tensor) else weight) * loss
        for s in (s for s in range(len(learned)) if learned[s]):
            slope = ratio_slope(chosen[s] / rows[s], weights.targets[s]) / rows[s]
            total = total + (weights.ratio_weight * slope).float() * sums.likely[s]
        return total * self.ranks.size

    def _looks_ahead(self, micros: list[AnyBatch]) -> bool:
        """Whether chunks are counted in front of the step.

        The slope of the ratio loss needs the number of those that begin in all micro batches before the first of
        these goes backward.
        """
        return len(micros) > 1 and bool(self.config.ratio_weight and self.model.config.chunkers)

    @torch.no_grad()
    def _counts(self, micro: AnyBatch, task: str, capacity: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """The `boundary_counts` of a micro batch, which lies on the device."""
        inputs = {"lengths": micro.lengths, "boundary_inputs": getattr(micro, "boundary_inputs", None)}
        with self.precision.autocast():
            return boundary_counts(self.model(micro.input_ids, task=task, chunk_capacity=capacity, **inputs))

    def _of_all_ranks(self, counts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        chosen, rows = (torch.stack(parts).sum(0) for parts in zip(*counts, strict=True))
        if len(chosen) == 0:
            return chosen, rows
        return tuple(self.ranks.sum(torch.stack([chosen, rows])))

    @torch.no_grad()
    def _values(self, sums: PassSums, weights: MicroWeights) -> Tensor:
        """What a micro batch adds to the `values` of `FoundLosses`."""
        means = [share * sums.losses[name].double() for name, share in sorted(weights.shares.items())]
        nats = weights.of_labels * sums.nats.double()
        counts = (sums.likely.double(), sums.chosen, sums.rows, sums.unsure, sums.left_out)
        counts = counts if len(sums.chosen) else ()  # without stages these are empty, and lie on the host
        return torch.cat([torch.stack([*means, nats]), *counts])


def _on_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """A batch on a device, but its lengths where they are: the host lays the rows out, and need not wait for them."""
    return replace(batch.to(device), lengths=batch.lengths)


def _rows(batch: AnyBatch, rows: slice) -> AnyBatch:
    """Some rows of a batch, in the memory where they are."""

    def taken(value):
        if isinstance(value, dict):
            return {key: taken(part) for key, part in value.items()}
        return value[rows] if isinstance(value, Tensor) else value

    return replace(batch, **{field.name: taken(getattr(batch, field.name)) for field in fields(batch)})

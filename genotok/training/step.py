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

    Attributes:
        passes: runs the model; its `output` is that of the latest micro batch of this rank.
        targets: tokens a chunk that the ratio loss steers each stage to, those of the latest step.
    """

    def __init__(self, model: GenomicLM, config: TrainConfig, ranks: Ranks, precision: Precision):
        self.model, self.config, self.ranks, self.precision = model, config, ranks, precision
        self.passes = Passes(model, config.label_smoothing)
        self.shared = Shared(self.passes, config.parallel, ranks)
        self.targets = value_at(config.target_chunk_length, 0)

    def backward(self, batch: AnyBatch, task: str, exact: bool = False) -> FoundLosses:
        """Add the gradient to the parameters; without a `chunk_capacity` the host waits once a chunking stage.

        Args:
            batch: what this rank reads of the global batch, on the host.
            task: `lm`, `mlm` or `prediction`, the same on all ranks.
            exact: whether chunks are not filled up to a `chunk_capacity`.
        """
        capacity = () if exact else tuple(self.config.chunk_capacity or ())
        count, parts = len(batch.lengths), self.config.accumulate
        micros = [_rows(batch, slice(count * k // parts, count * (k + 1) // parts)) for k in range(parts)]
        self.targets = value_at(self.config.target_chunk_length, batch.step)
        own = [label_counts(micro, task, self.model.config) for micro in micros]
        plain = [plain_count(micro, task) for micro in micros]
        nucleotides = float(batch.nucleotides) if task == "lm" else 0.0
        names = sorted(own[0])
        *counts, labels, nucleotides = self.ranks.sums(
            [*(sum(count[name] for count in own) for name in names), sum(plain), nucleotides]
        )
        counts = dict(zip(names, counts, strict=True))
        ahead = self._boundaries_ahead(micros, task, capacity) if len(micros) > 1 else None
        found, shares = [], []
        for k, (micro, count) in enumerate(zip(micros, own, strict=True)):
            share = {name: count[name] / (counts[name] or 1.0) for name in names}
            with self.shared.more_to_come(k + 1 < len(micros)):
                with self.precision.autocast():
                    sums = self.shared(_on_device(micro, self.ranks.device), task, capacity)
                global_counts = ahead or self._of_all_ranks([(sums.chosen, sums.rows)])
                self.precision.backward(self._loss(sums, share, *global_counts))
            found.append(PassSums(*_detached(sums)))
            shares.append(share)
        self.shared.finish_gradients()
        of_labels = [count / max(labels, 1.0) for count in plain]
        return self._losses(found, shares, of_labels, task, labels / max(nucleotides, 1.0))

    def _loss(self, sums: PassSums, share: dict[str, float], chosen: Tensor, rows: Tensor) -> Tensor:
        """What this micro batch adds to the loss; of several ranks the mean is taken, hence the factor."""
        total = sums.nats.new_zeros(())
        for name, loss in sums.losses.items():
            total = total + loss_weight(self.model.config, name) * share[name] * loss
        for s in self._learned():
            slope = ratio_slope(chosen[s] / rows[s], self.targets[s]) / rows[s]
            total = total + (self.config.ratio_weight * slope).float() * sums.likely[s]
        return total * self.ranks.size

    def _learned(self) -> list[int]:
        """The stages whose boundaries follow the model's own scores."""
        return [s for s, stage in enumerate(self.passes.output.packed_boundaries) if stage.learned]

    @torch.no_grad()
    def _boundaries_ahead(
        self, micros: list[AnyBatch], task: str, capacity: tuple[float, ...]
    ) -> tuple[Tensor, Tensor] | None:
        """Where several micro batches make up a step: how many chunks begin in all of them.

        The slope of the ratio loss needs this number before the first of them goes backward.
        """
        if not self.config.ratio_weight or not self.model.config.chunkers:
            return None
        counts = []
        for micro in micros:
            micro = _on_device(micro, self.ranks.device)
            inputs = {"lengths": micro.lengths, "boundary_inputs": getattr(micro, "boundary_inputs", None)}
            inputs["chunk_capacity"] = capacity
            with self.precision.autocast():
                counts.append(boundary_counts(self.model(micro.input_ids, task=task, **inputs)))
        return self._of_all_ranks(counts)

    def _of_all_ranks(self, counts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        chosen, rows = (torch.stack(parts).sum(0) for parts in zip(*counts, strict=True))
        if len(chosen) == 0:
            return chosen, rows
        return tuple(self.ranks.sum(torch.stack([chosen, rows])))

    def _losses(
        self,
        found: list[PassSums],
        shares: list[dict[str, float]],
        of_labels: list[float],
        task: str,
        tokens_a_nucleotide: float,
    ) -> FoundLosses:
        """The sums of the global batch."""
        names, stages = sorted(shares[0]), len(found[0].chosen)
        sums = torch.zeros(len(names) + 1 + 5 * stages, dtype=torch.float64, device=self.ranks.device)
        for part, share, of_all_labels in zip(found, shares, of_labels, strict=True):
            means = [share[name] * part.losses[name].double() for name in names]
            nats = of_all_labels * part.nats.double()
            counts = (part.likely.double(), part.chosen, part.rows, part.unsure, part.left_out)
            sums += torch.cat([torch.stack([*means, nats]), *(count.to(sums.device) for count in counts)])
        return FoundLosses(
            self.ranks.sum(sums),
            names,
            [stage.learned for stage in self.passes.output.packed_boundaries],
            task,
            tokens_a_nucleotide,
            self.targets,
            self.config,
            {name: loss_weight(self.model.config, name) for name in names},
        )


def _detached(sums: PassSums) -> list:
    losses = {name: loss.detach() for name, loss in sums.losses.items()}
    return [losses, *(part.detach() for part in sums[1:])]


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

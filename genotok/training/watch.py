"""What a run notes about its steps: records for `metrics.jsonl` and `speed.jsonl`, and alarms."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genotok.models import GenomicLM
from genotok.shards.sampler import Batch
from genotok.training.alarms import Alarm, Alarms
from genotok.training.config import TrainConfig
from genotok.training.distributed import Ranks
from genotok.training.labelled import LabelledBatch
from genotok.training.monitor import Monitor
from genotok.training.precision import Precision
from genotok.training.records import train_record
from genotok.training.speed import Speed
from genotok.training.stage_gradients import gradient_norms, learning_rates
from genotok.training.stages import StageNumbers, chunk_record
from genotok.training.taken_steps import TakenStep


@dataclass(frozen=True)
class Work:
    """What a step has read, over all ranks.

    Attributes:
        task: of the batch.
        letters: of the sequences; in tables their tokens.
        sequences: how many.
        tokens: of the sequences.
    """

    task: str
    letters: int
    sequences: int
    tokens: int

    @classmethod
    def of(cls, batch: Batch | LabelledBatch, ranks: Ranks) -> "Work":
        """The sums over the ranks, which all call this."""
        tokens = int(batch.lengths.sum())
        letters = batch.bases if isinstance(batch, Batch) else tokens
        sums = ranks.sums([letters, len(batch.lengths), tokens])
        return cls(batch.task, *(int(number) for number in sums))


class Watch:
    """Looks at every step of a run, and notes those that are due.

    All ranks call it in the same way, and the first writes.

    Args:
        config: of the run.
        model: that learns.
        optimizer: its groups say their `stage`.
        precision: of the run.
        unit: what progress counts, `bases` or `sequences`.
        ranks: those that share a step.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: GenomicLM,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        unit: str,
        ranks: Ranks,
    ):
        self.config, self.optimizer, self.precision, self.unit = config, optimizer, precision, unit
        self.stages = model.config.stage_layout.depth
        self.speed = Speed(model.config, ranks.device, unit, ranks.size)
        self.alarms = Alarms(round(config.warmup * config.steps))
        self._due_step: int | None = None
        self._latest: list[StageNumbers] = []

    def gradient_norms(self, due: bool) -> Tensor:
        """(S,) the gradient norms of the stages, before they are clipped, where the step is `due`; else (0,)."""
        return gradient_norms(self.optimizer, self.stages) if due else torch.zeros(0)

    def learning_rates(self) -> list[float]:
        """The learning rates of the stages."""
        return learning_rates(self.optimizer, self.stages)

    def count(self, work: Work) -> None:
        """Count the work of a step."""
        self.speed.add(work.letters if self.unit == "bases" else work.sequences, work.sequences, work.tokens)

    def note(self, monitor: Monitor, taken: TakenStep, work: Work) -> None:
        """Note a step that is done, and raise the alarms that follow from it.

        Args:
            monitor: where to.
            taken: the step.
            work: of the global batch.
        """
        step, (losses, norm, of_stages) = taken.step, taken.numbers
        record = train_record(losses, norm, taken.rate, taken.batch)
        self._latest = losses.stages
        found = self.alarms.step(f"{record.get('data', '')} {work.task}", losses.nats, norm)
        if taken.due:
            self._due_step = step
            record["stage_gradient_norms"] = of_stages
            record["stage_learning_rates"] = taken.stage_rates
            record |= chunk_record(losses.stages, work.letters) | self.precision.record()
            monitor.write(step, "train", record)
            found += self.alarms.chunks(step, losses.stages, taken.found.targets, work.sequences)
            found += self.alarms.loss_scale(self.precision.loss_scale, self.precision.skipped)
        for alarm in found:
            monitor.alarm(step, alarm)

    def say(self, monitor: Monitor, step: int, alarm: Alarm) -> None:
        """Say, once a run, what changes no number of it."""
        for new in self.alarms.once(alarm):
            monitor.alarm(step, new, of_the_clock=True)

    def note_speed(self, monitor: Monitor) -> None:
        """Note how fast the steps since the last record were, where one has been noted that was due."""
        if self._due_step is None:
            return
        record, step = self.speed.record(self._latest), self._due_step
        self._due_step = None
        monitor.write_speed(step, record)
        for alarm in self.alarms.waiting(record["waiting_share"], record["seconds"], record["steps"]):
            monitor.alarm(step, alarm, of_the_clock=True)

    def state(self) -> dict[str, Any]:
        """JSON values from which the same alarms and steps follow."""
        return {"alarms": self.alarms.state(), "precision": self.precision.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`; an empty one is that of a run's beginning."""
        self.alarms.restore(state.get("alarms", {}))
        self.precision.restore(state.get("precision", {}))

"""Which data set each step of a run reads, and its batches, made in time."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from genotok.shards.prefetch import Prefetcher
from genotok.shards.sampler import Batch, Job, Reading, TrainingBatches
from genotok.training.curriculum import Schedule, changes_of, value_at
from genotok.training.labelled import LabelledBatch, LabelledBatches

STREAM = 5  # of random numbers; order, strands and masks use other ones of the same seed


@dataclass
class DataSet:
    """One data set of a run.

    Attributes:
        name: what it is called in `metrics.jsonl`; empty where it is the only one.
        task: `lm`, `mlm` or `prediction`.
        batches: its batches to train on.
        weight: see `genotok.training.config.DataConfig`.
        validation: its batches to validate with.
        length, bases_per_step, mask_probability: how its windows are read; None for what `batches` says.
        letters: of a window of `batches`, or the mean of the rows of a table.
    """

    name: str
    task: str
    batches: TrainingBatches | LabelledBatches
    validation: Sequence[Batch] | Sequence[LabelledBatch]
    letters: float
    weight: Schedule[float] = 1.0
    length: Schedule[int] | None = None
    bases_per_step: int | None = None
    mask_probability: Schedule[float] | None = None

    def reading(self, step: int) -> Reading:
        """How its windows are read at a step."""
        length = None if self.length is None else value_at(self.length, step)
        count = None if self.bases_per_step is None else self.bases_per_step // int(length or self.letters)
        share = None if self.mask_probability is None else value_at(self.mask_probability, step)
        return Reading(length, count, share)

    def letters_at(self, step: int) -> float:
        """How many letters a global batch has at a step, but for short windows."""
        reading = self.reading(step)
        return (reading.count or self.batches.batch_size) * (reading.length or self.letters)

    @property
    def schedules(self) -> list[Schedule]:
        """What changes over the steps."""
        return [self.weight, self.length, self.mask_probability]


@dataclass(frozen=True)
class _Turn:
    """A job of one data set: its number, the step, and how many of its batches came up to this one."""

    data_set: int
    step: int
    turn: int
    job: Job


class MixedBatches:
    """The batches of a run without end: each step reads one data set, drawn by the weights from seed and step.

    All ranks draw the same, so that a step has one task. Each data set has an order and epochs of its own.

    Args:
        data_sets: one or more.
        seed: of the draw.
        workers: processes that make batches ahead; 0 makes them when they are asked for.

    Attributes:
        pin: whether batches go into memory that a GPU reads while the CPU works on; at first not.
    """

    def __init__(self, data_sets: Sequence[DataSet], seed: int, workers: int = 0):
        self.data_sets, self.seed, self.workers, self.pin = list(data_sets), seed, workers, False
        self._step, self._turns = 0, [0] * len(self.data_sets)
        self._ahead: deque[dict[str, Any]] = deque()  # the state behind each batch that is on its way
        self._prefetcher: Prefetcher | None = None
        self._state = self._planned()

    def drawn(self, step: int) -> int:
        """The number of the data set that a step reads."""
        if len(self.data_sets) == 1:
            return 0
        ends = np.cumsum([value_at(part.weight, step) for part in self.data_sets])
        point = np.random.default_rng([self.seed, step, STREAM]).random() * ends[-1]
        return int(np.searchsorted(ends, point, side="right"))

    def letters_before(self, step: int) -> int:
        """About how many letters the steps before one read: short windows as whole ones, draws by their odds."""
        schedules = [schedule for part in self.data_sets for schedule in part.schedules]
        changes = [begin for begin in changes_of(schedules, step) if begin <= step]
        total = 0.0
        for begin, end in pairwise(changes):
            weights = np.array([value_at(part.weight, begin) for part in self.data_sets], float)
            letters = [part.letters_at(begin) for part in self.data_sets]
            total += (end - begin) * float(weights @ letters) / weights.sum()
        return int(total)

    def state(self) -> dict[str, Any]:
        """JSON values to go on from behind the last batch that was handed out; the same on every rank."""
        return self._state

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, on any number of ranks and with any number of workers."""
        self.close()
        self._step = state["step"]
        for k, values in enumerate(state["data"]):
            self._turns[k] = values["turns"]
            self.data_sets[k].batches.restore(values)
        self._state = self._planned()

    def _planned(self) -> dict[str, Any]:
        parts = zip(self.data_sets, self._turns, strict=True)
        return {
            "step": self._step,
            "data": [part.batches.state() | {"turns": turns} for part, turns in parts],
        }

    def _next_turn(self) -> _Turn:
        k, step = self.drawn(self._step), self._step
        job = self.data_sets[k].batches.next_job(self.data_sets[k].reading(step))
        self._step, self._turns[k] = step + 1, self._turns[k] + 1
        return _Turn(k, step, self._turns[k], job)

    def _made(self, turn: _Turn) -> Batch | LabelledBatch:
        part = self.data_sets[turn.data_set]
        return replace(part.batches.make(turn.job), data=part.name, turn=turn.turn, step=turn.step)

    def __iter__(self) -> Iterator[Batch | LabelledBatch]:
        return self

    def __next__(self) -> Batch | LabelledBatch:
        if self.workers:
            batch = self._next_of_workers()
        else:
            batch = self._made(self._next_turn())
            self._state = self._planned()
        return batch.pin_memory() if self.pin else batch

    def _next_of_workers(self) -> Batch | LabelledBatch:
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self._made, self.workers)
        self._keep_busy(self._prefetcher)
        batch = self._prefetcher.next()
        self._state = self._ahead.popleft()
        self._keep_busy(self._prefetcher)
        return batch

    def _keep_busy(self, prefetcher: Prefetcher) -> None:
        while prefetcher.has_room:
            prefetcher.ask(self._next_turn())
            self._ahead.append(self._planned())

    def close(self) -> None:
        """End the processes that make batches; batches that are on their way are dropped."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None
            self._ahead.clear()

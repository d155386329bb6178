"""Alarms: what goes wrong in a run, said once a kind, with what to try."""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from genotok.training.stages import StageNumbers

REMEMBERED, NEEDED = 64, 32  # values that a new one is held against: at most, and at least
DEVIATIONS = 6.0  # robust standard deviations that are still no alarm
LEAST_RISE = 0.1  # a loss this share over the median is no alarm yet
LEAST_FACTOR = 10.0  # nor is a gradient norm this many times the median
STEPS_OF_A_SPIKE = 3  # one odd batch is no spike
PATIENCE = 100  # steps behind the warm-up for which chunks have collapsed
LOOKS = 3  # and the looks at them in these steps
WAITING_SHARE, LONG_ENOUGH, STEPS_ENOUGH = 0.3, 10.0, 10  # of how many seconds and steps
MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class Alarm:
    """What happened.

    Attributes:
        kind: a word for machines; the stage behind it where it is of one.
        message: what happened and what to try, in a sentence.
    """

    kind: str
    message: str


class Usual:
    """What values of late have been like: median and median absolute deviation of those that were not out of place.

    Args:
        in_logarithms: whether values are compared by their logarithms.
        least: a value not this much over the median is in place, however little the others differ; a share of the
            median, in logarithms a factor.
        values: those so far.
    """

    def __init__(self, least: float, in_logarithms: bool = False, values: Iterable[float] = ()):
        self.least, self.in_logarithms = least, in_logarithms
        self.values = list(values)

    def limit(self) -> float:
        """The largest value that is in place; infinite while there are too few to tell."""
        if len(self.values) < NEEDED:
            return math.inf
        middle = statistics.median(self.values)
        deviation = MAD_TO_DEVIATION * statistics.median(abs(value - middle) for value in self.values)
        least = math.log(self.least) if self.in_logarithms else self.least * abs(middle)
        limit = middle + max(DEVIATIONS * deviation, least)
        return math.exp(limit) if self.in_logarithms else limit

    def median(self) -> float:
        """Of the values remembered."""
        middle = statistics.median(self.values)
        return math.exp(middle) if self.in_logarithms else middle

    def takes(self, value: float) -> bool:
        """Whether a value is in place; if so it is remembered."""
        if value > self.limit():
            return False
        self.values.append(math.log(max(value, 1e-30)) if self.in_logarithms else value)
        del self.values[:-REMEMBERED]
        return True


class Alarms:
    """Looks at the numbers of a run; each kind of alarm comes once in a run.

    All but `waiting` follow from numbers that the same run gives again, and so do the alarms, also where it was
    interrupted: `state` goes into the checkpoint.

    Args:
        warmup: steps of the rising learning rate, in which chunks may be anything.
    """

    def __init__(self, warmup: int):
        self.warmup = warmup
        self._said: set[str] = set()
        self._losses: dict[str, Usual] = {}
        self._norms = Usual(LEAST_FACTOR, in_logarithms=True)
        self._high = 0
        self._collapsed: dict[str, list[int]] = {}
        self._waiting: list[tuple[float, float, int]] = []
        self._waited_enough = False

    def step(self, task: str, loss: float, norm: float) -> list[Alarm]:
        """Look at the loss and the gradient norm of a step; what is no number is passed over.

        Args:
            task: what the batch is of; losses are held against those of the same.
            loss: in nats.
            norm: before it was clipped.
        """
        found = []
        if math.isfinite(loss):
            found += self._spike(task, loss)
        if math.isfinite(norm):
            found += self._explosion(norm)
        return self._new(found)

    def _spike(self, task: str, loss: float) -> Iterator[Alarm]:
        usual = self._losses.setdefault(task, Usual(LEAST_RISE))
        self._high = 0 if usual.takes(loss) else self._high + 1
        if self._high == STEPS_OF_A_SPIKE:
            yield Alarm(
                "loss_spike",
                f"the loss has been over {usual.limit():.4g} for {STEPS_OF_A_SPIKE} steps (now {loss:.4g} nats, "
                f"before about {usual.median():.4g}); if it does not come down, go on from an earlier checkpoint "
                "with a lower learning_rate, a smaller clip, or a lower ratio_weight",
            )

    def _explosion(self, norm: float) -> Iterator[Alarm]:
        limit = self._norms.limit()
        if not self._norms.takes(norm):
            yield Alarm(
                "gradient_norm",
                f"the gradient norm is {norm:.4g}, over {limit:.4g}, and was about {self._norms.median():.4g}; it "
                "has been clipped, but if this comes again try a lower learning_rate, a longer warmup, or a lower "
                "ratio_weight",
            )

    def chunks(
        self, step: int, stages: list[StageNumbers], targets: list[float], sequences: int
    ) -> list[Alarm]:
        """Look at the chunks of the stages at a step; stages whose boundaries are not learned are passed over.

        Args:
            step: that is done.
            stages: the chunking stages.
            targets: tokens a chunk that each of them is steered to.
            sequences: in the batch.
        """
        if step <= self.warmup:
            return []
        found = []
        for place, (numbers, target) in enumerate(zip(stages, targets, strict=True)):
            if numbers.learned:
                found += self._collapse(step, place, numbers, target, sequences)
        return self._new(found)

    def _collapse(
        self, step: int, stage: int, numbers: StageNumbers, target: float, sequences: int
    ) -> Iterator[Alarm]:
        advice = "try a higher ratio_weight, a lower learning_rate, or a longer warmup"
        few = sequences + 0.01 * numbers.rows / target
        kinds = {
            "one_chunk_a_token": (
                numbers.chunks > 0.95 * numbers.rows,
                f"nearly every token begins a chunk, and its target is {target:g} tokens a chunk; {advice}",
            ),
            "one_chunk_a_document": (
                numbers.chunks <= few and numbers.rows > 4 * target * sequences,
                f"nearly every sequence is one chunk, and its target is {target:g} tokens a chunk; {advice}",
            ),
        }
        for kind, (holds, message) in kinds.items():
            name = f"{kind}_stage{stage}"
            steps = self._collapsed.setdefault(name, [])
            steps[:] = [*steps, step] if holds else []
            if len(steps) >= LOOKS and step - steps[0] >= PATIENCE:
                yield Alarm(name, f"stage {stage}: for {step - steps[0]} steps {message}")
            del steps[1 : 1 - LOOKS]

    def loss_scale(self, scale: float, skipped: int) -> list[Alarm]:
        """Look at the loss scale of fp16."""
        if scale >= 1:
            return []
        message = (
            f"the loss scale of fp16 has fallen to {scale:.3g}, with {skipped} steps left out: gradients overflow "
            "whatever it is; use precision bf16, or a lower learning_rate"
        )
        return self._new([Alarm("loss_scale", message)])

    def waiting(self, share: float, seconds: float, steps: int) -> list[Alarm]:
        """Look at the share of the time of some steps that was spent waiting for data; depends on the clock."""
        if self._waited_enough:
            return []
        self._waiting.append((share * seconds, seconds, steps))
        waited, seconds, steps = (sum(part) for part in zip(*self._waiting, strict=True))
        if seconds < LONG_ENOUGH or steps < STEPS_ENOUGH:
            return []
        self._waiting.clear()
        if waited <= WAITING_SHARE * seconds:
            return []
        self._waited_enough = True
        message = (
            f"{waited / seconds:.0%} of the last {seconds:.0f} seconds went by waiting for data; put the shards on a "
            "local disk, give the loader more workers, or use a larger batch"
        )
        return [Alarm("waiting_for_data", message)]

    def once(self, alarm: Alarm) -> list[Alarm]:
        """An alarm that others have raised, unless its kind has been said before."""
        return self._new([alarm])

    def _new(self, alarms: list[Alarm]) -> list[Alarm]:
        new = [alarm for alarm in alarms if alarm.kind not in self._said]
        self._said |= {alarm.kind for alarm in new}
        return new

    def state(self) -> dict[str, Any]:
        """JSON values from which the same alarms follow."""
        return {
            "said": sorted(self._said),
            "losses": {task: usual.values for task, usual in self._losses.items()},
            "norms": self._norms.values,
            "high": self._high,
            "collapsed": self._collapsed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`; an empty one is that of a run's beginning."""
        self._said = set(state.get("said", ()))
        losses = state.get("losses", {})
        self._losses = {task: Usual(LEAST_RISE, values=values) for task, values in losses.items()}
        self._norms = Usual(LEAST_FACTOR, in_logarithms=True, values=state.get("norms", ()))
        self._high = state.get("high", 0)
        self._collapsed = {name: list(steps) for name, steps in state.get("collapsed", {}).items()}

"""Which of the models that a run passes through are worth keeping, and when it has stopped getting better."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from genotok.errors import InputError

LOWER_IS_BETTER = ("bits", "nats", "loss")


@dataclass
class Selection:
    """The best validations of a run so far.

    Attributes:
        keep: how many models are kept.
        patience: validations in a row without a better one after which the run ends; 0 for never.
        key: of the validation's record that is compared: the lower the better where its name, behind that of a data
            set, begins with bits, nats or loss, else the higher.
        best: value and step of the best `keep` validations, the best first; of equal ones the first.
        since: validations since the best one.
    """

    keep: int
    patience: int
    key: str
    best: list[list[float]] = field(default_factory=list)
    since: int = 0

    def take(self, step: int, record: dict[str, Any]) -> bool:
        """Note a validation; whether its model is among those to keep.

        Raises:
            InputError: the record has no such number.
        """
        value = record.get(self.key)
        if not isinstance(value, int | float):
            raise InputError(f"best_by: the validation has no number {self.key!r}, but {', '.join(record)}")
        before = self.best[:1]
        self.best = sorted([*self.best, [value, step]], key=self._badness)[: max(self.keep, 1)]
        self.since = 0 if self.best[:1] != before else self.since + 1
        return [value, step] in self.best[: self.keep]

    def _badness(self, entry: list[float]) -> tuple[float, float]:
        value, step = entry
        if math.isnan(value):
            return math.inf, step
        return (value if self.key.rpartition(".")[2].startswith(LOWER_IS_BETTER) else -value), step

    @property
    def ended(self) -> bool:
        """Whether the run has had enough."""
        return bool(self.patience) and self.since >= self.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, as JSON values."""
        values = asdict(self)
        return {key: values[key] for key in ("best", "since")}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.best, self.since = state["best"], state["since"]

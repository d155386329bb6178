"""Settings that change over the steps of a run.

A schedule is a value, or a mapping of steps (0-based) to the values that hold from them on: `{0: 1024, 1000: 8192}`.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TypeVar

from genotok.errors import InputError

T = TypeVar("T")
Schedule = T | dict[int, T]


def value_at(schedule: Schedule[T], step: int) -> T:
    """The value of a schedule at a 0-based step."""
    if not isinstance(schedule, dict):
        return schedule
    return schedule[max(begin for begin in schedule if begin <= step)]


def values_of(schedule: Schedule[T]) -> list[T]:
    """All values of a schedule, in their order."""
    return list(schedule.values()) if isinstance(schedule, dict) else [schedule]


def changes_of(schedules: Iterable[Schedule], steps: int) -> list[int]:
    """The steps from which on some schedule has a new value, 0 and the end of the run among them."""
    changes = {step for schedule in schedules if isinstance(schedule, dict) for step in schedule}
    return sorted(changes | {0, steps})


def check_schedule(
    key: str, schedule: Schedule[T], steps: int, holds: Callable[[T], bool], what: str
) -> None:
    """Refuse a schedule that has no beginning, is out of order, ends behind the run, or has a value out of range.

    Args:
        key: the setting's name.
        schedule: what was written.
        steps: of the run.
        holds: whether a value is in its range.
        what: the range in words.

    Raises:
        InputError: names the key, and the step.
    """
    if not isinstance(schedule, dict):
        if not holds(schedule):
            raise InputError(f"{key}: is {schedule!r} and must be {what}")
        return
    begins = list(schedule)
    if not begins or begins[0] != 0:
        raise InputError(f"{key}: a schedule begins with the value from step 0 on, and this one has {begins}")
    for before, step in pairwise(begins):
        if step <= before:
            raise InputError(f"{key}: step {step} stands behind step {before}; steps must ascend")
    if begins[-1] >= steps:
        raise InputError(f"{key}: changes at step {begins[-1]}, and the run ends with step {steps - 1}")
    for step, value in schedule.items():
        if not holds(value):
            raise InputError(f"{key}: is {value!r} from step {step} on and must be {what}")

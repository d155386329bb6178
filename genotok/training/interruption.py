"""Being asked to end in the middle of a run."""

import contextlib
import signal
from collections.abc import Callable, Iterator


class Terminated(Exception):
    """The process was asked to end (SIGTERM) and has written a checkpoint."""


@contextlib.contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM sets a flag instead of ending the process; yields a function that reads it."""
    flag: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: flag.append(number))
    try:
        yield lambda: bool(flag)
    finally:
        signal.signal(signal.SIGTERM, before)

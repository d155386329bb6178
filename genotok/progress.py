"""Progress with rate and time left: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts units of work and shows how fast they go.

    Args:
        label: what is being done, e.g. `score`.
        total: number of units when known, else None (then no percentage and no time left).
        unit: what is counted, e.g. `variants`, `bases`.
        quiet: whether nothing is shown, as in all but the first of several processes.
    """

    def __init__(self, label: str, total: int | None, unit: str, quiet: bool = False):
        self.label, self.total, self.unit, self.quiet = label, total, unit, quiet
        self.done = self.started_at = 0
        self.start = self.last_line = time.monotonic()
        self._bar = self._task = None
        if sys.stderr.isatty() and not quiet:
            self._open_bar()

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
        columns += [
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        ]
        self._bar = Bar(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(self.label, total=self.total, rate="", note="")
        self._bar.start()

    def resume_at(self, done: int) -> None:
        """Begin at `done` units that an earlier run finished; they do not count towards the rate."""
        self.done = self.started_at = done

    def advance(self, units: int = 1, note: str = "") -> None:
        """Add `units` of finished work; `note` is a short text shown behind the numbers."""
        self.done += units
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=self.rate(), note=note)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES and not self.quiet:
            self.last_line = time.monotonic()
            self._print_line(note)

    def rate(self) -> str:
        """Units a second since the start, as text for people."""
        return f"{_short(self._per_second())} {self.unit}/s"

    def _per_second(self) -> float:
        return (self.done - self.started_at) / max(time.monotonic() - self.start, 1e-9)

    def _print_line(self, note: str) -> None:
        parts = [f"{self.label}: {_short(self.done)}"]
        if self.total:
            parts[0] += f" of {_short(self.total)} {self.unit} ({self.done / self.total:.0%})"
            left = (self.total - self.done) / max(self._per_second(), 1e-9)
            parts += [self.rate(), f"{_clock(left)} left"]
        else:
            parts[0] += f" {self.unit}"
            parts += [self.rate()]
        print(", ".join(parts + ([note] if note else [])), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Stop the bar, or print the last line."""
        if self._bar is not None:
            self._bar.stop()
        if self._bar is not None or self.quiet:
            return
        took = _clock(time.monotonic() - self.start)
        done = f"{_short(self.done)} {self.unit}"
        print(f"{self.label}: {done} in {took}, {self.rate()}", file=sys.stderr, flush=True)


@contextmanager
def progress(label: str, total: int | None, unit: str, quiet: bool = False) -> Iterator[Progress]:
    """Show progress for the length of a block; see `Progress`. With `quiet` it is only counted."""
    shown = Progress(label, total, unit, quiet)
    try:
        yield shown
    finally:
        shown.close()


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.2f}{letter}"
    return f"{number:.0f}" if number == int(number) or number >= 100 else f"{number:.1f}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(min(seconds, 359999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

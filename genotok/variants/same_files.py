"""Outputs that would take the place of an input, or of one another."""

import os
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from genotok.errors import InputError


def refuse_same_files(inputs: Iterable[str | Path | None], outputs: Iterable[str | Path | None]) -> None:
    """Refuse an output that is an input or another output, also by way of a symbolic or a hard link.

    Args:
        inputs: files that are read; `-` and None do not count.
        outputs: files that are written.

    Raises:
        InputError: names the file.
    """
    read, written = (
        [Path(path) for path in paths if path and str(path) != "-"] for paths in (inputs, outputs)
    )
    pairs = [*product(read, written), *((a, b) for i, b in enumerate(written) for a in written[:i])]
    for one, other in pairs:
        if _same(one, other):
            raise InputError(f"{other}: is named twice among input and outputs; give each a file of its own")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve() or os.path.samefile(one, other)
    except (OSError, RuntimeError):  # absent, a circle of links
        return False

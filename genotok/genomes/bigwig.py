"""Writing bigWig files (Kent et al. 2010, https://doi.org/10.1093/bioinformatics/btq351)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig

from genotok.errors import InputError


class BigWig:
    """One bigWig file on its way."""

    def __init__(self, file: Any):
        self.file, self.count = file, 0

    def add(self, contig: str, starts: np.ndarray, values: np.ndarray) -> None:
        """Add (N,) values at ascending positions; NaN is left out."""
        there = ~np.isnan(values)
        if there.any():
            self.file.addEntries(contig, starts[there], values=values[there], span=1)
            self.count += int(there.sum())


@contextmanager
def open_bigwig(path: Path, lengths: list[tuple[str, int]]) -> Iterator[BigWig]:
    """Write a bigWig file.

    Args:
        path: the file.
        lengths: contigs and their lengths, in the order in which values will come.

    Raises:
        InputError: it cannot be written.
    """
    path.touch()  # pyBigWig ends the process where it cannot create a file
    file = pyBigWig.open(str(path), "w")
    try:
        file.addHeader(lengths)
        track = BigWig(file)
        yield track
        file.close()
        _check(path, track.count)
    except RuntimeError as error:
        raise InputError(
            f"{path.parent}: a bigWig file cannot be written ({error}); is the disk full?"
        ) from error


def _check(path: Path, count: int) -> None:
    """pyBigWig does not say when the disk is full."""
    with pyBigWig.open(str(path)) as file:
        if file.header()["nBasesCovered"] != count:
            raise RuntimeError("it is not whole")

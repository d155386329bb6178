"""The stretches of contigs that BED files of included and excluded intervals leave."""

import sys
from pathlib import Path

import numpy as np

from genotok.errors import InputError
from genotok.genomes.contigs import match_contig
from genotok.genomes.intervals import read_intervals

ENDLESS = np.iinfo(np.int64).max >> 1  # stands for the end of a contig, which is not known beforehand
WHOLE = np.array([[0, ENDLESS]])


class Stretches:
    """Which letters of each contig count, of contigs that come one by one.

    Args:
        include: BED of the intervals that count alone; None where all letters do.
        exclude: BED of intervals that do not count, included or not; None for none.

    Raises:
        InputError: a file is no BED, or holds no intervals; names the line.
    """

    def __init__(self, include: Path | None = None, exclude: Path | None = None):
        self._files = [_BedFile(path) if path else None for path in (include, exclude)]

    def of(self, genome: str, contig: str) -> np.ndarray:
        """(n, 2) int64: starts and ends (0-based, half-open) in order, with a letter at least between two.

        The last may end far behind the contig's end. The contig may be named in the files as `match_contig` allows.

        Raises:
            InputError: a file names a contig that two genomes have.
        """
        if not any(self._files):
            return WHOLE
        include, exclude = self._files
        out = np.empty((0, 2), np.int64)
        if include:
            out = without(include.of(genome, contig))
        if exclude:
            out = np.concatenate([out, exclude.of(genome, contig)])
        return without(union(out))

    def check_length(self, contig: str, length: int) -> None:
        """Refuse intervals behind a contig's end.

        Raises:
            InputError: there is one.
        """
        for file in filter(None, self._files):
            file.check_length(contig, length)

    def check_names(self) -> None:
        """Say which contigs of the files have not come.

        Raises:
            InputError: none of a file's contigs has.
        """
        for file in filter(None, self._files):
            file.check_names()


class _BedFile:
    """The intervals of one file, and which of its contigs have come."""

    def __init__(self, path: Path):
        if not path.name.endswith((".bed", ".bed.gz", ".bed.bgz")):
            raise InputError(
                f"{path}: the name should end in .bed or .bed.gz; write the intervals as BED, with starts from 0"
            )
        self.path, self.intervals = path, read_intervals(path)
        self._genome_of: dict[str, str] = {}
        self._contigs: list[str] = []

    def of(self, genome: str, contig: str) -> np.ndarray:
        name = match_contig(contig, self.intervals)
        if name is None:
            return np.empty((0, 2), np.int64)
        other = self._genome_of.setdefault(name, genome)
        if other != genome:
            raise InputError(
                f"{self.path}: the contig {name} is in both genomes {other} and {genome}; tokenize each with a file "
                "of its own, and put the shards together with `genotok shards merge`"
            )
        self._contigs.append(contig)
        return union(self.intervals[name])

    def check_length(self, contig: str, length: int) -> None:
        name = match_contig(contig, self.intervals)
        behind = self.intervals[name][self.intervals[name][:, 1] > length] if name else ()
        if len(behind):
            start, end = behind[0].tolist()
            raise InputError(
                f"{self.path}: the interval {start + 1}-{end} of {name} lies behind the contig's end, which has "
                f"{length:,} letters here; is the file of another assembly?"
            )

    def check_names(self) -> None:
        unknown = [name for name in self.intervals if name not in self._genome_of]
        names = ", ".join(unknown[:5]) + " ..." * (len(unknown) > 5)
        if len(unknown) == len(self.intervals):
            raise InputError(f"{self.path}: none of its contigs ({names}) is in the genomes")
        if unknown:
            print(
                f"{self.path}: {len(unknown)} of its contigs are not in the genomes: {names}", file=sys.stderr
            )


def union(intervals: np.ndarray) -> np.ndarray:
    """(m, 2) int64: the letters that any of (n, 2) intervals holds, in order; those that touch are one."""
    intervals = intervals[intervals[:, 0] < intervals[:, 1]]
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reached = np.maximum.accumulate(intervals[:, 1])
    begins = np.append(True, intervals[1:, 0] > reached[:-1])[: len(intervals)]
    ends = np.append(begins[1:], True)[: len(intervals)]
    return np.stack([intervals[begins, 0], reached[ends]], axis=1)


def without(intervals: np.ndarray) -> np.ndarray:
    """(m, 2) int64: the letters that no interval of a `union` holds, to an end that stands for the contig's."""
    edges = np.concatenate([[0], intervals.reshape(-1), [ENDLESS]]).reshape(-1, 2)
    return edges[edges[:, 0] < edges[:, 1]]

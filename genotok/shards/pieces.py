"""Windows of another length than the shards hold: cut from them, or joined of those that follow on a contig."""

import numpy as np

from genotok.errors import InputError
from genotok.shards.reader import ShardDataset


class Pieces:
    """The letters of shards in pieces of a length of one's own.

    Windows that touch or overlap on a contig are one stretch, and each stretch is cut anew: pieces of `length`
    letters, of which neighbours overlap by the same part of their length as windows of the shards do. The last of a
    stretch may be shorter. With the length of the windows the pieces are these.

    Args:
        dataset: the windows.
        length: letters a piece.

    Raises:
        InputError: the windows of a contig do not stand in their order.
    """

    def __init__(self, dataset: ShardDataset, length: int):
        self.dataset, self.length = dataset, length
        contigs, self._starts, lengths = dataset.outline()
        self._ends = self._starts + lengths
        same = contigs[1:] == contigs[:-1]
        if np.any(same & (self._starts[1:] < self._starts[:-1])):
            raise InputError(f"{dataset.folder}: its windows do not stand in the order of their contigs")
        opens = np.concatenate([[True], ~same | (self._starts[1:] > self._ends[:-1])])
        self._first = np.flatnonzero(opens)  # window of each stretch
        self._last = np.concatenate([self._first[1:], [len(opens)]]) - 1
        manifest = dataset.manifest
        self._step = max(1, length * manifest.stride // manifest.window)
        rest = self._ends[self._last] - self._starts[self._first] - length
        self._counts = np.cumsum(1 + np.maximum(0, -(-rest // self._step)))

    def __len__(self) -> int:
        return int(self._counts[-1])

    def _windows_of(self, index: int) -> list[tuple[int, int, int]]:
        """Which letters `[begin, end)` of which windows, one behind the other, make a piece."""
        stretch = int(np.searchsorted(self._counts, index, side="right"))
        number = index - (int(self._counts[stretch - 1]) if stretch else 0)
        first, last = int(self._first[stretch]), int(self._last[stretch])
        starts = self._starts[first : last + 1]
        place = int(starts[0]) + number * self._step
        end, parts = min(place + self.length, int(self._ends[last])), []
        while place < end:
            window = first + int(np.searchsorted(starts, place, side="right")) - 1
            start, upto = int(self._starts[window]), min(end, int(self._ends[window]))
            parts.append((window, place - start, upto - start))
            place = upto
        return parts

    def ids(self, index: int) -> np.ndarray:
        """(L,) uint8 ids of a piece."""
        return np.concatenate([self.dataset.ids(*part) for part in self._windows_of(index)])

    def soft_masked(self, index: int) -> np.ndarray:
        """(L,) bool, the soft-masked letters of a piece."""
        return np.concatenate([self.dataset.soft_masked(*part) for part in self._windows_of(index)])

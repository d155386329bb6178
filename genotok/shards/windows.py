"""Cutting a contig that arrives in blocks into windows, in memory that does not grow with it.

A contig is one stretch. Where intervals are included or excluded, its stretches are the runs of letters that are
included and not excluded, and each is cut as if it were a contig of its own: windows begin with its first letter and
every `stride` letters behind it, the last one is shorter where the stretch ends within it, and a window that would
hold only letters that an earlier one holds to the end is left out. So no window holds an excluded letter, and windows
hold every other letter.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, compress, islice

import numpy as np

from genotok.genomes.stretches import ENDLESS, WHOLE
from genotok.tokenizers import LetterTokenizer

_UPPER = np.frombuffer(bytes(range(256)).upper(), np.uint8)
LETTERS_A_RUN = 1 << 20  # overlapping windows repeat their letters, and a run of them is held at once


@dataclass
class Windows:
    """A run of windows of one contig, as they lie in an Arrow list column.

    Attributes:
        starts: (n,) int64, 0-based position of each window's first letter in the contig.
        offsets: (n + 1,) int32 into the flat arrays.
        ids: (letters,) uint8 token ids.
        ambiguous: (letters,) bool, letters that are not one certain nucleotide.
        soft_masked: (letters,) bool, letters in lower case.
        names: what each window is of, where windows of several sequences stand together.
        qualities: (letters,) uint8, Phred qualities; None where the source has none.
        values: of further columns, one a window.
    """

    starts: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray
    ambiguous: np.ndarray
    soft_masked: np.ndarray
    names: list[str] | None = None
    qualities: np.ndarray | None = None
    values: dict[str, list[str | None]] = field(default_factory=dict)

    def chosen(self, kept: np.ndarray) -> "Windows":
        """Those of (n,) bool."""
        if kept.all():
            return self
        lengths = np.diff(self.offsets)
        letters = np.repeat(kept, lengths)
        offsets = np.append(0, np.cumsum(lengths[kept])).astype(np.int32)
        parts = (part[letters] for part in (self.ids, self.ambiguous, self.soft_masked))
        names = None if self.names is None else list(compress(self.names, kept))
        qualities = None if self.qualities is None else self.qualities[letters]
        values = {name: list(compress(cells, kept)) for name, cells in self.values.items()}
        return Windows(self.starts[kept], offsets, *parts, names, qualities, values)


@dataclass
class Letters:
    """A block of a contig: (letters,) `ids` uint8, `ambiguous` bool, `soft_masked` bool."""

    ids: np.ndarray
    ambiguous: np.ndarray
    soft_masked: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class LetterReader:
    """Blocks of letters to ids and masks, each letter once however many windows hold it."""

    def __init__(self, tokenizer: LetterTokenizer):
        upper = tokenizer.table[_UPPER]  # the mask alone carries the case
        self._ids = upper.tobytes()
        self._ambiguous = (~tokenizer.is_nucleotide[upper]).tobytes()
        certain = np.flatnonzero(tokenizer.is_nucleotide).astype(np.uint8)
        self._first, self._count = certain[0], len(certain)
        self._in_a_row = int(certain[-1]) - int(certain[0]) + 1 == len(certain)

    def __call__(self, block: bytes) -> Letters:
        """The letters of a block."""
        ids = np.frombuffer(block.translate(self._ids), np.uint8)
        if self._in_a_row:  # ids below the first wrap round; several times as fast as the table
            ambiguous = ids - self._first >= self._count
        else:
            ambiguous = np.frombuffer(block.translate(self._ambiguous), bool)
        return Letters(ids, ambiguous, np.frombuffer(block, np.uint8) >= ord("a"))


class WindowPlaces:
    """Where the windows of a contig lie that becomes known from its beginning on.

    Args:
        window: letters a window, at least 1.
        stride: letters from one window's start to the next, from 1 to `window`.
        stretches: (n, 2) int64, starts and ends, in order, not empty, with a letter at least between two.
    """

    def __init__(self, window: int, stride: int, stretches: np.ndarray = WHOLE):
        self.window, self.stride = window, stride
        self._starts, self._ends = stretches[:, 0], stretches[:, 1]
        self._stretch = 0  # the first that may have further windows
        self._next: int | None = None  # where its next window begins, once it has one

    def until(self, known: int, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Starts and ends, (n,) int64 each, of further windows that the first `known` letters fix.

        Args:
            known: how many letters of the contig are known.
            last: whether these are all.
        """
        if last:
            begun = np.searchsorted(self._starts, known)
            self._starts, self._ends = self._starts[:begun], np.minimum(self._ends[:begun], known)
        whole = int(np.searchsorted(self._ends, known, side="right"))
        some = slice(self._stretch, whole)
        begins, ends = self._starts[some].copy(), self._ends[some]
        lengths = ends - begins
        counts = np.maximum(-((self.window - lengths) // self.stride), 0) + 1
        if self._next is not None and len(begins):
            begins[0] = self._next
            left = int(ends[0]) - self._next - self.window + self.stride  # letters behind the window before
            counts[0] = max(0, -(-left // self.stride))
        if whole > self._stretch:
            self._stretch, self._next = whole, None
        if whole < len(self._starts):
            begin = int(self._starts[whole]) if self._next is None else self._next
            count = max(0, (known - begin - self.window) // self.stride + 1)
            if count:
                self._next = begin + count * self.stride
            begins, ends, counts = (
                np.append(a, b) for a, b in ((begins, begin), (ends, known), (counts, count))
            )
        ordinals = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = np.repeat(begins, counts) + self.stride * ordinals
        return starts, np.minimum(starts + self.window, np.repeat(ends, counts))

    @property
    def needed(self) -> int:
        """The first letter that further windows may hold."""
        if self._next is not None:
            return self._next
        return int(self._starts[self._stretch]) if self._stretch < len(self._starts) else ENDLESS


def cut_windows(
    blocks: Iterable[Letters], window: int, stride: int, stretches: np.ndarray = WHOLE
) -> Iterator[Windows]:
    """Cut a contig into windows of `window` letters that begin every `stride` letters of each stretch.

    A contig without letters gives none.

    Args:
        blocks: the contig's letters in order, in blocks of any size.
        window: letters a window, at least 1.
        stride: letters from one window's start to the next, from 1 to `window`.
        stretches: (n, 2) int64 of the contig that windows are cut of, see `WindowPlaces`.
    """
    blocks = iter(blocks)
    held = list(islice(blocks, 2))
    if len(held) == 1 and len(held[0]) <= window and stretches is WHOLE:
        yield _alone(held[0])  # a read or an RNA: nothing to work out
        return
    places = WindowPlaces(window, stride, stretches)
    blocks, held = chain(held, blocks), []
    first = known = 0  # places of the first letter held, and behind the last
    for block in blocks:
        held.append(block)
        known += len(block)
        starts, ends = places.until(known)
        if len(starts):
            held = [_joined(held)]
            yield from _runs(held[0], first, starts, ends)
        held, first = _without(held, first, min(places.needed, known))
    starts, ends = places.until(known, last=True)
    if len(starts):
        yield from _runs(_joined(held), first, starts, ends)


def _alone(letters: Letters) -> Windows:
    """A contig that is one window."""
    offsets = np.array([0, len(letters)], np.int32)
    return Windows(np.zeros(1, np.int64), offsets, letters.ids, letters.ambiguous, letters.soft_masked)


def _joined(parts: list[Letters]) -> Letters:
    if len(parts) == 1:
        return parts[0]
    columns = ("ids", "ambiguous", "soft_masked")
    return Letters(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _without(held: list[Letters], first: int, needed: int) -> tuple[list[Letters], int]:
    """Let go of the letters in front of `needed`."""
    while held and first + len(held[0]) <= needed:
        first += len(held[0])
        held = held[1:]
    if held and first < needed:
        part, cut = held[0], needed - first
        held = [Letters(part.ids[cut:], part.ambiguous[cut:], part.soft_masked[cut:]), *held[1:]]
        first = needed
    return held, first


def _runs(letters: Letters, first: int, starts: np.ndarray, ends: np.ndarray) -> Iterator[Windows]:
    """Windows in runs of bounded size."""
    total = np.append(0, np.cumsum(ends - starts))
    begin = 0
    while begin < len(starts):
        end = int(np.searchsorted(total, total[begin] + LETTERS_A_RUN, side="right")) - 1
        run = slice(begin, max(end, begin + 1))
        begin = run.stop
        at, to = starts[run] - first, ends[run] - first
        offsets = (total[run.start : run.stop + 1] - total[run.start]).astype(np.int32)
        columns = (letters.ids, letters.ambiguous, letters.soft_masked)
        yield Windows(starts[run], offsets, *(_gathered(column, at, to) for column in columns))


def _gathered(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The values of windows, one behind the other."""
    if (starts[1:] == ends[:-1]).all():
        return values[starts[0] : ends[-1]]
    return np.concatenate(
        [values[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    )

"""Windows of many single-nucleotide variants at once: columns of records in, arrays of letters out.

Everything that is not plain is left to `genotok.variants.judge`, whose windows these are.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from genotok.tokenizers.base import nucleotide_table
from genotok.variants.alleles import reverse_complement
from genotok.variants.judge import Judge
from genotok.variants.letters import ForwardStrand
from genotok.variants.vcf_input import Record

_APART = 1 << 13  # letters between variants that are not fetched for the sake of one fetch
_SPAN = 1 << 20  # letters fetched at once

_SPELLED = nucleotide_table("ACGT", b"ACGT", ambiguous=0, unknown=0)


class SnvWindows(NamedTuple):
    """The plain variants among some records.

    Attributes:
        chosen: (n,) int64, ascending: which records they are.
        letters: (n, strands, 2, window) uint8: the windows, cut at the horizon, with REF and with ALT on each strand.
        shared: how many letters both windows have in front of the variant.
    """

    chosen: np.ndarray
    letters: np.ndarray
    shared: int


def snv_windows(records: Sequence[Record], judge: Judge) -> SnvWindows:
    """Find the records of one ALT that change one letter of the FASTA to another, a whole window around them."""
    single = [i for i, r in enumerate(records) if len(r.columns[3]) == 1 == len(r.columns[4])]
    places: dict[bytes, list[int]] = defaultdict(list)
    for i in single:
        places[records[i].columns[0]].append(i)
    found = [
        part
        for indices in places.values()
        if (contig := judge.contig(records[indices[0]].contig))
        for part in _on_contig(records, np.array(indices), contig, judge)
    ]
    shared = judge.window // 2
    if not found:
        empty = np.empty((0, 1 + judge.both_strands, 2, _window(judge)), np.uint8)
        return SnvWindows(np.empty(0, np.int64), empty, shared)
    chosen = np.concatenate([indices for indices, _ in found])
    order = np.argsort(chosen)
    return SnvWindows(chosen[order], np.concatenate([letters for _, letters in found])[order], shared)


def _on_contig(
    records: Sequence[Record], indices: np.ndarray, contig: ForwardStrand, judge: Judge
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The plain variants among `indices`, in groups of neighbours."""
    columns = [records[i].columns for i in indices]
    start = np.array([_small(row[1]) for row in columns]) - 1
    ref, alt = (_SPELLED[np.frombuffer(b"".join(row[i] for row in columns), np.uint8)] for i in (3, 4))
    left = judge.window // 2
    right = _window(judge) - left
    # The window of the reverse strand ends `left` letters behind the variant, and begins `right - 1` in front.
    first = np.minimum(start - left, start + 1 - right) if judge.both_strands else start - left
    last = np.maximum(start + right, start + 1 + left) if judge.both_strands else start + right
    plain = (ref > 0) & (alt > 0) & (ref != alt) & (first >= 0) & (last <= contig.length)
    rows = np.flatnonzero(plain)
    if not len(rows):
        return []
    rows = rows[np.argsort(start[rows], kind="stable")]
    apart = np.diff(start[rows]) > _APART + judge.window
    apart |= np.diff(start[rows] // _SPAN) > 0
    found = []
    for group in np.split(rows, np.flatnonzero(apart) + 1):
        begin = int(first[group[0]])
        letters = contig.fetch(begin, int(last[group].max()))
        kept = np.frombuffer(letters, np.uint8)[start[group] - begin] == ref[group]
        group = group[kept]
        if len(group):
            found.append((indices[group], _cut(letters, start[group] - begin, alt[group], judge)))
    return found


def _window(judge: Judge) -> int:
    """Letters of a window, up to the horizon."""
    if judge.horizon is None:
        return judge.window
    return min(judge.window, judge.window // 2 + 1 + judge.horizon)


def _small(position: bytes) -> int:
    """POS as a number that numpy holds; what is larger lies outside every contig."""
    return int(position) if len(position) < 16 else 0


def _cut(letters: bytes, place: np.ndarray, alt: np.ndarray, judge: Judge) -> np.ndarray:
    """(n, strands, 2, window): the windows around places in a stretch of letters."""
    window, left = _window(judge), judge.window // 2
    cut = np.empty((len(place), 1 + judge.both_strands, 2, window), np.uint8)
    strands = [(letters, place, alt)]
    if judge.both_strands:
        opposite = np.frombuffer(reverse_complement(alt.tobytes()), np.uint8)[::-1]
        strands.append((reverse_complement(letters), len(letters) - 1 - place, opposite))
    for strand, (stretch, middle, change) in enumerate(strands):
        windows = sliding_window_view(np.frombuffer(stretch, np.uint8), window)[middle - left]
        cut[:, strand, 0] = windows
        windows[:, left] = change
        cut[:, strand, 1] = windows
    return cut

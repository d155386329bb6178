"""Windows of many single-nucleotide variants at once: columns of records in, arrays of letters out.

Everything that is not plain is left to `genotok.variants.judge`, whose windows these are.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from genotok.genomes.alphabets import reverse_complement
from genotok.tokenizers.base import nucleotide_table
from genotok.variants.judge import Judge
from genotok.variants.letters import ForwardStrand
from genotok.variants.vcf_input import Record

_APART = 1 << 13  # letters between variants that are not fetched for the sake of one fetch
_SPAN = 1 << 20  # letters fetched at once
_REF, _ALT = 3, 4
_MOST_ALTS = 3

_SPELLED = nucleotide_table("ACGT", b"ACGT", ambiguous=0, unknown=0)


class SnvWindows(NamedTuple):
    """The plain variants among some records: those whose ALT alleles all change one letter of the FASTA to another.

    Attributes:
        chosen: (n,) int64, ascending: which records they are.
        alleles: (n,) int64: how many ALT alleles each has.
        stretches: letters of the FASTA, and (sites in it,) where in them its sites lie; the sites of all stretches
            are numbered one behind the other.
        window: letters of a window, up to the horizon.
        strands: how many.
        site: (all alleles,) int64: the site of each allele, record by record.
        alt: (all alleles, strands) uint8: its letter on each strand.
        shared: how many letters windows have in front of the variant.
    """

    chosen: np.ndarray
    alleles: np.ndarray
    stretches: list[tuple[bytes, np.ndarray]]
    window: int
    strands: int
    site: np.ndarray
    alt: np.ndarray
    shared: int

    def cut(self, ids: bytes | None = None) -> np.ndarray:
        """(sites, strands, window) uint8: the window with REF around each site on each strand.

        Args:
            ids: for each byte what is to stand in its place, which is looked up once for each letter of the FASTA;
                None for the letters themselves.
        """
        sites = sum(len(places) for _, places in self.stretches)
        cut = np.empty((sites, self.strands, self.window), np.uint8)
        first = 0
        for letters, places in self.stretches:
            strands = [(letters, places), (reverse_complement(letters), len(letters) - 1 - places)]
            for strand, (stretch, middle) in enumerate(strands[: self.strands]):
                stretch = np.frombuffer(stretch.translate(ids) if ids else stretch, np.uint8)
                windows = sliding_window_view(stretch, self.window)
                cut[first : first + len(places), strand] = windows[middle - self.shared]
            first += len(places)
        return cut


def snv_windows(records: Sequence[Record], judge: Judge) -> SnvWindows:
    """Find the plain variants with a whole window around them."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        columns = record.columns
        alt = columns[_ALT]
        if len(columns[_REF]) == 1 and (len(alt) == 1 or _is_list_of_letters(alt)):
            places[columns[0]].append(i)
    found = [
        part
        for indices in places.values()
        if (contig := judge.contig(records[indices[0]].contig))
        for part in _on_contig(records, np.array(indices), contig, judge)
    ]
    shared, strands = judge.window // 2, 1 + judge.both_strands
    if not found:
        none = np.empty(0, np.int64)
        alt = np.empty((0, strands), np.uint8)
        return SnvWindows(none, none, [], _window(judge), strands, none, alt, shared)
    chosen = np.concatenate([part.chosen for part in found])
    alt = np.concatenate([part.alt for part in found])
    before = np.cumsum([0, *(len(part.places) for part in found)])
    site = np.concatenate([part.site + first for part, first in zip(found, before, strict=False)])
    order = np.argsort(chosen, kind="stable")
    alleles = np.count_nonzero(alt[order], 1)
    kept = alt[order] > 0
    of_allele = np.repeat(site[order], alleles)
    letters_of_alts = alt[order][kept]
    on_strands = [letters_of_alts]
    if judge.both_strands:
        opposite = reverse_complement(letters_of_alts.tobytes())
        on_strands.append(np.frombuffer(opposite, np.uint8)[::-1])
    stretches = [(part.letters, part.places) for part in found]
    alt = np.stack(on_strands, 1)
    return SnvWindows(chosen[order], alleles, stretches, _window(judge), strands, of_allele, alt, shared)


class _Group(NamedTuple):
    """Neighbours: which records, letters around, where sites lie, the site of each, and (n, 3) ALT, 0 for none."""

    chosen: np.ndarray
    letters: bytes
    places: np.ndarray
    site: np.ndarray
    alt: np.ndarray


def _is_list_of_letters(alt: bytes) -> bool:
    """Whether a column ALT holds two or three alleles of one byte."""
    return len(alt) in (3, 5) and not alt[1::2].strip(b",") and b"," not in alt[::2]


def _on_contig(
    records: Sequence[Record], indices: np.ndarray, contig: ForwardStrand, judge: Judge
) -> list[_Group]:
    """The plain variants among `indices`, in groups of neighbours."""
    columns = [records[i].columns for i in indices]
    start = np.array([_small(row[1]) for row in columns]) - 1
    ref = _SPELLED[np.frombuffer(b"".join([row[_REF] for row in columns]), np.uint8)]
    written = np.frombuffer(
        b"".join([row[_ALT].ljust(2 * _MOST_ALTS - 1, b",") for row in columns]), np.uint8
    )
    written = written.reshape(-1, 2 * _MOST_ALTS - 1)[:, ::2]
    alt = _SPELLED[written]
    left = judge.window // 2
    right = _window(judge) - left
    # The window of the reverse strand ends `left` letters behind the variant, and begins `right - 1` in front.
    first = np.minimum(start - left, start + 1 - right) if judge.both_strands else start - left
    last = np.maximum(start + right, start + 1 + left) if judge.both_strands else start + right
    spelled = ((alt > 0) & (alt != ref[:, None])) | (written == ord(","))
    plain = (ref > 0) & (alt[:, 0] > 0) & spelled.all(1) & (first >= 0) & (last <= contig.length)
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
            places, site = np.unique(start[group] - begin, return_inverse=True)
            found.append(_Group(indices[group], letters, places, site.reshape(-1), alt[group]))
    return found


def _window(judge: Judge) -> int:
    """Letters of a window, up to the horizon."""
    if judge.horizon is None:
        return judge.window
    return min(judge.window, judge.window // 2 + 1 + judge.horizon)


def _small(position: bytes) -> int:
    """POS as a number that numpy holds; what is larger lies outside every contig."""
    return int(position) if len(position) < 16 else 0

"""Saturation mutagenesis: every single-nucleotide variant and every deletion of one base of regions, as a VCF.

Each base that is A, C, G or T gives one record with its three substitutions. A deletion has a record of its own,
with the base in front as VCF demands (at the start of a contig, the base behind). Deleting any base of a run of
equal letters makes the same sequence: there is one record for each run, of the run's first base within the
region. Left out are ambiguous letters, the deletion of a run whose anchor is ambiguous, and that of a contig's
only base, which VCF cannot write.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.regions import Region, merge_regions, parse_region, read_bed
from genotok.variants.letters import ForwardStrand, ReferenceLetters
from genotok.variants.vcf_input import VcfInput

_BLOCK = 1 << 14  # bases at a time
_SUBSTITUTIONS = {65: "C,G,T", 67: "A,G,T", 71: "A,C,T", 84: "A,C,G"}
_IS_CERTAIN = np.isin(np.arange(256), list(b"ACGT"))


class Saturation:
    """All variants of one base in some regions, in the place of a VCF.

    Args:
        regions: merged, in the order of the FASTA's contigs, as `find_regions` gives them.
        deletions: whether bases are deleted as well.
    """

    def __init__(self, regions: Sequence[Region], deletions: bool = True):
        self.regions, self.deletions = regions, deletions

    def open(self, reference: Reference) -> VcfInput:
        """The variants as records; no more than a block of the reference is in memory."""
        return VcfInput("the regions", (line + b"\n" for line in self._lines(ReferenceLetters(reference))))

    def count(self, reference: Reference) -> int:
        """How many records there are."""
        letters = ReferenceLetters(reference)
        return sum(
            int(substituted.sum() + deleted.sum())
            for region in self.regions
            for _, _, substituted, deleted in _blocks(letters.contig(region.contig), region, self.deletions)
        )

    def _lines(self, letters: ReferenceLetters) -> Iterator[bytes]:
        yield b"##fileformat=VCFv4.3"
        for name in dict.fromkeys(region.contig for region in self.regions):
            yield f"##contig=<ID={name},length={letters.contig(name).length}>".encode()
        yield b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
        for region in self.regions:
            yield from _records(letters.contig(region.contig), region, self.deletions)


def find_regions(
    reference: Reference, texts: Iterable[str] = (), bed: str | Path | None = None
) -> list[Region]:
    """Regions as the command line gives them, merged and in the order of the FASTA's contigs.

    Args:
        reference: the FASTA.
        texts: as `genotok.genomes.regions.parse_region` reads them.
        bed: a BED file with more of them.

    Raises:
        InputError: a region is malformed or outside the contigs, or there is none.
    """
    regions = [parse_region(text, reference.contigs) for text in texts]
    if bed is not None:
        regions += read_bed(bed, reference.contigs)
    if not regions:
        raise InputError(f"{bed}: holds no region" if bed is not None else "there is no region to score")
    return merge_regions(regions, reference.contigs)


def _blocks(
    contig: ForwardStrand, region: Region, deletions: bool
) -> Iterator[tuple[int, bytes, np.ndarray, np.ndarray]]:
    """Of each block of a region: where its letters begin, the letters, and which of its bases are varied how.

    The letters begin one base in front of the block, or with the letter `.` there at the start of a contig, and end
    one base behind it, where there is one. Both arrays are (bases of the block,) bool: whether a base is
    substituted, and whether it is deleted.
    """
    for start in range(region.start, region.end, _BLOCK):
        end = min(start + _BLOCK, region.end)
        letters = (b"." if start == 0 else b"") + contig.fetch(start - 1, end + 1)
        codes = np.frombuffer(letters, np.uint8)
        certain = _IS_CERTAIN[codes]
        here, before = slice(1, 1 + end - start), slice(0, end - start)
        deleted = certain[here] & (codes[here] != codes[before])
        anchored = certain[before].copy()
        if start == region.start:
            deleted[0] = certain[1]  # a run that began in front of the region begins for it here
        if start == 0:
            anchored[0] = contig.length > 1 and certain[2]
        yield start - 1, letters, certain[here], deleted & anchored & deletions


def _records(contig: ForwardStrand, region: Region, deletions: bool) -> Iterator[bytes]:
    """The records of a region, by ascending position."""
    rest, name = ".\t.\t.", contig.name
    for before, letters, substituted, deleted in _blocks(contig, region, deletions):
        text = letters.decode("ascii")
        for i in np.flatnonzero(substituted | deleted).tolist():
            position = before + i + 1  # of the letter in front, 1-based
            ref = text[i + 1]
            substitution = (
                f"{name}\t{position + 1}\t.\t{ref}\t{_SUBSTITUTIONS[letters[i + 1]]}\t{rest}".encode()
            )
            if not deleted[i]:
                yield substitution
            elif position:
                yield f"{name}\t{position}\t.\t{text[i]}{ref}\t{text[i]}\t{rest}".encode()
                yield substitution
            else:
                yield substitution
                yield f"{name}\t1\t.\t{ref}{text[i + 2]}\t{text[i + 2]}\t{rest}".encode()

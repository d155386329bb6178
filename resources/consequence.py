"""What a single-nucleotide change does to the proteins of a small genome without introns."""

from pathlib import Path
from typing import NamedTuple

BASES = "TCAG"
AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODONS = [first + second + third for first in BASES for second in BASES for third in BASES]
GENETIC_CODE = dict(zip(CODONS, AMINO_ACIDS, strict=True))  # NCBI translation table 1

SEVEREST_FIRST = ("nonsense", "start_lost", "stop_lost", "missense", "synonymous", "noncoding")


class CodingSequence(NamedTuple):
    """One reading frame on the forward strand: 0-based, half-open, its first codon at `start`."""

    gene: str
    start: int
    end: int


def read_coding_sequences(genbank: Path) -> list[CodingSequence]:
    """The CDS features of a one-record GenBank file, all of them plain forward intervals.

    A protein that is read across a frameshift stands there as one CDS before and one after the shift.

    Raises:
        ValueError: a CDS is joined, complemented, or not whole codons long.
    """
    found: list[CodingSequence] = []
    place = None
    for line in genbank.read_text().splitlines():
        key, value = line[5:21].strip(), line[21:].strip()
        if line.startswith("ORIGIN"):
            break
        if line.startswith("     ") and key:
            place = value if key == "CDS" else None
        elif place and value.startswith('/gene="'):
            first, last = (int(number) for number in place.split(".."))
            if (last - first + 1) % 3:
                raise ValueError(f"{genbank}: CDS {place} is not whole codons long")
            found.append(CodingSequence(value.split('"')[1], first - 1, last))
            place = None
    return found


def genes_at(position: int, coding: list[CodingSequence]) -> list[str]:
    """The genes whose reading frames hold the 0-based position, in the order of the file."""
    return [cds.gene for cds in coding if cds.start <= position < cds.end]


def consequence(genome: str, position: int, alt: str, coding: list[CodingSequence]) -> str:
    """The severest consequence of putting `alt` at the 0-based position, over all reading frames there."""
    found = [_in_frame(genome, position, alt, cds) for cds in coding if cds.start <= position < cds.end]
    return min(found, key=SEVEREST_FIRST.index, default="noncoding")


def _in_frame(genome: str, position: int, alt: str, cds: CodingSequence) -> str:
    in_codon = (position - cds.start) % 3
    codon_start = position - in_codon
    before = genome[codon_start : codon_start + 3]
    after = before[:in_codon] + alt + before[in_codon + 1 :]
    if codon_start == cds.start and before == "ATG":  # a frame behind a frameshift has no start codon
        return "start_lost"
    if GENETIC_CODE[before] == GENETIC_CODE[after]:
        return "synonymous"
    if GENETIC_CODE[after] == "*":
        return "nonsense"
    return "stop_lost" if GENETIC_CODE[before] == "*" else "missense"

"""Regions of a FASTA as sequences of their own, each read on its strand."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from genotok.errors import InputError
from genotok.genomes.alphabets import reverse_complement
from genotok.genomes.fasta import Reference
from genotok.genomes.formats import BLOCK
from genotok.genomes.intervals import GFF_COLUMNS, bed_line, data_lines, interval_suffix

STRANDS = ("+", "-", ".", "?")


@dataclass
class StrandedRegion:
    """A region, in one part or in several.

    Attributes:
        contig: as the FASTA has it.
        parts: (start, end), 0-based and half-open, ascending.
        strand: `+` or `-`; `.` where the file leaves it open, which is read as `+`.
        name: of BED the fourth column, of GFF3 the ID; empty where there is none.
    """

    contig: str
    parts: list[tuple[int, int]] = field(default_factory=list)
    strand: str = "+"
    name: str = ""

    @property
    def label(self) -> str:
        """`CONTIG:START-END(STRAND)`, 1-based and closed, from the first part's begin to the last one's end."""
        return f"{self.contig}:{self.parts[0][0] + 1}-{self.parts[-1][1]}({self.strand})"

    def letters(self, genome: Reference) -> Iterator[bytes]:
        """The region's letters in the direction of reading, in blocks, in the case of the file."""
        backward = self.strand == "-"
        for start, end in reversed(self.parts) if backward else self.parts:
            places = range(start, end, BLOCK)
            for begin in reversed(places) if backward else places:
                block = genome.fetch(self.contig, begin, min(begin + BLOCK, end), keep_case=True).encode()
                yield reverse_complement(block) if backward else block


def read_stranded_regions(
    path: str | Path, genome: Reference, features: Collection[str] = ()
) -> list[StrandedRegion]:
    """Read regions of BED, GFF3 or GTF that lie on a genome, in the order in which they begin in the file.

    Lines of GFF3 of one kind that share an ID are one region in several parts, as the specification has it: so a
    coding sequence comes without its introns. Every other line is a region.

    Args:
        path: `.bed` (strand in column 6), `.gff`, `.gff3` or `.gtf`, also with `.gz` or `.bgz` behind it.
        genome: the FASTA; contigs may be named in another way, see `match_contig`.
        features: of GFF3 and GTF the kinds (column 3) that count; all of them when empty.

    Raises:
        InputError: the file cannot be read, a line is no region of the genome, a kind of feature is not there, or
            there is no region; names the file and the line.
    """
    path = Path(path)
    kind = interval_suffix(path, features)
    found: dict[object, StrandedRegion] = {}
    kinds: set[str] = set()
    for number, line in data_lines(path, "a file of intervals"):
        place = f"{path}: line {number}"
        key, feature, region = (_bed if kind == ".bed" else _gff)(line, place)
        kinds.add(feature)
        if features and feature not in features:
            continue
        _put_on(region, genome, place)
        one = found.setdefault((feature, key) if key and kind != ".gtf" else number, region)
        if one is not region:
            if (one.contig, one.strand) != (region.contig, region.strand):
                raise InputError(f"{place}: {key} lies on two contigs or strands")
            one.parts.append(region.parts[0])
    for feature in features:
        if feature not in kinds:
            known = ", ".join(sorted(kinds)) or "no features at all"
            raise InputError(f"{path}: there is no feature {feature!r}; there are {known}")
    regions = [region for region in found.values() if any(start < end for start, end in region.parts)]
    if not regions:
        raise InputError(f"{path}: holds no regions")
    for region in regions:
        region.parts.sort()
    return regions


def _put_on(region: StrandedRegion, genome: Reference, place: str) -> None:
    """Give a region the contig's name in the genome, and refuse what does not lie on it."""
    contig = genome.match(region.contig)
    if contig is None:
        known = ", ".join(list(genome.contigs)[:5]) + " ..." * (len(genome.contigs) > 5)
        raise InputError(f"{place}: there is no contig {region.contig} in {genome.path}; there are {known}")
    if region.parts[0][1] > genome.contigs[contig]:
        raise InputError(f"{place}: ends behind {contig}, which has {genome.contigs[contig]:,} letters")
    region.contig = contig


def _bed(line: str, place: str) -> tuple[str, str, StrandedRegion]:
    try:
        contig, _, start, end = bed_line(line)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error
    columns = line.split("\t") if "\t" in line else line.split()
    name, strand = ([*columns, "", "", ""][3], columns[5] if len(columns) > 5 else ".")
    return "", "", StrandedRegion(contig, [(start, end)], _strand(strand, place), name)


def _gff(line: str, place: str) -> tuple[str, str, StrandedRegion]:
    columns = line.split("\t")
    if len(columns) != GFF_COLUMNS:
        raise InputError(
            f"{place}: has {len(columns)} columns, and a line of GFF has nine, with tabs between them"
        )
    start, end = columns[3], columns[4]
    if not (start.isdecimal() and end.isdecimal() and 1 <= int(start) <= int(end)):
        raise InputError(
            f"{place}: {start} to {end} is no interval; GFF counts from 1, and both ends belong to it"
        )
    attributes = dict(word.strip().split("=", 1) for word in columns[8].split(";") if "=" in word)
    name = unquote(attributes.get("ID", ""))
    region = StrandedRegion(
        unquote(columns[0]), [(int(start) - 1, int(end))], _strand(columns[6], place), name
    )
    return name, columns[2], region


def _strand(text: str, place: str) -> str:
    if text not in STRANDS:
        raise InputError(f"{place}: the strand {text!r} should be +, - or .")
    return "." if text == "?" else text

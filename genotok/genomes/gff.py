"""Transcripts of a GFF3: their exons, and the coding parts with phase (Sequence Ontology, GFF3 1.26)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from genotok.errors import InputError
from genotok.genomes.intervals import GFF_COLUMNS, data_lines

SHORTEST_INTRON = 10
EXONIC = frozenset(["exon", "CDS", "five_prime_UTR", "three_prime_UTR", "UTR"])
_OF_GENES = ("gene", "gene_name")  # attributes that hold the gene's name, whatever the feature
_OF_FEATURES = (*_OF_GENES, "Name", "locus_tag")


class CodingPart(NamedTuple):
    """A stretch of coding sequence, 0-based and half-open.

    `phase` is the number of bases at its 5' end that belong to a codon which began before; None where the file
    leaves it open.
    """

    start: int
    end: int
    phase: int | None


class OnExons:
    """Something that reaches from its first exon to its last.

    Attributes:
        exons: (start, end), 0-based and half-open, ascending.
    """

    exons: Sequence[tuple[int, int]]

    @property
    def start(self) -> int:
        """The first base, 0-based."""
        return self.exons[0][0]

    @property
    def end(self) -> int:
        """Behind the last base."""
        return self.exons[-1][1]


@dataclass
class Transcript(OnExons):
    """What hangs on one parent of a GFF3.

    Attributes:
        name: the parent's ID.
        contig: as in the file.
        forward: whether it is read on the forward strand.
        exons: (start, end), 0-based and half-open, ascending, overlapping and touching ones joined. Coding parts
            and untranslated regions count as exons where the file has no others.
        coding: in the direction of reading; none for a transcript that makes no protein.
        genetic_code: number of the NCBI translation table.
        gene: what people call its gene: the attribute `gene` or `gene_name` of its parts, else a name of what the
            parent hangs on, outermost first, else the parent's ID.
    """

    name: str
    contig: str
    forward: bool
    exons: list[tuple[int, int]] = field(default_factory=list)
    coding: list[CodingPart] = field(default_factory=list)
    genetic_code: int = 1
    gene: str = ""

    @property
    def introns(self) -> list[tuple[int, int]]:
        """(start, end) between exons, 0-based and half-open; shorter gaps are shifts of the reading frame."""
        gaps = [(before[1], behind[0]) for before, behind in pairwise(self.exons)]
        return [(start, end) for start, end in gaps if end - start >= SHORTEST_INTRON]


def read_transcripts(gff: Path) -> list[Transcript]:
    """Read the transcripts of a GFF3, plain or gzip, in the order in which they begin in the file.

    Features of the types exon, CDS and UTR are gathered by `Parent`, each parent being a transcript; a CDS without
    one, by its own ID. All else is passed over.

    Raises:
        InputError: the file cannot be read, a line is not GFF3, or a transcript lies on two contigs or strands.
    """
    found: dict[str, Transcript] = {}
    above: dict[str, tuple[str, str]] = {}
    for number, line in data_lines(gff, "GFF3"):
        columns = line.split("\t")
        if len(columns) != GFF_COLUMNS:
            raise InputError(
                f"{gff}: line {number}: has {len(columns)} columns and must have {GFF_COLUMNS}; give a GFF3"
            )
        if columns[2] in EXONIC:
            _add(found, columns, f"{gff}: line {number}")
        elif "ID=" in columns[8]:
            attributes = _attributes(columns[8])
            above[attributes.get("ID", "")] = _first(attributes, _OF_FEATURES), attributes.get("Parent", "")
    for owner, transcript in found.items():
        transcript.gene = transcript.gene or _name_above(owner, above) or transcript.name
        transcript.exons = _joined(transcript.exons)
        transcript.coding.sort(key=lambda part: part.start if transcript.forward else -part.end)
    return list(found.values())


def _attributes(column: str) -> dict[str, str]:
    return dict(word.strip().split("=", 1) for word in column.split(";") if "=" in word)


def _first(attributes: dict[str, str], keys: tuple[str, ...]) -> str:
    """The first of some attributes that is there, or nothing."""
    return unquote(next((attributes[key] for key in keys if attributes.get(key)), ""))


def _name_above(owner: str, above: dict[str, tuple[str, str]]) -> str:
    """The outermost name of the features that a parent is or hangs on, or nothing."""
    name, seen = "", set()
    while owner in above and owner not in seen:
        seen.add(owner)
        own, owner = above[owner]
        name = own or name
    return name


def _add(found: dict[str, Transcript], columns: list[str], place: str) -> None:
    """Add a feature to the transcripts that it belongs to."""
    attributes = _attributes(columns[8])
    if columns[6] not in "+-" or not (columns[3].isdigit() and columns[4].isdigit()):
        raise InputError(f"{place}: a {columns[2]} has a start, an end, and the strand + or -")
    start, end = int(columns[3]) - 1, int(columns[4])
    if not 0 <= start < end:
        raise InputError(f"{place}: begins at {columns[3]} and ends at {columns[4]}")
    owners = attributes.get("Parent") or attributes.get("ID")
    if not owners:
        raise InputError(f"{place}: this {columns[2]} has neither Parent nor ID")
    for owner in owners.split(","):
        contig, forward = unquote(columns[0]), columns[6] == "+"
        transcript = found.setdefault(owner, Transcript(unquote(owner), contig, forward))
        if (transcript.contig, transcript.forward) != (contig, forward):
            raise InputError(f"{place}: {owner} lies on two contigs or strands")
        transcript.exons.append((start, end))
        keys = _OF_GENES if attributes.get("Parent") else _OF_FEATURES
        transcript.gene = transcript.gene or _first(attributes, keys)
        if columns[2] == "CDS":
            phase = int(columns[7]) if columns[7] in ("0", "1", "2") else None
            transcript.coding.append(CodingPart(start, end, phase))
            code = attributes.get("transl_table", "1")
            transcript.genetic_code = int(code) if code.isdigit() else 1


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in ascending order, those that overlap or touch joined."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined

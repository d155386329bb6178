"""Genes of a region as rows of boxes under a picture, and as columns of a table with one row a base."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from genotok.evaluation.consequences import GENETIC_CODES
from genotok.genomes.alphabets import BASE_COMPLEMENT
from genotok.genomes.codons import Codon, codons
from genotok.genomes.fasta import Reference
from genotok.genomes.gff import OnExons, Transcript
from genotok.genomes.regions import Region
from genotok.interpret.annotation_masks import Annotation
from genotok.report.style import BLACK, CODON_GREYS, GREEN, GREY, PALE

MOST_ROWS = 6
ROW_HEIGHT = 0.27  # inches
LABEL_LETTER = 0.056  # inches, the width of a letter of a label
COLUMNS = ["gene", "strand", "gene_part", "codon_position", "amino_acid"]

Span = tuple[int, int]


@dataclass(frozen=True)
class Gene(OnExons):
    """A transcript as it is drawn; coordinates are 0-based and half-open.

    Attributes:
        name: of the gene.
        forward: whether it is read on the forward strand.
        exons, coding: spans, ascending.
        codons: those that touch the region, in the direction of reading: their number (0 the first), the positions of
            their bases and the letter of their amino acid (`*` a stop, X one that is not certain).
        row: in which it is drawn, 0 the uppermost.
        label: name and strand, and as a rule the place, 1-based and closed.
    """

    name: str
    forward: bool
    exons: tuple[Span, ...]
    coding: tuple[Span, ...]
    codons: tuple[tuple[int, Codon, str], ...] = ()
    row: int = 0
    label: str = ""


def read_genes(gff: Path | Annotation, reference: Reference, region: Region, letter: float) -> list[Gene]:
    """The genes of a region with their codons, of a GFF3 or what was read of one; see `genes_of_region`.

    Raises:
        InputError: the file cannot be read, or lies on none of the contigs.
    """
    annotation = gff if isinstance(gff, Annotation) else Annotation(reference.contigs, gff)
    return genes_of_region(annotation.transcripts.get(region.contig, []), region, letter, reference)


def genes_of_region(
    transcripts: Iterable[Transcript],
    region: Region,
    letter: float,
    reference: Reference | None = None,
    places: bool = True,
) -> list[Gene]:
    """The genes that reach into a region, in rows without overlaps of boxes or labels.

    Transcripts of a gene that look alike within the region are one.

    Args:
        transcripts: those of the region's contig.
        region: what is drawn.
        letter: how many bases a letter of a label is wide.
        reference: the genome; with it the codons are translated, without it there are none.
        places: whether labels say where genes lie.

    Returns:
        The genes by their start, longer ones first.
    """
    seen: dict[tuple, Gene] = {}
    near = [t for t in transcripts if t.start < region.end and region.start < t.end]
    for transcript in sorted(near, key=lambda t: (t.start, -t.end, t.gene, t.name)):
        coding = tuple(sorted((part.start, part.end) for part in transcript.coding))
        label = _label(transcript, places)
        gene = Gene(transcript.gene, transcript.forward, tuple(transcript.exons), coding, label=label)
        if reference is not None:
            gene = replace(gene, codons=_translated(transcript, region, reference))
        looks = gene.name, gene.forward, _clipped(gene.exons, region), gene.codons or _clipped(coding, region)
        seen.setdefault(looks, gene)
    return _in_rows(list(seen.values()), region, letter)


def _label(transcript: Transcript, places: bool) -> str:
    words = [transcript.gene, "▶"] if transcript.forward else ["◀", transcript.gene]
    return " ".join(words + [f"{transcript.start + 1:,}-{transcript.end:,}"] * places)


def _clipped(spans: Sequence[Span], region: Region) -> tuple[Span, ...]:
    inside = ((max(start, region.start), min(end, region.end)) for start, end in spans)
    return tuple((start, end) for start, end in inside if start < end)


def _translated(
    transcript: Transcript, region: Region, reference: Reference
) -> tuple[tuple[int, Codon, str], ...]:
    code, found = GENETIC_CODES.get(transcript.genetic_code, {}), []
    for number, bases in enumerate(codons(transcript.coding, transcript.forward)):
        if any(region.start <= base < region.end for base in bases):
            word = "".join(reference.fetch(region.contig, base, base + 1) for base in bases)
            word = word if transcript.forward else word.translate(BASE_COMPLEMENT)
            found.append((number, bases, code.get(word, "X")))
    return tuple(found)


def _in_rows(genes: Sequence[Gene], region: Region, letter: float) -> list[Gene]:
    """Each gene in the first row that is free where its box and its label lie."""
    taken: list[list[tuple[float, float]]] = []
    placed = []
    for gene in genes:
        left, width = max(gene.start, region.start), letter * (len(gene.label) + 2)
        right = max(min(gene.end, region.end), left + width)
        left = max(min(left, region.end - width), region.start)
        row = next(
            (
                number
                for number, spans in enumerate(taken)
                if all(right <= start or end <= left for start, end in spans)
            ),
            len(taken),
        )
        if row == len(taken):
            taken.append([])
        taken[row].append((left, right))
        placed.append(replace(gene, row=row))
    return placed


def rows_of(genes: Sequence[Gene], most: int = MOST_ROWS) -> int:
    """How many rows are drawn."""
    return min(max((gene.row + 1 for gene in genes), default=0), most)


def draw_genes(
    axes: Axes,
    genes: Sequence[Gene],
    lines: Sequence[Span],
    line: int,
    letter: float,
    most: int = MOST_ROWS,
) -> None:
    """Draw the genes that reach into a line: introns as strokes, exons as thin boxes, coding parts as thick ones.

    Where codons are known, they are told apart by two greys, with their amino acids. Genes beyond the last row are
    counted at the right.

    Args:
        axes: whose x is 0 at the line's first base; the limits of y are set here.
        genes: as `genes_of_region` placed them.
        lines: the spans of all lines of the picture.
        line: which of them this is.
        letter: see `genes_of_region`.
        most: rows that are drawn.
    """
    first, last = lines[line]
    axes.set_ylim(rows_of(genes, most), 0)
    axes.spines[:].set_visible(False)
    axes.set_yticks([])
    here = [gene for gene in genes if gene.start < last and first < gene.end]
    for gene in here:
        if gene.row < most:
            _draw_gene(axes, gene, first, last)
            if _is_labelled(gene, lines, line, letter):
                _draw_label(axes, gene, first, last, letter)
    beyond = sum(gene.row >= most for gene in here)
    if beyond:
        place = {"transform": axes.transAxes, "ha": "right", "va": "top", "size": 6.5, "color": GREY}
        axes.text(1, 0, f"and {beyond} more", **place)


def _is_labelled(gene: Gene, lines: Sequence[Span], line: int, letter: float) -> bool:
    """A gene is labelled on the lines where its label fits into it; if on none, where most of it is."""
    width = letter * len(gene.label)
    pieces = [min(gene.end, end) - max(gene.start, start) for start, end in lines]
    return pieces[line] >= width or (max(pieces) < width and pieces.index(max(pieces)) == line)


def _draw_gene(axes: Axes, gene: Gene, first: int, last: int) -> None:
    middle = gene.row + 0.72
    left, right = max(gene.start, first) - first, min(gene.end, last) - first
    axes.plot([left, right], [middle, middle], color=GREY, linewidth=0.8, zorder=1)
    window = Region("", first, last)
    for spans, height, colour in ((gene.exons, 0.2, PALE), (gene.coding, 0.5, GREEN)):
        if colour == GREEN and gene.codons:
            continue
        bars = [(start - first, end - start) for start, end in _clipped(spans, window)]
        edge = {"facecolor": colour, "edgecolor": GREY, "linewidth": 0.4}
        axes.broken_barh(bars, (middle - height / 2, height), **edge)
    _draw_codons(axes, gene, first, last)
    end = gene.end if gene.forward else gene.start
    if first <= end <= last:
        side = "right" if gene.forward else "left"
        marks = {"right": ">", "left": "<"}
        axes.plot(end - first, middle, marks[side], color=BLACK, markersize=3.5, clip_on=False)


def _draw_codons(axes: Axes, gene: Gene, first: int, last: int) -> None:
    for parity, colour in enumerate(CODON_GREYS):
        bars = []
        for number, bases, letter in gene.codons:
            if number % 2 != parity:
                continue
            places = sorted(base - first for base in bases if first <= base < last)
            for _, run in groupby(enumerate(places), key=lambda item: item[1] - item[0]):
                run = [place for _, place in run]
                bars.append((run[0], len(run)))
            if first <= bases[1] < last:
                centre = {"ha": "center", "va": "center_baseline", "size": 6.5}
                weight = "bold" if letter == "*" else "normal"
                axes.text(bases[1] - first + 0.5, gene.row + 0.7, letter, weight=weight, **centre)
        axes.broken_barh(bars, (gene.row + 0.47, 0.5), color=colour, linewidth=0)


def _draw_label(axes: Axes, gene: Gene, first: int, last: int, letter: float) -> None:
    left = max(gene.start, first) - first
    at_end = left + letter * len(gene.label) > last - first
    place = (last - first, "right") if at_end else (left, "left")
    axes.text(place[0], gene.row + 0.22, gene.label, ha=place[1], va="center", size=6.5, fontstyle="italic")


def base_annotation(genes: Sequence[Gene], region: Region) -> pd.DataFrame:
    """What genes say of each base of a region, as text; several genes are separated by commas.

    Returns:
        One row a base, with `gene`, `strand` (+ or -), `gene_part` (cds, exon or intron), `codon_position` (1 to 3,
        counted as the gene is read; empty outside codons) and `amino_acid`. Columns are empty where no gene is.
    """
    rows: list[dict[tuple, None]] = [{} for _ in range(region.end - region.start)]
    for gene in genes:
        codon_of = {
            base: (str(place + 1), letter)
            for _, bases, letter in gene.codons
            for place, base in enumerate(bases)
        }
        parts = np.full(len(rows), "intron", dtype=object)
        for spans, part in ((gene.exons, "exon"), (gene.coding, "cds")):
            for start, end in _clipped(spans, region):
                parts[start - region.start : end - region.start] = part
        for base in range(max(gene.start, region.start), min(gene.end, region.end)):
            position, letter = codon_of.get(base, ("", ""))
            said = gene.name, "+" if gene.forward else "-", parts[base - region.start], position, letter
            rows[base - region.start][said] = None
    joined = [[",".join(column) for column in zip(*row, strict=True)] or [""] * len(COLUMNS) for row in rows]
    return pd.DataFrame(joined, columns=COLUMNS)

"""`genotok report chunks`: a stretch of sequence with the chunks that the model cuts it into."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.regions import Region, parse_region
from genotok.interpret.annotation_masks import Annotation
from genotok.interpret.chunks import RegionChunks, chunks_of_region
from genotok.report.gene_track import (
    LABEL_LETTER,
    ROW_HEIGHT,
    Gene,
    base_annotation,
    draw_genes,
    read_genes,
    rows_of,
)
from genotok.report.json_files import write_json
from genotok.report.names import CHUNKS_FIGURE, CHUNKS_SUMMARY
from genotok.report.style import (
    BLUE,
    CHUNK_TINTS,
    GREY,
    SKY,
    STAGE_GREYS,
    VERMILLION,
    WIDTH,
    save_figure,
    styled,
)

LONGEST_REGION = 600
BASES_PER_LINE = 50
# Heights and margins in inches.
_LETTERS, _INNER_STAGE, _TRACK, _GAP, _BETWEEN_LINES = 0.19, 0.12, 0.42, 0.09, 0.4
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.88, 0.1, 0.12, 0.42
_LABEL_LETTER = LABEL_LETTER * BASES_PER_LINE / (WIDTH - _LEFT - _RIGHT)  # bases


def report_chunks(
    model_folder: Path,
    fasta: Path,
    region: str,
    out_folder: Path,
    *,
    gff: Path | None = None,
    window: int = 8192,
    context: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
) -> None:
    """Draw the chunks of a region, with the genes below them where an annotation is given.

    Writes `chunks.svg`, `chunks.tsv` (one row a base) and `chunks.json` (the region and its means) into
    `out_folder`.

    Args:
        model_folder: holds config.json and model.safetensors.
        fasta: plain or BGZF.
        region: `CONTIG:START-END`, 1-based and closed, of at most 600 bases.
        out_folder: made where it is missing.
        gff: GFF3 of the genome.
        window: and the rest as for `genotok.interpret.chunks.find_chunks`.

    Raises:
        InputError: a file or the region cannot be read, or the region is too long for a picture.
    """
    with Reference(fasta) as reference:
        wanted = parse_region(region, reference.contigs)
        if wanted.end - wanted.start > LONGEST_REGION:
            raise InputError(
                f"region {region!r}: has {wanted.end - wanted.start:,} bases, and a picture shows at most "
                f"{LONGEST_REGION}; take {wanted.contig}:{wanted.start + 1}-{wanted.start + LONGEST_REGION}"
            )
        genes = None if gff is None else genes_below(gff, reference, wanted)
    settings = {"window": window, "context": context, "device": device, "precision": precision}
    found = chunks_of_region(model_folder, fasta, region, threads=threads, **settings)
    save_figure(*chunk_picture(found, genes), out_folder, CHUNKS_FIGURE)
    write_json(_summary(found, window), out_folder / CHUNKS_SUMMARY)


def genes_below(gff: Path | Annotation, reference: Reference, region: Region) -> list[Gene]:
    """The genes that `chunk_picture` draws of a region, of a GFF3 or what was read of one.

    Raises:
        InputError: the file cannot be read, or lies on none of the contigs.
    """
    return read_genes(gff, reference, region, _LABEL_LETTER)


def _summary(found: RegionChunks, window: int) -> dict[str, Any]:
    known = found.surprisal[~np.isnan(found.surprisal)]
    counts = [len(found.chunks(stage)) for stage in range(len(found.begins))]
    return {
        "region": f"{found.contig}:{found.start + 1:,}-{found.end:,}",
        "window": window,
        "mean_surprisal": float(known.mean()) if len(known) else None,
        "stages": [
            {"stage": stage, "chunks": count, "mean_length": len(found.letters) / count}
            for stage, count in enumerate(counts)
        ],
    }


def chunk_table(found: RegionChunks) -> pd.DataFrame:
    """One row a base: `contig`, `position` (1-based), `base`, `surprisal` in bits, and for each stage
    `boundary_stage<s>` (whether a chunk begins here) and `probability_stage<s>`."""
    columns = {
        "contig": found.contig,
        "position": np.arange(found.start, found.end) + 1,
        "base": list(found.letters),
        "surprisal": found.surprisal,
    }
    for stage, (begins, probability) in enumerate(zip(found.begins, found.probability, strict=True)):
        columns[f"boundary_stage{stage}"] = begins.astype(int)
        columns[f"probability_stage{stage}"] = probability
    return pd.DataFrame(columns)


@styled
def chunk_picture(found: RegionChunks, genes: Sequence[Gene] | None = None) -> tuple[Figure, pd.DataFrame]:
    """The letters on the colours of their chunks, in lines of 50 bases; under each line the genes, the probability of
    a boundary in stage 0 and the surprisal, above it the chunks of the stages within.

    Args:
        found: the chunks of a region.
        genes: those of the region; None where no annotation is known.

    Returns:
        The figure, and `chunk_table`, with the columns of `genotok.report.gene_track.base_annotation` where genes are
        known.
    """
    length, stages, rows = len(found.letters), len(found.begins), rows_of(genes or ())
    letters = _LETTERS + _INNER_STAGE * max(stages - 1, 0)
    tracks = [letters, *[rows * ROW_HEIGHT] * (rows > 0), *[_TRACK] * (stages > 0), _TRACK]
    line_height = sum(tracks) + _GAP * (len(tracks) - 1)
    lines = [(first, min(first + BASES_PER_LINE, length)) for first in range(0, length, BASES_PER_LINE)]
    height = _TOP + len(lines) * line_height + (len(lines) - 1) * _BETWEEN_LINES + _BOTTOM
    figure = Figure(figsize=(WIDTH, height))
    most_bits = max(4.0, np.nanmax(found.surprisal, initial=0))
    for line, (first, last) in enumerate(lines):
        top = height - _TOP - line * (line_height + _BETWEEN_LINES)
        panels = [_add_track(figure, top, tracks, track, last - first) for track in range(len(tracks))]
        _draw_letters(panels[0], found, first, last)
        if rows:
            spans = [(found.start + start, found.start + end) for start, end in lines]
            draw_genes(panels[1], genes, spans, line, _LABEL_LETTER)
        if stages:
            _draw_probability(panels[-2], found, first, last)
        _draw_surprisal(panels[-1], found, first, last, most_bits)
        panels[-1].set_xlabel(f"Position on {found.contig}" if line == len(lines) - 1 else "", labelpad=2)
    table = chunk_table(found)
    if genes is not None:
        table = table.join(base_annotation(genes, Region(found.contig, found.start, found.end)))
    return figure, table


def _add_track(figure: Figure, top: float, tracks: list[float], track: int, bases: int) -> Axes:
    """Axes over some bases, placed by inches from the lower edge of the figure."""
    width, height = figure.get_size_inches()
    bottom = top - sum(tracks[: track + 1]) - _GAP * track
    line_width = (width - _LEFT - _RIGHT) * bases / BASES_PER_LINE
    axes = figure.add_axes((_LEFT / width, bottom / height, line_width / width, tracks[track] / height))
    axes.set_xlim(0, bases)
    axes.set_xticks([])
    return axes


def _draw_letters(axes: Axes, found: RegionChunks, first: int, last: int) -> None:
    stages = len(found.begins)
    axes.set_ylim(0, (_LETTERS + _INNER_STAGE * max(stages - 1, 0)) / _LETTERS)
    axes.spines[:].set_visible(False)
    ticks, labels = [0.5], [f"{found.start + first + 1:,}"]
    for stage in range(stages):
        low = 0 if stage == 0 else 1 + (stage - 1) * _INNER_STAGE / _LETTERS
        height = 1 if stage == 0 else 0.7 * _INNER_STAGE / _LETTERS
        colours = CHUNK_TINTS if stage == 0 else STAGE_GREYS
        for number, (start, end) in enumerate((found.chunks(stage) - found.start).tolist()):
            left, right = max(start, first) - first, min(end, last) - first
            if left < right:
                axes.broken_barh(
                    [(left + 0.03, right - left - 0.06)], (low, height), color=colours[number % 2]
                )
        if stage:
            ticks.append(low + height / 2)
            labels.append(f"stage {stage}")
    for place, letter in enumerate(found.letters[first:last]):
        centre = {"ha": "center", "va": "center_baseline", "family": "DejaVu Sans Mono"}
        axes.text(place + 0.5, 0.47, letter, size=8.5, **centre)
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0, labelsize=7)


def _draw_probability(axes: Axes, found: RegionChunks, first: int, last: int) -> None:
    probability, begins = found.probability[0][first:last], found.begins[0][first:last]
    colours = np.where(begins, BLUE, SKY)
    axes.bar(np.arange(last - first) + 0.5, probability, width=0.8, color=colours)
    axes.axhline(0.5, color=GREY, linestyle="--", linewidth=0.8)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1], ["0", "1"])
    _name_track(axes, "boundary\nprobability")


def _draw_surprisal(axes: Axes, found: RegionChunks, first: int, last: int, most: float) -> None:
    axes.bar(np.arange(last - first) + 0.5, found.surprisal[first:last], width=0.8, color=VERMILLION)
    axes.axhline(2, color=GREY, linestyle="--", linewidth=0.8)
    axes.set_ylim(0, most)
    axes.set_yticks([0, 2, 4] if most < 6 else [0, 2, int(most)])
    _name_track(axes, "surprisal\n(bits)")
    positions = np.arange(found.start + first, found.start + last) + 1
    shown = np.flatnonzero(positions % 10 == 0)
    axes.set_xticks(shown + 0.5, [f"{position:,}" for position in positions[shown]])
    axes.tick_params(axis="x", labelsize=7, length=2.5)


def _name_track(axes: Axes, name: str) -> None:
    axes.tick_params(axis="y", labelsize=6.5, length=2.5)
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "center"}
    axes.annotate(name, (0, 0.5), (-17, 0), size=7, **place)

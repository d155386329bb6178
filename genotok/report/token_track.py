"""Compression along the genome: bases a chunk of every stage and bits a base, with the genes below."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.genomes.gff import Transcript
from genotok.genomes.intervals import covered
from genotok.genomes.regions import Region
from genotok.interpret.token_survey import BIN, Compression
from genotok.report.gene_track import LABEL_LETTER, ROW_HEIGHT, draw_genes, genes_of_region, rows_of
from genotok.report.style import GREEN, GREY, PURPLE, SERIES, WIDTH, styled

CONTIGS_DRAWN = 4
MOST_GENES, MOST_ROWS = 60, 12  # of a contig; more genes are drawn as the share of coding bases
PANEL, STRAND_PANEL = 1.5, 0.4  # inches
_BINS_AT_ONCE = 1000
_LINE_WIDTH = 5.8  # inches of a panel, about

Transcripts = Mapping[str, Sequence[Transcript]]


def track_table(compression: Compression, transcripts: Transcripts | None = None) -> pd.DataFrame:
    """One row a bin of 1,000 bases.

    Returns:
        `contig`, `start` (1-based), `bases`, `bits_per_base` and for each stage `bases_per_chunk_stage<s>`, empty
        where nothing is known or no chunk begins; with transcripts also `coding_forward` and `coding_reverse`, the
        shares of the bin's bases that are coding on either strand.
    """
    stages = sorted({stage for _, _, stage in compression.chunks})
    rows = []
    for (contig, number), bases in compression.bases.items():
        known = compression.known[contig, number]
        counts = [compression.chunks[contig, number, stage] for stage in stages]
        lengths = [bases / count if count else None for count in counts]
        bits = compression.bits[contig, number] / known if known else None
        rows.append((contig, number * BIN + 1, bases, bits, *lengths))
    names = [f"bases_per_chunk_stage{stage}" for stage in stages]
    data = pd.DataFrame(rows, columns=["contig", "start", "bases", "bits_per_base", *names])
    data = data.astype(dict.fromkeys(("bits_per_base", *names), float))
    if transcripts is not None:
        for name, forward in (("coding_forward", True), ("coding_reverse", False)):
            data[name] = _coding_share(data, transcripts, forward)
    return data


def _coding_share(data: pd.DataFrame, transcripts: Transcripts, forward: bool) -> np.ndarray:
    """(bins,) the share of each bin of 1,000 bases that one strand codes on."""
    share = np.zeros(len(data))
    for contig, rows in data.groupby("contig", sort=False).indices.items():
        spans = [
            (part.start, part.end)
            for transcript in transcripts.get(contig, [])
            if transcript.forward == forward
            for part in transcript.coding
        ]
        numbers = (data["start"].to_numpy()[rows] - 1) // BIN
        for block in np.unique(numbers // _BINS_AT_ONCE):
            here = numbers // _BINS_AT_ONCE == block
            first = int(block) * _BINS_AT_ONCE * BIN
            mask = covered(np.array(spans).reshape(-1, 2), first, first + _BINS_AT_ONCE * BIN)
            share[rows[here]] = mask.reshape(-1, BIN).mean(1)[numbers[here] % _BINS_AT_ONCE]
    return share


@styled
def track_figure(data: pd.DataFrame, transcripts: Transcripts | None = None) -> Figure:
    """Bases a chunk and bits a base along the longest contigs, with the genes of each below."""
    sizes = data.groupby("contig", sort=False)["bases"].sum().sort_values(ascending=False, kind="stable")
    contigs = list(sizes.index[:CONTIGS_DRAWN])
    drawn = {contig: _genes_below(data, contig, transcripts) for contig in contigs}
    heights = [height for contig in contigs for height in (PANEL, drawn[contig][0]) if height]
    figure = Figure(figsize=(WIDTH, 0.5 + sum(heights)), layout="constrained")
    panels = iter(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
    for contig in contigs:
        mine = data[data["contig"] == contig].sort_values("start")
        height, genes, region = drawn[contig]
        lowest = next(panels)
        _draw_compression(lowest, mine)
        lowest.set_title(contig)
        lowest.set_xlim(region.start, region.end)
        lowest.xaxis.set_major_formatter("{x:,.0f}")
        if height:
            lowest = next(panels)
            lowest.set_xlim(0, region.end - region.start)
            lowest.set_xticks([])
            _draw_genes_below(lowest, mine, genes, region)
    lowest.set_xlabel("Position on the contig")
    return figure


def _genes_below(
    data: pd.DataFrame, contig: str, transcripts: Transcripts | None
) -> tuple[float, list | None, Region]:
    """How high the panel of a contig's genes is (0: there is none), its genes unless too many, and what is drawn."""
    mine = data[data["contig"] == contig]
    region = Region(contig, int(mine["start"].min()) - 1, int(((mine["start"] - 1) // BIN * BIN + BIN).max()))
    here = [t for t in (transcripts or {}).get(contig, []) if t.start < region.end and region.start < t.end]
    if not here:
        return 0.0, None, region
    if len({(t.gene, t.start, t.end) for t in here}) > MOST_GENES:
        return STRAND_PANEL, None, region
    genes = genes_of_region(here, region, _letter(region), places=False)
    return ROW_HEIGHT * rows_of(genes, MOST_ROWS) + 0.1, genes, region


def _letter(region: Region) -> float:
    return LABEL_LETTER * (region.end - region.start) / _LINE_WIDTH


def _draw_compression(axes: Axes, mine: pd.DataFrame) -> None:
    middles = mine["start"] + mine["bases"] / 2
    values = [name for name in mine.columns if name.startswith("bases_per_chunk")]
    for stage, name in enumerate(values):
        colour = SERIES[stage % len(SERIES)]
        axes.plot(middles, mine[name], color=colour, label=f"stage {stage}", linewidth=1)
    twin = axes.twinx()
    twin.plot(middles, mine["bits_per_base"], color=GREY, linewidth=0.8)
    twin.set_ylabel("Bits a base", color=GREY)
    twin.spines["right"].set_visible(True)
    twin.tick_params(colors=GREY)
    if values:
        axes.set_ylabel("Bases a chunk")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right", ncols=len(values))
    else:
        axes.set_yticks([])


def _draw_genes_below(axes: Axes, mine: pd.DataFrame, genes: list | None, region: Region) -> None:
    """The genes; or, where they are too many, the share of coding bases, forward above, reverse below the axis."""
    if genes is not None:
        draw_genes(axes, genes, [(region.start, region.end)], 0, _letter(region), MOST_ROWS)
        return
    for name, sign, colour in (("coding_forward", 1, GREEN), ("coding_reverse", -1, PURPLE)):
        places = mine["start"] + BIN / 2 - region.start
        axes.fill_between(places, sign * mine[name], color=colour, linewidth=0, step="mid")
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_ylim(-1, 1)
    axes.set_yticks([-0.5, 0.5], ["\N{MINUS SIGN} genes", "+ genes"])

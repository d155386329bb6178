"""`genotok report saturation`: the score of every single-nucleotide variant of a region, and what goes with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from genotok.errors import InputError
from genotok.evaluation.consequences import SEVEREST_FIRST, Annotation
from genotok.genomes.fasta import Reference
from genotok.genomes.regions import Region
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
from genotok.report.logo import logo_data
from genotok.report.names import SATURATION_FIGURE, SATURATION_GROUPS_FIGURE, SATURATION_SUMMARY
from genotok.report.scored_alleles import about_scoring
from genotok.report.style import (
    BLACK,
    BLUE,
    DIVERGING,
    GREY,
    PALE,
    SKY,
    VERMILLION,
    WIDTH,
    save_figure,
    styled,
)

LONGEST = 1000  # bases of a picture
BASES_PER_LINE = 60
NEAREST_STRETCH = 20  # bases; a wider gap begins a stretch of its own
LETTERS = "ACGT"
GROUPINGS = {
    "codon_position": "Codon position",
    "consequence": "What the variant does",
    "change": "Kind of change",
}
# A mark and its words; a variant in a codon that has none is missense.
MARKS = {
    "synonymous": ("o", "synonymous", ("synonymous",)),
    "nonsense": ("x", "stop gained", ("nonsense",)),
    "lost": ("+", "start, stop or splice site lost", ("start_lost", "stop_lost", "splice_site")),
}
_TRANSITIONS = {"AG", "GA", "CT", "TC"}
# Heights and margins in inches.
_ROW, _GAP, _BETWEEN_LINES = 0.13, 0.05, 0.42
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.62, 0.1, 0.75, 0.4
_LABEL_LETTER = LABEL_LETTER * BASES_PER_LINE / (WIDTH - _LEFT - _RIGHT)  # bases


@dataclass(frozen=True)
class Stretch:
    """Bases that follow each other, with their genes (None where no annotation is known)."""

    region: Region
    genes: list[Gene] | None


def report_saturation(
    vcf: Path, out_folder: Path, *, gff: Path | None = None, fasta: Path | None = None
) -> None:
    """Draw a scored saturation mutagenesis.

    Writes `saturation` and `saturation_groups` as `.svg` with their data as `.tsv`, and `saturation.json`.

    Args:
        vcf: of `genotok score --region`.
        out_folder: made where it is missing.
        gff: GFF3 of the genome, for genes, codon positions and consequences.
        fasta: the genome; needed with `gff`.

    Raises:
        InputError: a file cannot be read, the VCF holds no single-nucleotide variant or too many for a picture, or
            the genome is missing.
    """
    if gff is not None and fasta is None:
        raise InputError("a GFF needs the genome that it is of; give --reference")
    bases = logo_data(vcf)[
        ["contig", "position", "ref", *(f"score_{name}" for name in (*LETTERS, "deletion"))]
    ]
    if bases.empty:
        raise InputError(
            f"{vcf}: holds no single-nucleotide variant; give what `genotok score --region` wrote"
        )
    regions = list(_stretches(bases))
    if sum(region.end - region.start for region in regions) > LONGEST:
        raise InputError(f"{vcf}: has {len(bases):,} bases, and a picture shows at most {LONGEST:,}")
    if gff is None:
        stretches = [Stretch(region, None) for region in regions]
    else:
        with Reference(fasta) as reference:
            stretches = [
                Stretch(region, read_genes(gff, reference, region, _LABEL_LETTER)) for region in regions
            ]
            bases = _annotated(bases, stretches, Annotation(gff, reference))
    groups = group_table(bases)
    save_figure(saturation_figure(bases, stretches), bases, out_folder, SATURATION_FIGURE)
    save_figure(groups_figure(groups), groups, out_folder, SATURATION_GROUPS_FIGURE)
    summary = {
        "regions": [f"{contig}:{start + 1:,}-{end:,}" for contig, start, end in regions],
        "bases": len(bases),
        "groups": groups.to_dict("records"),
        "scoring": about_scoring(vcf),
    }
    write_json(summary, out_folder / SATURATION_SUMMARY)


def _stretches(bases: pd.DataFrame) -> Iterator[Region]:
    """Runs of bases; gaps of a few, which have no scores, are within a run."""
    far = (bases["contig"] != bases["contig"].shift()) | (bases["position"].diff().abs() > NEAREST_STRETCH)
    for _, run in bases.groupby(far.cumsum(), sort=False):
        yield Region(run["contig"].iloc[0], int(run["position"].iloc[0]) - 1, int(run["position"].iloc[-1]))


def _annotated(bases: pd.DataFrame, stretches: Sequence[Stretch], annotation: Annotation) -> pd.DataFrame:
    """The bases with the columns of `base_annotation`, and `consequence_A` to `_T`, empty for REF itself."""
    said = []
    for stretch in stretches:
        contig, start, end = stretch.region
        rows = base_annotation(stretch.genes or [], stretch.region)
        said.append(rows.assign(contig=contig, position=np.arange(start, end) + 1))
    bases = bases.merge(pd.concat(said), "left", ["contig", "position"], validate="1:1")
    for letter in LETTERS:
        bases[f"consequence_{letter}"] = [
            "" if ref == letter else annotation.consequence(contig, position, ref, letter) or ""
            for contig, position, ref in zip(bases["contig"], bases["position"], bases["ref"], strict=True)
        ]
    return bases


def group_table(bases: pd.DataFrame) -> pd.DataFrame:
    """The scores of groups of variants.

    Args:
        bases: of the picture.

    Returns:
        `by` (codon_position, consequence or change), `group`, the count `n`, and `mean`, `median`, `q05`, `q25`,
        `q75` and `q95` of the scores. Bases in several frames count for each; only substitutions but for the change
        `deletion`.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for base in bases.to_dict("records"):
        for letter in LETTERS:
            score = base[f"score_{letter}"]
            if np.isnan(score):
                continue
            change = "transition" if base["ref"] + letter in _TRANSITIONS else "transversion"
            keys = [("change", change)]
            keys += [("consequence", word) for word in [base.get(f"consequence_{letter}")] if word]
            positions = set(base.get("codon_position", "").split(",")) - {""}
            keys += [("codon_position", position) for position in positions]
            for key in keys:
                groups.setdefault(key, []).append(score)
        if not np.isnan(base["score_deletion"]):
            groups.setdefault(("change", "deletion"), []).append(base["score_deletion"])
    order = {"change": ("transition", "transversion", "deletion"), "consequence": SEVEREST_FIRST[::-1]}
    order["codon_position"] = ("1", "2", "3")
    rows = [
        (by, name, *_spread(groups[by, name]))
        for by in GROUPINGS
        for name in order[by]
        if (by, name) in groups
    ]
    return pd.DataFrame(rows, columns=["by", "group", "n", "mean", "median", "q05", "q25", "q75", "q95"])


def _spread(scores: list[float]) -> tuple[float, ...]:
    quantiles = np.quantile(scores, [0.5, 0.05, 0.25, 0.75, 0.95])
    return len(scores), float(np.mean(scores)), *quantiles.tolist()


@styled
def saturation_figure(bases: pd.DataFrame, stretches: Sequence[Stretch]) -> Figure:
    """The heat map, in lines of 60 bases: a row a letter and one for the deletion; genes and codons below."""
    lines = [
        (stretch, start, min(start + BASES_PER_LINE, stretch.region.end))
        for stretch in stretches
        for start in range(stretch.region.start, stretch.region.end, BASES_PER_LINE)
    ]
    heights = [_ROW * (len(LETTERS) + 1) + _line_genes(stretch) for stretch, _, _ in lines]
    height = _TOP + sum(heights) + _BETWEEN_LINES * (len(lines) - 1) + _BOTTOM
    figure = Figure(figsize=(WIDTH, height))
    norm = Normalize(-_limit(bases), _limit(bases))
    top = height - _TOP
    for number, ((stretch, first, last), line_height) in enumerate(zip(lines, heights, strict=True)):
        here = bases[bases["contig"] == stretch.region.contig].set_index("position")
        axes = _place(figure, top, _ROW * (len(LETTERS) + 1), last - first)
        _draw_scores(axes, here.reindex(range(first + 1, last + 1)), norm, number)
        lowest = axes
        if _line_genes(stretch):
            below = top - _ROW * (len(LETTERS) + 1) - _GAP
            lowest = _place(figure, below, _line_genes(stretch) - _GAP, last - first)
            spans = [(start, end) for other, start, end in lines if other is stretch]
            draw_genes(lowest, stretch.genes, spans, spans.index((first, last)), _LABEL_LETTER)
        _number_positions(lowest, stretch.region.contig, first, last, number == len(lines) - 1)
        top -= line_height + _BETWEEN_LINES
    _draw_key(figure, norm, marked=stretches[0].genes is not None)
    return figure


def _line_genes(stretch: Stretch) -> float:
    rows = rows_of(stretch.genes or ())
    return _GAP + rows * ROW_HEIGHT if rows else 0.0


def _limit(bases: pd.DataFrame) -> float:
    """The score beyond which colours do not change: all but the largest two hundredths lie within."""
    scores = bases[[f"score_{name}" for name in (*LETTERS, "deletion")]].abs().to_numpy().ravel()
    known = scores[~np.isnan(scores)]
    return max(float(np.quantile(known, 0.98)), 1e-3) if len(known) else 1.0


def _place(figure: Figure, top: float, height: float, bases: int) -> Axes:
    """Axes over some bases, placed by inches from the lower edge of the figure."""
    wide, high = figure.get_size_inches()
    line_width = (wide - _LEFT - _RIGHT) * bases / BASES_PER_LINE
    axes = figure.add_axes((_LEFT / wide, (top - height) / high, line_width / wide, height / high))
    axes.set_xlim(0, bases)
    axes.set_xticks([])
    return axes


def _draw_scores(axes: Axes, here: pd.DataFrame, norm: Normalize, line: int) -> None:
    """The cells of a line: `here` has a row for each of its positions."""
    rows = [*LETTERS, "deletion"]
    scores = np.ma.masked_invalid(here[[f"score_{row}" for row in rows]].to_numpy(float).T)
    edges = np.arange(scores.shape[1] + 1), np.arange(len(rows) + 1)
    axes.pcolormesh(*edges, scores, cmap=DIVERGING, norm=norm, edgecolors="white", linewidth=0.3)
    axes.set_ylim(len(rows), 0)
    axes.spines[:].set_visible(False)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [*LETTERS, "deletion"])
    axes.tick_params(axis="both", length=0, labelsize=6.5)
    for row, letter in enumerate(LETTERS):
        places = np.flatnonzero(here["ref"] == letter).tolist()
        axes.broken_barh([(place, 1) for place in places], (row, 1), color=PALE, linewidth=0)
        for place in places:
            middle = {"ha": "center", "va": "center_baseline", "family": "DejaVu Sans Mono"}
            axes.text(place + 0.5, row + 0.48, letter, size=6.5, **middle)
        if f"consequence_{letter}" in here:
            for kind, (marker, _, words) in MARKS.items():
                found = np.flatnonzero(here[f"consequence_{letter}"].isin(words)) + 0.5
                style = {"markersize": 3.2, "color": BLACK, "markeredgewidth": 0.6, "fillstyle": "none"}
                gid = f"{kind}-{letter}-{line + 1}"
                axes.plot(found, np.full(len(found), row + 0.5), marker, gid=gid, **style)


def _number_positions(axes: Axes, contig: str, first: int, last: int, lowest: bool) -> None:
    positions = np.arange(first, last) + 1
    shown = np.flatnonzero(positions % 10 == 0)
    if not len(shown):
        shown = np.array([0])
    axes.set_xticks(shown + 0.5, [f"{position:,}" for position in positions[shown]])
    axes.tick_params(axis="x", length=2, labelsize=6.5)
    if lowest:
        axes.set_xlabel(f"Position on {contig}", labelpad=2)


def _draw_key(figure: Figure, norm: Normalize, marked: bool) -> None:
    """The scale of the colours, and the marks."""
    wide, high = figure.get_size_inches()
    place = figure.add_axes((_LEFT / wide, 1 - 0.16 / high, 2.2 / wide, 0.1 / high))
    bar = figure.colorbar(ScalarMappable(norm, DIVERGING), cax=place, orientation="horizontal", extend="both")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.set_label("LLR (nats; negative: less likely than the reference)", size=7)
    if marked:
        style = {
            "linestyle": "",
            "color": BLACK,
            "fillstyle": "none",
            "markersize": 4.5,
            "markeredgewidth": 0.7,
        }
        handles = [Line2D([], [], marker=marker, label=label, **style) for marker, label, _ in MARKS.values()]
        corner = ((wide - _RIGHT) / wide, 1 - 0.02 / high)
        figure.legend(handles=handles, loc="upper right", bbox_to_anchor=corner, fontsize=7, borderaxespad=0)


@styled
def groups_figure(groups: pd.DataFrame) -> Figure:
    """Boxes of the scores of each group: the middle half, 5 to 95 %, and the median with its value."""
    panels = [by for by in GROUPINGS if (groups["by"] == by).any()]
    sizes = [int((groups["by"] == by).sum()) for by in panels]
    figure = Figure(figsize=(WIDTH, 0.6 + 0.3 * len(panels) + 0.26 * sum(sizes)), layout="constrained")
    axes_of = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, by in zip(axes_of, panels, strict=True):
        mine = groups[groups["by"] == by].reset_index(drop=True)
        for row, group in mine.iterrows():
            axes.plot([group["q05"], group["q95"]], [row, row], color=BLUE, linewidth=1)
            axes.barh(row, group["q75"] - group["q25"], left=group["q25"], height=0.5, color=SKY)
            axes.plot(group["median"], row, "|", color=VERMILLION, markersize=10, markeredgewidth=2)
            text = f"{group['median']:+.3f}, n = {group['n']:,}".replace("-", "\N{MINUS SIGN}")
            axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), va="center", size=7.5)
        axes.axvline(0, color=GREY, linewidth=0.9, linestyle="--")
        axes.set_yticks(range(len(mine)), [name.replace("_", " ") for name in mine["group"]])
        axes.set_ylim(len(mine) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_title(GROUPINGS[by])
        axes.grid(axis="x")
    axes_of[-1].set_xlabel("LLR (nats); median and number of variants at the right")
    return figure

"""A logo of a saturation mutagenesis: which letters the model expects where, given all letters around."""

from collections.abc import Sequence
from pathlib import Path

import logomaker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genotok.errors import InputError
from genotok.genomes.regions import Region
from genotok.report.style import GREY, LETTERS, WIDTH, save_figure, styled
from genotok.variants.tracks import scored_bases
from genotok.variants.vcf_input import open_vcf

LONGEST_LOGO = 600  # bases
BASES_PER_LINE = 50
_LINE, _TOP, _BOTTOM, _LEFT, _RIGHT = 1.15, 0.25, 0.1, 0.6, 0.1  # inches


def check_logo(figure: str | Path, regions: Sequence[Region]) -> None:
    """Whether a logo of these regions can be drawn.

    Raises:
        InputError: the figure is not called `*.svg`, or the regions are too long to be read.
    """
    if not str(figure).endswith(".svg"):
        raise InputError(f"{figure}: a logo is drawn as SVG; give it a name that ends in .svg")
    bases = sum(region.end - region.start for region in regions)
    if bases > LONGEST_LOGO:
        raise InputError(
            f"{figure}: a logo of {bases:,} bases cannot be read; choose {LONGEST_LOGO} bases at most, or bigWig"
        )


def write_logo(vcf: str | Path, figure: str | Path, regions: Sequence[Region]) -> None:
    """Draw the logo of a scored saturation mutagenesis, and write its data beside it (`.tsv` for `.svg`).

    The probability of a letter is its share of p(window with the letter), over A, C, G and T: what the model
    expects at that place, given all other letters of the window. A stack is as high as the 2 bits less the entropy
    of these probabilities (Schneider and Stephens 1990, doi:10.1093/nar/18.20.6097), and below it stands the
    reference's letter.

    Args:
        vcf: what `genotok.variants.score.score_vcf` wrote for these regions.
        figure: the SVG file.
        regions: the regions, merged and in order.

    Raises:
        InputError: see `check_logo`; or the VCF cannot be read.
    """
    check_logo(figure, regions)
    data = logo_data(vcf)
    save_figure(_draw(data, regions), data, Path(figure).parent, Path(figure).name.removesuffix(".svg"))


def logo_data(vcf: str | Path) -> pd.DataFrame:
    """One row a base: contig, position (1-based), ref, and of each letter score, probability and height in bits."""
    with open_vcf(vcf) as source:
        bases = list(scored_bases(source))
    data = pd.DataFrame(
        {
            "contig": [base.contig for base in bases],
            "position": [base.start + 1 for base in bases],
            "ref": [base.ref for base in bases],
        }
    )
    scores = np.array([base.scores for base in bases]).reshape(-1, 4)
    shifted = np.nan_to_num(scores, nan=0.0)  # the reference's letter against itself
    share = np.exp(shifted - shifted.max(1, keepdims=True, initial=-np.inf))
    probability = share / share.sum(1, keepdims=True)
    logs = np.log2(np.where(probability > 0, probability, 1))
    height = probability * (2 + (probability * logs).sum(1, keepdims=True))
    for name, values in (("score", scores), ("probability", probability), ("bits", height)):
        for letter, column in zip("ACGT", values.T, strict=True):
            data[f"{name}_{letter}"] = column
    data.insert(3, "score_deletion", [base.deletion for base in bases])
    return data


@styled
def _draw(data: pd.DataFrame, regions: Sequence[Region]) -> Figure:
    lines = [
        Region(contig, start, min(start + BASES_PER_LINE, end))
        for contig, begin, end in regions
        for start in range(begin, end, BASES_PER_LINE)
    ]
    height = _TOP + _LINE * len(lines) + _BOTTOM
    figure = Figure(figsize=(WIDTH, height))
    longest = max(line.end - line.start for line in lines)
    top = (
        1.05 * max(data[[f"bits_{letter}" for letter in "ACGT"]].sum(axis=1).max(), 1e-3) if len(data) else 2
    )
    for number, line in enumerate(lines):
        bottom = height - _TOP - _LINE * (number + 1) + 0.42
        place = (_LEFT / WIDTH, bottom / height, (WIDTH - _LEFT - _RIGHT) / WIDTH, (_LINE - 0.55) / height)
        _draw_line(figure.add_axes(place), data, line, longest, top)
    return figure


def _draw_line(axes: Axes, data: pd.DataFrame, line: Region, longest: int, top: float) -> None:
    contig, start, end = line
    places = range(start + 1, end + 1)
    here = data[data.contig == contig].set_index("position").reindex(places)
    heights = here[[f"bits_{letter}" for letter in "ACGT"]].set_axis(list("ACGT"), axis=1).fillna(0.0)
    if heights.to_numpy().any():
        logomaker.Logo(heights, ax=axes, color_scheme=LETTERS, show_spines=False)
    letters = here.ref.astype(object).where(here.ref.notna(), "N")
    axes.set(xlim=(start + 0.5, start + 0.5 + longest), ylim=(0, top))
    axes.yaxis.set_major_locator(MaxNLocator(2, min_n_ticks=2))
    axes.set_ylabel("bits")
    axes.set_title(f"{contig}:{start + 1:,}-{end:,}", fontsize=8, fontweight="normal", color=GREY)
    axes.set_xticks(list(places), letters, fontsize=7, fontfamily="DejaVu Sans Mono")
    for tick in axes.get_xticklabels():
        tick.set_color(LETTERS.get(tick.get_text(), GREY))
    axes.tick_params(axis="x", length=0)
    axes.spines[["left"]].set_visible(True)

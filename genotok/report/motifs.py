"""The picture and the page of `genotok motifs`."""

from pathlib import Path

import logomaker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genotok.interpret.motif_files import MotifFindings, summary_of, write_motif_files
from genotok.interpret.motifs import Motif
from genotok.report.json_files import write_json
from genotok.report.names import MOTIFS_FIGURE, MOTIFS_SUMMARY
from genotok.report.page import write_page
from genotok.report.style import GREY, LETTERS, WIDTH, figure_that_says, save_figure, styled

MOST_DRAWN = 12
_ROW, _BELOW, _TOP, _LEFT, _RIGHT, _BETWEEN = 0.62, 0.52, 0.32, 0.62, 0.1, 0.7  # inches


def report_motifs(found: MotifFindings, folder: Path, title: str = "Motifs") -> None:
    """Write the findings' files, their logos as `motif_logos.svg` with `.tsv`, `motifs.json` and `index.html`.

    Args:
        found: what was found.
        folder: made where it is missing.
        title: of the page.

    Raises:
        InputError: a file cannot be written.
    """
    write_motif_files(found, folder)
    save_figure(_draw(found), _logo_data(found.motifs), folder, MOTIFS_FIGURE)
    write_json(summary_of(found), folder / MOTIFS_SUMMARY)
    write_page([folder], folder / "index.html", title)


def _logo_data(motifs: list[Motif]) -> pd.DataFrame:
    """One row a column of a motif."""
    columns = ["motif", "position", "information_bits"]
    columns += [f"{kind}_{letter}" for kind in ("sites", "probability", "contribution") for letter in "ACGT"]
    rows = [
        (
            motif.name,
            place + 1,
            motif.information[place],
            *motif.counts[place],
            *probabilities,
            *contributions,
        )
        for motif in motifs
        for place, (probabilities, contributions) in enumerate(
            zip(motif.probabilities, motif.contributions, strict=True)
        )
    ]
    return pd.DataFrame(rows, columns=columns)


@styled
def _draw(found: MotifFindings) -> Figure:
    """Of each motif two logos: letters by information, and by contribution."""
    drawn = found.motifs[:MOST_DRAWN]
    if not drawn:
        return figure_that_says("There is no motif.")
    height = _TOP + (_ROW + _BELOW) * len(drawn)
    figure = Figure(figsize=(WIDTH, height))
    names = {match.motif: match for match in reversed(found.matches or ())}  # the first of each motif stays
    longest = max(len(motif.counts) for motif in drawn)
    width = (WIDTH - 2 * _LEFT - _RIGHT) / 2
    for row, motif in enumerate(drawn):
        bottom = height - _TOP - (_ROW + _BELOW) * row - _ROW
        kinds = (
            ("bits", motif.probabilities * motif.information[:, None]),
            ("contribution", motif.contributions),
        )
        for column, (label, heights) in enumerate(kinds):
            left = _LEFT + column * (width + _LEFT)
            place = left / WIDTH, bottom / height, width / WIDTH, _ROW / height
            axes = figure.add_axes(place)
            _draw_logo(axes, heights, label, longest)
        like = names.get(motif.name)
        text = f"{motif.name}: {len(motif.sites):,} sites"
        text += f", like {like.known} (p = {like.p_value:.1e})" if like else ""
        figure.text(_LEFT / WIDTH, (bottom + _ROW + 0.07) / height, text, fontsize=8, color=GREY)
    return figure


def _draw_logo(axes: Axes, heights: np.ndarray, label: str, longest: int) -> None:
    table = pd.DataFrame(
        np.asarray(heights, dtype=float), columns=list("ACGT"), index=range(1, len(heights) + 1)
    )
    logomaker.Logo(table, ax=axes, color_scheme=LETTERS, show_spines=False)
    low = min(0.0, float(table.clip(upper=0).sum(axis=1).min()))
    high = 2.0 if label == "bits" else max(0.0, float(table.clip(lower=0).sum(axis=1).max()))
    axes.set(xlim=(0.5, 0.5 + longest), ylim=(low * 1.05, high * 1.05 or 1e-3))
    axes.yaxis.set_major_locator(MaxNLocator(2, min_n_ticks=2))
    axes.set_ylabel(label, fontsize=8)
    axes.set_xticks(range(1, len(table) + 1), [str(n) if n % 5 == 0 or n == 1 else "" for n in table.index])
    axes.tick_params(axis="both", length=0, labelsize=7)
    axes.spines[["left"]].set_visible(True)

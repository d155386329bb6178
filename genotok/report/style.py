"""How all figures look, and how a figure and its data become files that are the same bytes every time."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import matplotlib.style
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from genotok.atomic import atomic_path

# The palette of Okabe and Ito, which people with any kind of colour vision can tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#767676", "#E3E3E3"
SERIES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MODEL, BASELINE = VERMILLION, BLUE
LETTERS = {"A": GREEN, "C": BLUE, "G": ORANGE, "T": VERMILLION}
# Neighbours on a line take turns: chunks, those of the stages within, and codons.
CHUNK_TINTS, STAGE_GREYS, CODON_GREYS = ("#FBDDAE", "#B9E0F6"), ("#5F5F5F", "#ABABAB"), ("#D6D6D6", "#F0F0F0")
# From few to many, and from negative over nothing to positive.
SEQUENTIAL = "Blues"
DIVERGING = LinearSegmentedColormap.from_list("genotok", [VERMILLION, "#FFFFFF", BLUE])

WIDTH = 7.2  # inches, the width of a page's text
_STYLE = {
    "axes.axisbelow": True,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "font.size": 9,
    "grid.color": PALE,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "savefig.bbox": "standard",
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "genotok",  # else the ids inside the file are drawn by chance
    "text.parse_math": False,  # names of contigs and fields may hold dollar signs
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def styled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let a function draw or save in genotok's style, whatever matplotlib is told elsewhere."""

    @wraps(function)
    def inside_style(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with matplotlib.style.context(["default", _STYLE]):
            return function(*args, **kwargs)

    return inside_style


@styled
def save_figure(figure: Figure, data: pd.DataFrame, folder: Path, name: str) -> None:
    """Write `<name>.svg`, and what it shows as `<name>.tsv`, into a folder."""
    with atomic_path(folder / f"{name}.svg") as path:
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    with atomic_path(folder / f"{name}.tsv") as path:
        data.to_csv(path, sep="\t", index=False, float_format="%.6g", lineterminator="\n")


def figure_that_says(text: str) -> Figure:
    """A figure in place of one for which there is no data."""
    figure = Figure(figsize=(WIDTH, 0.8))
    figure.text(0.02, 0.5, text, va="center", color=GREY)
    return figure

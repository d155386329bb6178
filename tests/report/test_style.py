"""Figures are the same bytes every time, and look the same whatever else matplotlib is told."""

import re
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from genotok.interpret import chunk_rows, coloured_text
from genotok.report import style
from genotok.report.style import (
    BASELINE,
    BLUE,
    CHUNK_TINTS,
    DIVERGING,
    GREEN,
    LETTERS,
    MODEL,
    PURPLE,
    SERIES,
    SKY,
    STAGE_GREYS,
    figure_that_says,
    save_figure,
    styled,
)


@styled
def draw():
    figure = Figure()
    axes = figure.add_subplot(title="a $x_1$ b\\_c")
    axes.plot([1, 2], label="$1")
    axes.legend()
    axes.set_clip_on(True)
    return figure


def saved(folder):
    save_figure(draw(), pd.DataFrame({"a": [1, None], "b": [1 / 3, 2.0]}), folder, "x")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_bytes_under_any_settings(tmp_path):
    first = saved(tmp_path / "one")
    with matplotlib.rc_context(
        {"font.size": 30, "svg.hashsalt": "y", "lines.linewidth": 9, "font.family": "serif"}
    ):
        second = saved(tmp_path / "two")
    assert first == second
    assert first["x.tsv"] == b"a\tb\n1\t0.333333\n\t2\n"
    assert set(first) == {"x.svg", "x.tsv"}


def test_nothing_of_this_day_or_machine(tmp_path):
    svg = saved(tmp_path)["x.svg"].decode()
    assert "dc:date" not in svg
    assert matplotlib.__version__ not in svg


def test_style_is_left_as_it_was():
    before = dict(matplotlib.rcParams)
    draw()
    assert dict(matplotlib.rcParams) == before


def test_dollar_signs_are_letters(tmp_path):
    """As mathematics `$1` would be an error, and the comment of a text holds what was drawn."""
    assert "<!-- a $x_1$ b\\_c -->" in saved(tmp_path)["x.svg"].decode()


def test_sentence_in_place_of_a_figure(tmp_path):
    save_figure(figure_that_says("Nothing here."), pd.DataFrame({"a": []}), tmp_path, "x")
    assert "<!-- Nothing here. -->" in (tmp_path / "x.svg").read_text()


def test_colours_differ():
    assert len(set(SERIES)) == len(SERIES)


# Colours of no cones of one kind, in linear RGB (Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113).
VISIONS = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}
WHITE = np.array([0.95047, 1.0, 1.08883])


def lab(colour, vision):
    """CIE L*a*b* of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISIONS[vision]) @ linear, 0, 1)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
    x, y, z = (
        np.cbrt(value) if value > 0.008856 else 7.787 * value + 16 / 116 for value in to_xyz @ seen / WHITE
    )
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Colours that stand for different things in one figure.
TOLD_APART = {
    "model and baseline": (MODEL, BASELINE),
    "stages and series": SERIES[:4],
    "letters": tuple(LETTERS.values()),
    "chunks": CHUNK_TINTS,
    "inner chunks": STAGE_GREYS,
    "strands": (GREEN, PURPLE),
    "boundary or not": (BLUE, SKY),
    "below and above zero": (to_hex(DIVERGING(0.0)), to_hex(DIVERGING(0.5)), to_hex(DIVERGING(1.0))),
}


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("group", TOLD_APART)
def test_everyone_can_tell_colours_apart(group, vision):
    """A difference of 2.3 is just noticeable; these are beyond 10."""
    for one, other in combinations(TOLD_APART[group], 2):
        assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 10, (one, other)


def test_a_red_and_a_green_would_be_refused():
    """The measure sees what people with deuteranopia do not."""
    red, green = "#CC3311", "#758000"
    assert np.linalg.norm(lab(red, "usual") - lab(green, "usual")) > 50
    assert np.linalg.norm(lab(red, "deuteranopia") - lab(green, "deuteranopia")) < 12


def test_colours_stand_in_one_place():
    """No module of a figure has a colour of its own, by number or by name of a colour map."""
    folder = Path(style.__file__).parent
    for path in sorted(folder.glob("*.py")):
        if path.name != "style.py":
            found = re.findall(r"#[0-9A-Fa-f]{6}\b|cmap=\"|color=\"(?!white)", path.read_text())
            assert not found, f"{path.name}: {found}"


def test_colours_of_chunks_elsewhere_are_of_the_palette():
    """Terminals and genome browsers show chunks in colours of the same palette."""
    palette = {*SERIES}
    assert set(coloured_text.COLOURS) <= palette
    pairs = [colour for pair in chunk_rows.STAGE_COLOURS for colour in pair]
    assert {to_hex([int(part) / 255 for part in colour.split(",")]).upper() for colour in pairs} <= palette

"""Figures are the same bytes every time, and look the same whatever else matplotlib is told."""

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from genotok.report.style import SERIES, figure_that_says, save_figure, styled


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

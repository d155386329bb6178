"""Text with its chunks in colour."""

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from genotok.interpret.coloured_text import COLOURS, chunks_of, coloured_html, print_coloured


@given(st.lists(st.tuples(st.sampled_from("ACGT<&"), st.booleans()), min_size=1))
def test_chunks_are_the_letters_again(letters):
    text, starts = "".join(letter for letter, _ in letters), [begins for _, begins in letters]
    chunks = chunks_of(text, starts)
    assert "".join(chunks) == text
    places = [sum(map(len, chunks[:i])) for i in range(len(chunks))]
    assert places == [place for place, begins in enumerate(starts) if begins or place == 0]


def shown(chunks, **settings):
    out = io.StringIO()
    print_coloured(chunks, Console(file=out, width=40, **settings))
    return out.getvalue()


def test_without_colours_bars_stand_between_chunks():
    assert shown(["AC", "[bold]", "T"]) == "AC|[bold]|T\n"


def test_neighbours_differ_in_colour():
    text = shown(["AC", "G", "T" * 60], force_terminal=True, color_system="truecolor")
    assert re.sub(r"\x1b\[[^m]*m", "", text) == "ACG" + "T" * 60 + "\n"  # one line, however long
    assert len(re.findall(r"\x1b\[1;38", text)) == 3
    assert len(set(COLOURS)) == len(COLOURS)


def test_html_escapes_and_counts():
    page = coloured_html("a < b", [["<A>", "CG"], ["T"]])
    assert "<title>a &lt; b</title>" in page
    assert (
        '<span class="c0" title="3 letters">&lt;A&gt;</span><span class="c1" title="2 letters">CG</span>'
        in page
    )
    assert page.count("<p>") == 2

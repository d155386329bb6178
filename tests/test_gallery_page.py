"""docs/gallery.md is what the captions say, and its pictures are there and are whole."""

import re
import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
WRITTEN = runpy.run_path(str(DOCS / "write_gallery.py"))


def test_the_page_is_current():
    assert WRITTEN["PAGE"].read_text() == WRITTEN["page"](), "run python docs/write_gallery.py results"


def test_every_picture_is_a_whole_svg():
    names = re.findall(r"\(images/(\w+\.svg)\)", WRITTEN["page"]())
    assert len(names) == len(set(names)) >= 14
    for name in names:
        text = (DOCS / "images" / name).read_text()
        assert text.startswith("<?xml"), name
        assert text.rstrip().endswith("</svg>"), name
    genes = (DOCS / "images" / "chunks.svg").read_text()
    assert "<!-- S ▶ 21,563-25,384 -->" in genes


def test_results_without_a_figure_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"figures/chunks/chunks\.svg: run snakemake first"):
        WRITTEN["figures"](tmp_path)

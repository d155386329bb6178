"""Every figure of the Snakemake report: data beside it, a caption, a place among the categories, known colours."""

import base64
import re
from pathlib import Path

import pandas as pd
import pytest
from small_workflow import REPOSITORY

from genotok.report import style
from genotok.report.captions import CAPTIONS

RULES = REPOSITORY / "workflow" / "rules"
BLOCK = re.compile(r"report\(\s*f\"\{RESULTS\}/(?P<path>[^\"]+)\",(?P<rest>.*?)\n        \),", re.DOTALL)
FIGURES = [
    (match["path"].replace("{{", "{").replace("}}", "}"), match["rest"])
    for path in sorted(RULES.glob("*.smk"))
    for match in BLOCK.finditer(path.read_text())
]
SVGS = [(path, rest) for path, rest in FIGURES if path.endswith(".svg")]
# After twelve steps of training there may be one chunk, which is too long for a word, and no motif.
MAY_BE_EMPTY = {"token_words", "motif_logos"}
WITH_COLOUR_MAPS = {"saturation", "llr_against_truth"}


def test_the_rules_were_understood():
    text = "".join(path.read_text() for path in RULES.glob("*.smk"))
    assert len(FIGURES) == len(re.findall(r"\breport\($", text, re.MULTILINE)) > 10


@pytest.mark.parametrize(("path", "rest"), FIGURES)
def test_a_figure_has_a_caption_a_category_and_a_label(path, rest):
    caption = re.search(r"caption=\"\.\./report/(\w+)\.rst\"", rest)
    assert re.search(r"labels=\{\"figure\": \"[a-z][^\"]+\"", rest)
    assert re.search(r"category=\"\d [A-Z][a-z -]+\"", rest)
    assert (REPOSITORY / "workflow" / "report" / f"{caption[1]}.rst").is_file()
    if path.endswith(".svg"):
        assert caption[1] == Path(path).stem
        assert len(CAPTIONS[caption[1]].split()) > 30


def test_categories_are_numbered_without_gaps():
    names = {re.search(r"category=\"([^\"]+)\"", rest)[1] for _, rest in FIGURES}
    assert sorted(int(name[0]) for name in names) == list(range(len(names)))


def test_labels_differ_within_a_category():
    """Of figures that can stand beside each other; rules that stand in for another repeat its figures."""
    seen = {}
    for path, rest in FIGURES:
        category = re.search(r"category=\"([^\"]+)\"", rest)[1]
        label = re.search(r"labels=\{\"figure\": \"([^\"]+)\"", rest)[1]
        assert seen.setdefault((category, label), path) == path


def palette() -> set[str]:
    """The colours that stand in the style."""
    values = [value for name, value in vars(style).items() if name.isupper()]
    flat = [
        part
        for value in values
        for part in (
            value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
        )
    ]
    return {part.lower() for part in flat if isinstance(part, str) and part.startswith("#")} | {"#ffffff"}


@pytest.mark.workflow
@pytest.mark.timeout(600)
def test_every_figure_of_a_run(finished):
    """What the rules report is there, with its data, and on a page; all else is part of a page beside it."""
    results = finished.folder / "results"
    patterns = [re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) for path, _ in SVGS]
    index = (results / "index.html").read_text()
    found = sorted((results / "figures").rglob("*.svg"))
    assert len(found) >= 14
    for path in found:
        name = str(path.relative_to(results))
        pages = [index, *(page.read_text() for page in path.parent.glob("*.html"))]
        assert any(base64.b64encode(path.read_bytes()).decode() in page for page in pages), name
        assert len(pages) > 1 or any(re.fullmatch(pattern, name) for pattern in patterns), name
        data = pd.read_csv(path.with_suffix(".tsv"), sep="\t")
        assert len(data.columns) >= 3, name
        assert len(data) or path.stem in MAY_BE_EMPTY, name
        colours = set(re.findall(r"#[0-9a-f]{6}\b", path.read_text()))
        if path.stem not in WITH_COLOUR_MAPS:
            assert colours <= palette(), name

"""docs/performance.md is what the committed results say."""

import json
import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
WRITER = runpy.run_path(str(REPOSITORY / "docs" / "write_performance.py"))


def test_the_page_is_current():
    assert WRITER["PAGE"].read_text() == WRITER["page"](), "run python docs/write_performance.py"


@pytest.mark.parametrize("section", WRITER["SECTIONS"], ids=lambda section: section.title)
def test_every_result_makes_rows_of_its_columns(section):
    for name in section.files:
        path = WRITER["RESULTS"] / f"{name}.json"
        if path.is_file():
            rows = list(section.rows(json.loads(path.read_text())))
            assert rows
            assert {len(row) for row in rows} == {len(section.columns)}

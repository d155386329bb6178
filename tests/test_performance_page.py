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
            # `benchmarks.gpu` leaves out the ways of checkpointing where it is not asked for them.
            assert rows or section.rows is WRITER["of_checkpointing"]
            assert {len(row) for row in rows} <= {len(section.columns)}


def test_rows_of_checkpointing_have_a_table_of_their_own():
    """Speed and memory stand beside those of the same model without it, and beside what was worked out."""
    plain = {"train_of_matmul": 0.3, "forward_mbases_s": 3.0, "length": 8192}
    rows = [
        {"model": "hnet M15", "train_mbases_s": 1.0, "train_ms": 131.0, "train_gib": 40.0, **plain},
        {"model": "hnet M15 graph", "train_mbases_s": 1.1, "train_ms": 119.0, "train_gib": 41.0, **plain},
        {"model": "hnet M15 blocks", "train_mbases_s": 0.75, "train_ms": 175.0, "train_gib": 10.0, **plain},
    ]
    assert [row[0] for row in WRITER["of_models"]({"rows": rows})] == ["hnet M15", "hnet M15 graph"]
    none, blocks = WRITER["of_checkpointing"]({"rows": rows})
    foreseen = json.loads((WRITER["RESULTS"] / "kept_memory.json").read_text())["summary"]
    peaks = {line["outside"]: line["peak_gib"] for line in foreseen if line["outside"] == line["inside"]}
    assert none == ("hnet M15", "none", "1", "1.00", "0", "", "40", "")
    assert blocks == ("hnet M15", "blocks", "0.75", "0.75", "44", "", "10", f"{peaks['blocks']:.3g}")


def test_a_missed_number_says_what_limits_it():
    result = json.loads((WRITER["RESULTS"] / "gpu.json").read_text())
    for title, wanted, reached, _, limit in WRITER["of_goals"](result):
        missed = float(reached) < float(wanted) if "Mbases" in title else float(reached) > float(wanted)
        assert bool(limit) == missed, title

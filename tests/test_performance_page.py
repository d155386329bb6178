"""docs/performance.md is what the committed results say."""

import json
import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
WRITER = runpy.run_path(str(REPOSITORY / "docs" / "write_performance.py"))


def test_the_page_is_current():
    assert WRITER["PAGE"].read_text() == WRITER["page"](), "run python docs/write_performance.py"


@pytest.mark.parametrize(("name", "results"), [(name, results) for name, *results in WRITER["places"]()])
def test_every_result_makes_rows_of_its_columns(name, results):
    table = WRITER["TABLES"][name]
    for result in results:
        path = WRITER["RESULTS"] / f"{result}.json"
        if path.is_file():
            rows = list(table.rows(json.loads(path.read_text())))
            # `benchmarks.gpu` leaves out the ways of checkpointing where it is not asked for them.
            assert rows or name == "checkpointing"
            assert {len(row) for row in rows} <= {len(table.columns)}


def test_every_table_has_a_place():
    assert {name for name, *_ in WRITER["places"]()} == set(WRITER["TABLES"])


def test_rows_of_hyena_stand_beside_their_reference():
    shape = "128 sequences, 1024 taps, width 256, bfloat16"
    timed = {"forward_ms": 0.25, "forward_backward_ms": 1.0}
    shares = {"relative_error": 0.003, "forward_of_copy": 0.5, "forward_backward_of_copy": 0.25}
    lines = {
        f"{shape}: toeplitz": timed | shares | {"forward_backward_of_matmul": 0.5},
        f"{shape}: reference": {"forward_ms": 2, "forward_backward_ms": 6},
        "short convolution, width 3 x 256, bfloat16": timed | shares,
        f"mixer, {shape}: kernels": timed,
        f"mixer, {shape}: reference": {"forward_ms": 3, "forward_backward_ms": 9},
        f"memory, {shape}: fourier": {"forward_gib": 1.5, "forward_backward_gib": 3},
    }
    rows = {
        name: list(WRITER["TABLES"][f"hyena_{name}"].rows({"lines": lines}))
        for name in ("kernels", "mixers", "memory")
    }
    assert rows["kernels"][0] == (shape, "toeplitz", "3.0e-03", "0.25", "1", "25%", "50%", "6")
    assert [row[5:] for row in rows["kernels"][1:]] == [("25%", "", "")]
    assert rows["mixers"] == [(shape, "0.25", "1", "3", "9")]
    assert rows["memory"] == [(shape, "fourier", "1.5", "3")]


def test_rows_of_checkpointing_have_a_table_of_their_own():
    """Speed and memory stand beside those of the same model without it, and beside what was worked out."""
    plain = {"train_of_matmul": 0.3, "forward_mbases_s": 3.0, "length": 8192}
    rows = [
        {"model": "hnet M15", "train_mbases_s": 1.0, "train_ms": 131.0, "train_gib": 40.0, **plain},
        {"model": "hnet M15 graph", "train_mbases_s": 1.1, "train_ms": 119.0, "train_gib": 41.0, **plain},
        {"model": "hnet M15 blocks", "train_mbases_s": 0.75, "train_ms": 175.0, "train_gib": 10.0, **plain},
    ]
    assert [row[0] for row in WRITER["models"]({"rows": rows})] == ["hnet M15", "hnet M15 graph"]
    none, blocks = WRITER["checkpointing"]({"rows": rows})
    foreseen = json.loads((WRITER["RESULTS"] / "kept_memory.json").read_text())["summary"]
    peaks = {line["outside"]: line["peak_gib"] for line in foreseen if line["outside"] == line["inside"]}
    assert none == ("hnet M15", "none", "1", "1.00", "0", "", "40", "")
    assert blocks == ("hnet M15", "blocks", "0.75", "0.75", "44", "", "10", f"{peaks['blocks']:.3g}")


def test_a_missed_number_says_what_limits_it():
    result = json.loads((WRITER["RESULTS"] / "gpu.json").read_text())
    for title, wanted, reached, _, limit in WRITER["goals"](result):
        missed = float(reached) < float(wanted) if "Mbases" in title else float(reached) > float(wanted)
        assert bool(limit) == missed, title

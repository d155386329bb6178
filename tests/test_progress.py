"""Progress in a log: plain lines with rate and time left."""

import re

import pytest

from genotok import progress as module
from genotok.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves; `clock[0]` is the time in seconds."""
    time = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


def test_lines_come_every_ten_seconds(clock, capsys):
    with progress("score", 1000, "variants") as bar:
        for _ in range(25):
            clock[0] += 1
            bar.advance(10, note="chr1")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "score: 100 of 1.00k variants (10%), 10 variants/s, 1:30 left, chr1",
        "score: 200 of 1.00k variants (20%), 10 variants/s, 1:20 left, chr1",
        "score: 250 variants in 0:25, 10 variants/s",
    ]


def test_without_a_total(clock, capsys):
    with progress("tokenize", None, "bases") as bar:
        clock[0] += 12
        bar.advance(36_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "tokenize: 36.00M bases, 3.00M bases/s",
        "tokenize: 36.00M bases in 0:12, 3.00M bases/s",
    ]


def test_work_of_an_earlier_run_does_not_count_towards_the_rate(clock, capsys):
    with progress("train", 1000, "bases") as bar:
        bar.resume_at(800)
        clock[0] += 10
        bar.advance(100)
    assert capsys.readouterr().err.splitlines()[0] == "train: 900 of 1.00k bases (90%), 10 bases/s, 0:10 left"


def test_the_last_line_comes_also_after_an_error(capsys):
    with pytest.raises(ZeroDivisionError), progress("score", 10, "variants"):
        raise ZeroDivisionError
    assert re.fullmatch(r"score: 0 variants in 0:00, .* variants/s\n", capsys.readouterr().err)


def test_long_runs(clock, capsys):
    with progress("train", None, "bases") as bar:
        clock[0] += 2 * 3600 + 3 * 60 + 4
        bar.advance(1)
    assert "in 2:03:04," in capsys.readouterr().err

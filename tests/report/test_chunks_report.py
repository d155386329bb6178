"""The picture of the chunks along a region."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from genotok.errors import InputError
from genotok.interpret.chunks import RegionChunks, chunks_of_region
from genotok.report.chunks import BASES_PER_LINE, chunk_picture, report_chunks

REGION = "c&1$x$:101-220"


def letters_of(figure):
    """The letters of each line of the picture."""
    lines = [
        "".join(text.get_text() for text in axes.texts if len(text.get_text()) == 1) for axes in figure.axes
    ]
    return [line for line in lines if line]


def test_files(results, tmp_path):
    for name in ("one", "two"):
        report_chunks(results.run, results.fasta, REGION, tmp_path / name, window=64, device="cpu")
    names = ["chunks.json", "chunks.svg", "chunks.tsv"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    found = chunks_of_region(results.run, results.fasta, REGION, window=64, device="cpu")
    table = pd.read_csv(tmp_path / "one" / "chunks.tsv", sep="\t")
    assert table["position"].tolist() == list(range(101, 221))
    assert "".join(table["base"]) == found.letters
    assert table["surprisal"].to_numpy() == pytest.approx(found.surprisal, rel=1e-5)
    for stage in range(2):
        assert np.array_equal(table[f"boundary_stage{stage}"] == 1, found.begins[stage])
    summary = json.loads((tmp_path / "one" / "chunks.json").read_text())
    assert summary["region"] == "c&1$x$:101-220"
    assert [stage["chunks"] for stage in summary["stages"]] == [
        len(found.chunks(stage)) for stage in range(2)
    ]
    assert summary["mean_surprisal"] == pytest.approx(found.surprisal.mean())


def region(length, stages):
    """Chunks of three bases, and within them of six."""
    begins = [np.arange(length) % (3 * 2**stage) == 0 for stage in range(stages)]
    probability = [np.where(begin, 0.9, 0.1).astype(np.float32) for begin in begins]
    surprisal = np.linspace(0.5, 3, length)
    return RegionChunks("c", 1000, 1000 + length, "ACGTN" * (length // 5), begins, probability, surprisal)


def test_letters_and_colours_of_chunks():
    found = region(120, stages=2)
    figure, _ = chunk_picture(found)
    assert letters_of(figure) == [found.letters[:50], found.letters[50:100], found.letters[100:]]
    tinted = figure.axes[0]
    spans = [path.get_extents() for bars in tinted.collections for path in bars.get_paths()]
    outer = sorted((round(span.x0), round(span.x1)) for span in spans if span.y0 == 0)
    inner = sorted((round(span.x0), round(span.x1)) for span in spans if span.y0 > 0)
    assert outer == [(start, min(start + 3, BASES_PER_LINE)) for start in range(0, BASES_PER_LINE, 3)]
    assert inner == [(start, min(start + 6, BASES_PER_LINE)) for start in range(0, BASES_PER_LINE, 6)]
    colours = [
        tuple(bars.get_facecolor()[0])
        for bars in tinted.collections
        if bars.get_paths()[0].get_extents().y0 == 0
    ]
    assert all(one != other for one, other in pairwise(colours))


def test_tracks_show_probability_and_surprisal():
    found = region(20, stages=1)
    figure, _ = chunk_picture(found)
    _, probability, surprisal = figure.axes
    assert [bar.get_height() for bar in probability.patches] == pytest.approx(found.probability[0])
    assert [bar.get_height() for bar in surprisal.patches] == pytest.approx(found.surprisal)
    assert [label.get_text() for label in surprisal.get_xticklabels()] == ["1,010", "1,020"]
    assert surprisal.get_xticks().tolist() == [9.5, 19.5]


def test_a_model_without_stages(tmp_path):
    found = region(60, stages=0)
    found.surprisal[:] = np.nan
    figure, table = chunk_picture(found)
    assert len(figure.axes) == 2 * 2
    assert letters_of(figure) == [found.letters[:50], found.letters[50:]]
    assert list(table) == ["contig", "position", "base", "surprisal"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train1:1-401", "ends behind train1, which has 400 bases"),
        ("train1:40", "is neither CONTIG:START-END"),
    ],
)
def test_bad_regions(results, tmp_path, text, sentence):
    with pytest.raises(InputError) as caught:
        report_chunks(results.run, results.fasta, text, tmp_path / "out")
    assert sentence in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_region_too_long_for_a_picture(results, tmp_path):
    (tmp_path / "long.fa").write_text(">c\n" + "ACGT" * 200 + "\n")
    with pytest.raises(InputError, match="has 701 bases, and a picture shows at most 600; take c:11-610"):
        report_chunks(results.run, tmp_path / "long.fa", "c:11-711", tmp_path / "out")

"""Bits per base beside the baselines, and chunk lengths."""

import json

import pandas as pd
import pytest

from genotok.errors import InputError
from genotok.evaluation.length_histogram import listed_lengths
from genotok.report.evaluation import (
    bits_against_baselines,
    bits_table,
    chunk_length_histogram,
    report_evaluation,
)
from genotok.report.names import predictor_label


@pytest.fixture
def metrics(results):
    return json.loads(results.metrics.read_text())


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_files(results, metrics, tmp_path):
    for name in ("one", "two"):
        report_evaluation(results.metrics, tmp_path / name)
    names = [
        "bits_per_base.svg",
        "bits_per_base.tsv",
        "chunk_lengths.svg",
        "chunk_lengths.tsv",
        "evaluation.json",
    ]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert json.loads((tmp_path / "one" / "evaluation.json").read_text()) == metrics
    table = pd.read_csv(tmp_path / "one" / "bits_per_base.tsv", sep="\t").set_index(["predictor", "contig"])
    for contig in metrics["contigs"]:
        assert table["bits_per_base"]["model", contig["contig"]] == pytest.approx(
            contig["bits_per_base"], rel=1e-5
        )


def test_the_figure_says_each_value(metrics):
    figure, table = bits_against_baselines(metrics)
    axes = figure.axes[0]
    names = ["uniform", "markov_1", "markov_2", "markov_mixture", "model"]
    assert table["predictor"].unique().tolist() == names
    assert [label.get_text() for label in axes.get_yticklabels()] == [predictor_label(name) for name in names]
    totals = [metrics["baselines"][name] for name in names[:-1]] + [metrics["model"]]
    assert texts(axes) == [f"{total['bits_per_base']:.4f}" for total in totals]
    dots = [collection.get_offsets().tolist() for collection in axes.collections]
    assert dots[-2] == [[contig["bits_per_base"], 4] for contig in metrics["contigs"]]
    assert dots[-1] == [[metrics["model"]["bits_per_base"], 4]]


def test_contigs_without_a_certain_base(metrics):
    """`genotok evaluate` writes null where there is nothing to divide by."""
    nothing = {"bits_per_base": None, "nucleotides": 0}
    metrics["model"] |= nothing
    metrics["contigs"][0] |= nothing
    figure, table = bits_against_baselines(metrics)
    assert texts(figure.axes[0])[-1] == "none"
    assert table["bits_per_base"].isna().sum() == 2


def test_labels():
    assert [predictor_label(name) for name in ("markov_11", "markov_mixture", "model", "new")] == [
        "Markov, order 11",
        "Markov, mixture",
        "this model",
        "new",
    ]


def test_chunk_lengths(metrics):
    figure, table = chunk_length_histogram(metrics)
    assert table.groupby("stage")["share"].sum().tolist() == pytest.approx([1, 1])
    for axes, stage in zip(figure.axes, metrics["stages"], strict=True):
        heights = {round(bar.get_center()[0]): bar.get_height() for bar in axes.patches}
        expected = {int(length): 100 * n / stage["chunks"] for length, n in stage["lengths"].items()}
        assert heights == pytest.approx(expected)
        assert texts(axes) == [f"mean {stage['mean_length']:.2f} bases"]


def test_the_longest_bin_says_that_it_holds_longer_ones(metrics):
    lengths = listed_lengths({70: 1, 3: 1, 64: 1, 999: 1})
    assert lengths == {"3": 1, "64": 3}
    metrics["stages"] = [{"stage": 0, "chunks": 4, "mean_length": 284.0, "lengths": lengths}]
    figure, _ = chunk_length_histogram(metrics)
    axes = figure.axes[0]
    assert axes.get_xticklabels()[-1].get_text() == "≥ 64"
    assert texts(axes) == ["mean 284.00 bases"]
    figure.draw_without_rendering()
    for label in (axes.xaxis.label, axes.texts[0]):
        box = label.get_window_extent()
        assert figure.bbox.fully_contains(box.x0, box.y0), label
        assert figure.bbox.fully_contains(box.x1, box.y1), label


def test_no_stages(metrics):
    figure, table = chunk_length_histogram(metrics | {"stages": []})
    assert "no chunking stage" in figure.texts[0].get_text()
    assert table.empty


def test_many_contigs_stay_a_small_file(metrics, tmp_path):
    metrics["contigs"] *= 4000
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    report_evaluation(tmp_path / "metrics.json", tmp_path)
    assert (tmp_path / "bits_per_base.svg").stat().st_size < 500_000
    assert len(bits_table(metrics)) == 5 * 8001


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "is no JSON object"),
        (
            '{"model": {}, "baselines": {}, "stages": []}',
            "has no 'contigs'; give the JSON file of `genotok evaluate`",
        ),
    ],
)
def test_bad_metrics(tmp_path, text, sentence):
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"metrics\.json: ") as caught:
        report_evaluation(path, tmp_path / "out")
    assert sentence in str(caught.value)
    assert not (tmp_path / "out").exists()

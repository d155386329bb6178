"""Scores by class, and beside measured effects."""

import json

import numpy as np
import pandas as pd
import pytest

from genotok.errors import InputError
from genotok.evaluation.variant_effect import evaluate_variants
from genotok.report.names import signed
from genotok.report.scored_alleles import read_alleles
from genotok.report.variants import (
    agreement_table,
    llr_against_truth,
    report_variants,
    score_distribution,
    variant_effect,
)

WITH_TRUTH = [
    "llr_against_truth.svg",
    "llr_against_truth.tsv",
    "llr_distribution.svg",
    "llr_distribution.tsv",
    "variant_effect.json",
    "variant_effect.svg",
    "variant_effect.tsv",
]


@pytest.fixture
def alleles(results):
    return read_alleles(results.parquet, results.vcf, "FITNESS", "CLASS")


def report(results, folder, truth="FITNESS", consequence="CLASS", **options):
    report_variants(results.parquet, results.vcf, truth, consequence, folder, resamples=50, **options)
    return json.loads((folder / "variant_effect.json").read_text())


def labels(figure):
    return [text.get_text().split("\n") for axes in figure.axes for text in axes.texts]


def test_files(results, alleles, tmp_path):
    summary = report(results, tmp_path / "one", harmful_below=-0.5)
    assert report(results, tmp_path / "two", harmful_below=-0.5) == summary
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == WITH_TRUTH
    for name in WITH_TRUTH:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert summary["status"] == {"ok": 80, "symbolic": 1, "unknown_contig": 1}
    assert summary["alleles"] == 82
    assert summary["llr"]["median"] == pytest.approx(alleles["llr"].median())
    assert summary["fields"] == {"truth": "FITNESS", "consequence": "CLASS"}
    assert summary["scoring"]["window"] == "32"
    options = {"truth": "truth", "consequence": "consequence", "harmful_below": -0.5, "resamples": 50}
    assert summary["statistics"] == evaluate_variants(alleles, "llr", **options)
    table = pd.read_csv(tmp_path / "one" / "variant_effect.tsv", sep="\t").set_index(
        ["variants", "predictor"]
    )
    model = summary["statistics"]["predictors"]["model"]
    assert table["spearman"]["all", "model"] == pytest.approx(model["spearman"], rel=1e-5)
    assert table["auroc"]["all", "model"] == pytest.approx(model["auroc"], rel=1e-5)


def test_without_truth_only_the_distribution(results, tmp_path):
    summary = report(results, tmp_path, truth="")
    files = ["llr_distribution.svg", "llr_distribution.tsv", "variant_effect.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert summary["statistics"] is None
    assert summary["fields"] == {"truth": None, "consequence": "CLASS"}


def test_without_any_field(results, tmp_path):
    assert report(results, tmp_path, None, None)["alleles"] == 82
    table = pd.read_csv(tmp_path / "llr_distribution.tsv", sep="\t")
    assert table["class"].unique().tolist() == ["all alleles"]
    assert table["alleles"].sum() == 80


def test_bad_field_leaves_nothing(results, tmp_path):
    with pytest.raises(InputError, match="INFO field DEPTH has Number=1"):
        report(results, tmp_path / "out", truth="DEPTH")
    assert not (tmp_path / "out").exists()


def test_a_panel_for_each_class(alleles):
    figure, table = score_distribution(alleles)
    scored = alleles[alleles["llr"].notna()]
    medians = scored["llr"].groupby(scored["consequence"]).median().sort_values(ascending=False)
    counts = scored["consequence"].value_counts()
    expected = [[name, f"n = {counts[name]}", f"median {signed(medians[name])}"] for name in medians.index]
    assert labels(figure) == expected
    assert table.groupby("class")["alleles"].sum().to_dict() == counts.to_dict()
    for axes, name in zip(figure.axes, medians.index, strict=True):
        mine = table[table["class"] == name]
        heights = axes.patches[0].get_data().values
        assert heights == pytest.approx(100 * mine["alleles"].to_numpy() / counts[name])


def test_outermost_bins_hold_the_tails():
    llr = np.concatenate([np.linspace(-1, 1, 5000), [-90.0, 70.0]])
    _, table = score_distribution(pd.DataFrame({"llr": llr}))
    assert table["alleles"].sum() == 5002
    assert table["llr_from"].min() > -1.01
    assert table["llr_to"].max() < 1.01


def test_rare_and_unknown_classes():
    names = ["a"] * 30 + ["b"] * 19 + ["c"] + [None] * 30
    table = pd.DataFrame({"llr": np.arange(80.0), "consequence": names})
    assert [label[:2] for label in labels(score_distribution(table)[0])] == [
        ["unknown", "n = 30"],
        ["a", "n = 30"],
        ["other classes", "n = 20"],
    ]
    few = score_distribution(table[:5])
    assert labels(few[0])[0][:2] == ["all alleles", "n = 5"]


def test_scores_that_are_all_one_number():
    _, table = score_distribution(pd.DataFrame({"llr": [0.25] * 9 + [np.nan]}))
    assert table[table["alleles"] > 0].to_numpy().tolist() == [["all alleles", -0.25, 0.75, 9]]


def test_no_scores():
    nothing = pd.DataFrame({"llr": [np.nan], "truth": [1.0]})
    for figure, table in (score_distribution(nothing), llr_against_truth(nothing, "F")):
        assert figure.texts[0].get_text().startswith("No allele has")
        assert table.empty


def test_dots_and_whiskers(alleles):
    statistics = evaluate_variants(alleles, "llr", "truth", "consequence", resamples=50)
    figure, table = variant_effect(statistics)
    axes = figure.axes[0]
    assert len(table) == 4 + 3 * 2
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == table["spearman"].tolist()
    whiskers = [list(line.get_xdata()) for line in axes.lines[1:] if line.get_marker() == "None"]
    assert whiskers == table[["ci_low", "ci_high"]].to_numpy().tolist()
    assert ["all variants", f"n = {statistics['n']}"] in labels(figure)


def test_undefined_correlations(alleles):
    """Three alleles of one truth have no correlation; the figure says so."""
    few = alleles[:3].assign(truth=1.0)
    figure, table = variant_effect(evaluate_variants(few, "llr", "truth"))
    assert table["spearman"].isna().all()
    assert labels(figure)[:2] == [["undefined"], ["undefined"]]


def test_hexagons_count_every_allele(alleles):
    figure, table = llr_against_truth(alleles, "FITNESS")
    known = alleles[alleles["llr"].notna() & alleles["truth"].notna()]
    assert table["alleles"].sum() == len(known) == 72
    medians = figure.axes[0].lines[0]
    assert len(medians.get_xdata()) == 20
    assert list(medians.get_xdata()) == sorted(medians.get_xdata())
    lowest = known.nsmallest(4, "llr")  # 72 alleles: the first of 20 parts has four
    assert medians.get_xydata()[0].tolist() == pytest.approx(
        [lowest["llr"].median(), lowest["truth"].median()]
    )


def test_signed():
    assert [signed(number) for number in (0.5, -0.25)] == ["+0.500", "\N{MINUS SIGN}0.250"]


def test_agreement_table_keeps_the_order():
    one = {"n": 3, "spearman": None, "ci_low": None, "ci_high": None, "p": None}
    statistics = {
        "predictors": {"model": one, "transition": one},
        "per_consequence": {"b": {"model": one}, "a": {}},
    }
    table = agreement_table(statistics)
    assert table[["variants", "predictor"]].to_numpy().tolist() == [
        ["all", "model"],
        ["all", "transition"],
        ["b", "model"],
    ]

"""Variant-effect statistics against scipy and against definitions written out."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genotok.errors import InputError
from genotok.evaluation.variant_effect import (
    auroc,
    average_precision,
    consequence_score,
    evaluate_variants,
    spearman_with_interval,
    transition_or_transversion,
)

small_scores = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40)


def paired(size, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=size)
    return truth + rng.normal(size=size), truth


def test_correlation_and_p_are_those_of_scipy_with_ties():
    scores, truth = paired(300)
    scores = scores.round(1)
    found = spearman_with_interval(scores, truth.round(0))
    expected = stats.spearmanr(scores, truth.round(0))
    assert found["spearman"] == pytest.approx(expected.statistic, abs=1e-12)
    assert found["p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found["n"], found["n_missing"]) == (300, 0)
    assert found["ci_low"] < found["spearman"] < found["ci_high"]


def test_interval_agrees_with_scipys_bootstrap():
    scores, truth = paired(400, seed=1)
    ours = spearman_with_interval(scores, truth, resamples=2000)
    theirs = stats.bootstrap(
        (scores, truth),
        lambda one, other: stats.spearmanr(one, other).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert ours["ci_low"] == pytest.approx(theirs.low, abs=0.012)
    assert ours["ci_high"] == pytest.approx(theirs.high, abs=0.012)


def test_each_resample_is_ranked_anew():
    scores, truth = np.array([1.0, 2, 2, 3, 5, 8]), np.array([1.0, 3, 2, 2, 9, 4])
    rng, drawn = np.random.default_rng(5), []
    for _ in range(200):
        chosen = (rng.random(6) * 6).astype(int)
        if np.ptp(scores[chosen]) and np.ptp(truth[chosen]):
            drawn.append(stats.spearmanr(scores[chosen], truth[chosen]).statistic)
    found = spearman_with_interval(scores, truth, resamples=200, seed=5, confidence=0.9)
    np.testing.assert_allclose(
        [found["ci_low"], found["ci_high"]], np.quantile(drawn, [0.05, 0.95]), atol=1e-12
    )


def test_same_seed_same_interval_and_wider_confidence_wider_interval():
    scores, truth = paired(200)
    assert spearman_with_interval(scores, truth, seed=3) == spearman_with_interval(scores, truth, seed=3)
    assert spearman_with_interval(scores, truth, seed=3) != spearman_with_interval(scores, truth, seed=4)
    narrow, wide = (spearman_with_interval(scores, truth, confidence=level) for level in (0.5, 0.99))
    assert wide["ci_low"] < narrow["ci_low"] < narrow["ci_high"] < wide["ci_high"]


def test_strata_keep_their_sizes():
    scores, truth = np.array([0.0, 1, 10, 11]), np.array([0.0, 1, 10, 11])
    alone = spearman_with_interval(scores, truth, strata=["a", "b", "c", "d"])
    assert (alone["ci_low"], alone["ci_high"]) == (pytest.approx(1), pytest.approx(1))
    groups = np.repeat([0, 1], 200)  # two groups far apart, no agreement inside
    noise = np.random.default_rng(0).normal(size=(2, 400))
    within = spearman_with_interval(noise[0] + 9 * groups, noise[1] + 9 * groups, strata=groups)
    free = spearman_with_interval(noise[0] + 9 * groups, noise[1] + 9 * groups)
    assert within["spearman"] == free["spearman"]
    assert within["ci_high"] - within["ci_low"] < free["ci_high"] - free["ci_low"]


def test_missing_values_are_left_out_and_counted():
    scores, truth = paired(50)
    scores[3], truth[7], truth[3] = np.nan, np.nan, np.nan
    known = [i for i in range(50) if i not in (3, 7)]
    found = spearman_with_interval(scores, truth)
    assert (found["n"], found["n_missing"]) == (48, 2)
    assert found["spearman"] == pytest.approx(stats.spearmanr(scores[known], truth[known]).statistic)


def test_minus_infinity_is_the_lowest_score():
    assert spearman_with_interval([-np.inf, 0, 1, 2], [0, 1, 2, 3])["spearman"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        ([], []),
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0] * 9, range(9)),
        (range(9), [1.0] * 9),
        ([np.nan] * 9, range(9)),
    ],
)
def test_undefined_correlation_is_null(scores, truth):
    found = spearman_with_interval(list(scores), list(truth))
    assert [found[key] for key in ("spearman", "ci_low", "ci_high", "p")] == [None] * 4
    json.dumps(found, allow_nan=False)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="3 scores, 2 true values"):
        spearman_with_interval([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="1 strata"):
        spearman_with_interval([1, 2, 3], [1, 2, 3], strata=["a"])
    with pytest.raises(InputError, match="resample"):
        spearman_with_interval([1, 2, 3], [1, 2, 3], resamples=0)
    with pytest.raises(InputError, match="confidence"):
        spearman_with_interval([1, 2, 3], [1, 2, 3], confidence=95)


def test_ten_thousand_variants_take_seconds():
    start = time.monotonic()
    spearman_with_interval(*paired(10_000))
    assert time.monotonic() - start < 10


@settings(max_examples=100, deadline=None)
@given(small_scores)
def test_areas_are_their_definitions(pairs):
    scores, positive = np.array([s for s, _ in pairs]), np.array([p for _, p in pairs])
    wins = [float(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert auroc(scores, positive) == (pytest.approx(np.mean(wins)) if wins else None)
    if not positive.any():
        assert average_precision(scores, positive) is None
        return
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = scores >= threshold
        recall = (taken & positive).sum() / positive.sum()
        area += (recall - recall_before) * (taken & positive).sum() / taken.sum()
        recall_before = recall
    assert average_precision(scores, positive) == pytest.approx(area)


def test_areas_on_a_worked_example():
    assert auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == pytest.approx(0.8333333333333333)


def test_transitions():
    ref, alt = ["A", "c", "G", "A", "A", "AT", "N", "A"], ["G", "T", "C", "T", "A", "A", "A", "<DEL>"]
    np.testing.assert_array_equal(transition_or_transversion(ref, alt), [1, 1, 0, 0] + [np.nan] * 4)


def test_consequences_in_order_of_harm():
    names = [
        "synonymous",
        "noncoding",
        "missense",
        "start_lost",
        "stop_lost",
        "nonsense",
        None,
        "",
        ".",
        np.nan,
    ]
    np.testing.assert_array_equal(consequence_score(names), [0, 0, -1, -2, -2, -3] + [np.nan] * 4)
    assert consequence_score([]).shape == (0,)
    with pytest.raises(InputError, match="unknown consequence 'frame'"):
        consequence_score(["missense", "frame"])


def variant_table():
    rng = np.random.default_rng(0)
    bases = np.array(list("ACGT"))
    ref = rng.integers(0, 4, 300)
    table = pd.DataFrame({"ref": bases[ref], "alt": bases[(ref + rng.integers(1, 4, 300)) % 4]})
    table["what"] = rng.choice(["missense", "synonymous", "nonsense"], 300, p=[0.6, 0.38, 0.02])
    table["fitness"] = consequence_score(table["what"]) + rng.normal(size=300)
    table["llr"] = table["fitness"] + rng.normal(size=300)
    return table


def test_table_is_evaluated_beside_the_trivial_scores():
    table = variant_table()
    table.loc[:9, "llr"] = np.nan
    table.loc[10, "fitness"] = np.nan
    table.loc[11, ["ref", "alt"]] = ["AT", "A"]
    found = evaluate_variants(table, consequence="what", harmful_below=-2.0)
    json.dumps(found, allow_nan=False)
    assert (found["n"], found["n_missing"]) == (289, 11)
    judged = table[11:]
    assert list(found["predictors"]) == ["model", "transition", "consequence", "consequence_then_transition"]
    model = found["predictors"]["model"]
    assert model["spearman"] == pytest.approx(stats.spearmanr(judged.llr, judged.fitness).statistic)
    assert model["harmful"] == (judged.fitness < -2).sum()
    assert model["auroc"] == pytest.approx(auroc(-judged.llr, judged.fitness < -2))
    assert found["predictors"]["consequence"]["n"] == 289
    assert (found["predictors"]["transition"]["n"], found["predictors"]["transition"]["n_missing"]) == (
        288,
        1,
    )
    by_hand = consequence_score(judged.what) + transition_or_transversion(judged.ref, judged.alt) / 2
    expected = stats.spearmanr(by_hand, judged.fitness, nan_policy="omit").statistic
    assert found["predictors"]["consequence_then_transition"]["spearman"] == pytest.approx(expected)
    missense = judged[judged.what == "missense"]
    inside = found["per_consequence"]["missense"]
    assert inside["model"]["spearman"] == pytest.approx(
        stats.spearmanr(missense.llr, missense.fitness).statistic
    )
    assert sum(part["model"]["n"] for part in found["per_consequence"].values()) == 289


def test_table_without_consequences_or_threshold():
    found = evaluate_variants(variant_table())
    assert set(found) == {"n", "n_missing", "predictors"}
    assert list(found["predictors"]) == ["model", "transition"]
    assert "auroc" not in found["predictors"]["model"]
    assert found == evaluate_variants(variant_table())


def test_empty_and_constant_tables_give_nulls():
    empty = evaluate_variants(variant_table()[:0], consequence="what", harmful_below=0.0)
    assert (empty["n"], empty["per_consequence"]) == (0, {})
    assert empty["predictors"]["model"]["spearman"] is None
    assert empty["predictors"]["model"]["auroc"] is None
    constant = evaluate_variants(variant_table().assign(llr=0.0), harmful_below=-1.0)
    assert constant["predictors"]["model"]["spearman"] is None
    assert constant["predictors"]["model"]["auroc"] == 0.5
    json.dumps([empty, constant], allow_nan=False)


def test_tables_that_cannot_be_judged_are_refused():
    with pytest.raises(InputError, match="no column 'score'; its columns are ref, alt"):
        evaluate_variants(variant_table(), score="score")
    with pytest.raises(InputError, match="'llr' of the variant table holds text"):
        evaluate_variants(variant_table().assign(llr="high"))
    with pytest.raises(InputError, match="unknown consequence"):
        evaluate_variants(variant_table().assign(what="bad"), consequence="what")

"""Bootstrap draws against metrics of tables that hold each row as often as it was drawn."""

import numpy as np
import pytest

from genotok.evaluation.resampling import (
    compare_methods,
    draw_weights,
    drawn_metrics,
    interval,
    metric_keys,
    point_metrics,
)
from genotok.models.prediction_heads import HeadConfig

ROWS = 40


def some_predictions(head, seed=0):
    """Rounded, so that there are ties; labels that depend on them a little."""
    random = np.random.default_rng(seed)
    predictions = (4 * random.normal(size=(ROWS, head.outputs))).round() / 4
    noisy = predictions + 2 * random.normal(size=predictions.shape)
    if head.kind == "classification":
        return predictions, noisy.argmax(1)
    return predictions, (noisy > 0.5).astype(np.float32) if head.kind == "multi_label" else noisy.astype(
        np.float32
    )


@pytest.mark.parametrize(
    "head",
    [
        HeadConfig("classification", 2),
        HeadConfig("classification", 5),
        HeadConfig("multi_label", 1),
        HeadConfig("multi_label", 3),
        HeadConfig("regression", 1),
        HeadConfig("regression", 2),
    ],
)
def test_a_draw_is_a_table_with_repeated_rows(head):
    predictions, labels = some_predictions(head)
    weights = draw_weights(np.arange(ROWS), 60, 1)
    assert (weights.sum(1) == ROWS).all()
    found = drawn_metrics(predictions, labels, head, weights)
    for draw, row in enumerate(weights):
        chosen = np.repeat(np.arange(ROWS), row.astype(int))
        expected = point_metrics(predictions[chosen], labels[chosen], head)
        for key in metric_keys(head):
            wanted = np.nan if expected[key] is None else expected[key]
            assert found[key][draw] == pytest.approx(wanted, rel=1e-6, abs=1e-9, nan_ok=True), key


def test_a_draw_without_a_class():
    """Undefined areas are left out, and the others stay."""
    head, labels = HeadConfig("classification", 2), np.array([0, 0, 1])
    weights = np.array([[1.0, 2, 0], [1, 1, 1]])
    found = drawn_metrics(np.array([[1.0, 0], [0, 1], [0, 1]]), labels, head, weights)
    assert np.isnan(found["auroc"]).tolist() == [True, False]
    assert found["mcc"].tolist() == [0, pytest.approx(0.5)]
    assert found["accuracy"].tolist() == [pytest.approx(1 / 3), pytest.approx(2 / 3)]


def test_copies_are_drawn_together():
    groups = np.array([5, 5, 7, 9, 9, 9])
    weights = draw_weights(groups, 200, 0)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3:] == weights[:, 3:4]).all()
    assert ((weights[:, 0] + weights[:, 2] + weights[:, 3]) == 3).all()


def test_the_interval_covers_what_is_known():
    """Accuracy of 0.8: its bootstrap interval is close to the binomial one."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 1000)
    right = random.random(1000) < 0.8
    logits = np.eye(2)[np.where(right, labels, 1 - labels)]
    compared = compare_methods(
        {"one": [logits], "same": [logits], "worse": [logits[::-1]]},
        labels,
        np.arange(1000),
        HeadConfig("classification", 2),
    )
    accuracy = compared["methods"]["one"]["metrics"]["accuracy"]
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 1000)
    assert accuracy["value"] == right.mean()
    assert accuracy["low"] == pytest.approx(right.mean() - half, abs=0.004)
    assert accuracy["high"] == pytest.approx(right.mean() + half, abs=0.004)
    assert compared["differences"]["same"]["mcc"] == {"value": 0, "low": 0, "high": 0}
    worse = compared["differences"]["worse"]["auroc"]
    assert 0 < worse["low"] < worse["value"] < worse["high"]


def test_repetitions_are_averaged():
    head, labels = HeadConfig("classification", 2), np.array([0, 1] * 10)
    right, wrong = np.eye(2)[labels], np.eye(2)[1 - labels]
    compared = compare_methods({"one": [right, wrong]}, labels, np.arange(20), head, draws=50)
    assert compared["methods"]["one"]["metrics"]["accuracy"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_no_interval_where_nothing_is_defined():
    assert interval(np.array([np.nan, np.nan])) == (None, None)

"""Bootstrap intervals of the metrics of predictions, all methods on the same draws of sequences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from scipy.stats import spearmanr

from genotok.evaluation.prediction_metrics import METRICS
from genotok.models.prediction_heads import HeadConfig
from genotok.tokenizers import IGNORED_LABEL

CLASS_KEYS = ("mcc", "auroc", "auprc", "accuracy", "f1")
NUMBER_KEYS = ("pearson", "spearman", "r2", "mse")
DRAWS_AT_ONCE = 50


def metric_keys(head: HeadConfig) -> tuple[str, ...]:
    """The metrics of a kind of labels, the main one first."""
    return NUMBER_KEYS if head.kind == "regression" else CLASS_KEYS


def draw_weights(groups: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(draws, R) how often each row stands in each bootstrap sample; rows with one number are drawn together.

    Args:
        groups: (R,) int64.
        draws: samples.
        seed: fixes them.
    """
    _, groups = np.unique(groups, return_inverse=True)
    random, count = np.random.default_rng(seed), int(groups.max()) + 1
    drawn = [np.bincount(random.integers(0, count, count), minlength=count)[groups] for _ in range(draws)]
    return np.array(drawn, np.float64).reshape(draws, len(groups))


def point_metrics(predictions: np.ndarray, labels: np.ndarray, head: HeadConfig) -> dict[str, Any]:
    """The metrics of `genotok.evaluation.prediction_metrics`, of (R, N) predictions."""
    return METRICS[head.kind](np.asarray(predictions, np.float64), labels, head)


def drawn_metrics(
    predictions: np.ndarray, labels: np.ndarray, head: HeadConfig, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """The metrics of each bootstrap sample, (draws,) a metric, NaN where a sample leaves one undefined.

    They are what `point_metrics` gives for a table in which each row stands as often as its weight says.

    Args:
        predictions: (R, N) logits or numbers.
        labels: as `genotok.training.labelled` has them, all known.
        head: their kind.
        weights: (draws, R).
    """
    of_kind = {"classification": _class_draws, "multi_label": _answer_draws, "regression": _number_draws}
    parts = [
        of_kind[head.kind](np.asarray(predictions, np.float64), labels, part)
        for part in np.array_split(weights, max(len(weights) // DRAWS_AT_ONCE, 1))
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in metric_keys(head)}


def _class_draws(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    known = labels != IGNORED_LABEL
    logits, labels, weights = logits[known], labels[known], weights[:, known]
    count, probability = logits.shape[1], softmax(logits, axis=1)
    pairs = labels * count + logits.argmax(1)
    confusion = np.stack([np.bincount(pairs, row, count * count) for row in weights]).reshape(
        -1, count, count
    )
    f1 = _f1(confusion)
    chosen = [1] if count == 2 else range(count)
    areas = [_areas(labels == k, probability[:, k], weights) for k in chosen]
    present = confusion.sum(2) > 0
    return {
        "mcc": _mcc(confusion),
        "auroc": _nan_mean(np.stack([area[0] for area in areas], 1)),
        "auprc": _nan_mean(np.stack([area[1] for area in areas], 1)),
        "accuracy": np.trace(confusion, axis1=1, axis2=2) / confusion.sum((1, 2)),
        "f1": f1[:, 1] if count == 2 else _nan_mean(np.where(present, f1, np.nan)),
    }


def _answer_draws(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    found = []
    for k in range(logits.shape[1]):
        truth, probability = labels[:, k] == 1, expit(logits[:, k])
        pairs = truth * 2 + (probability >= 0.5)
        confusion = np.stack([np.bincount(pairs, row, 4) for row in weights]).reshape(-1, 2, 2)
        auroc, auprc = _areas(truth, probability, weights)
        accuracy = np.trace(confusion, axis1=1, axis2=2) / confusion.sum((1, 2))
        values = (_mcc(confusion), auroc, auprc, accuracy, _f1(confusion)[:, 1])
        found.append(dict(zip(CLASS_KEYS, values, strict=True)))
    return {key: _nan_mean(np.stack([part[key] for part in found], 1)) for key in CLASS_KEYS}


def _number_draws(numbers: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, list] = {key: [] for key in NUMBER_KEYS}
    for row in weights:
        chosen = np.repeat(np.arange(len(row)), row.astype(int))
        values = [
            _of_numbers(numbers[chosen, k], labels[chosen, k].astype(float)) for k in range(numbers.shape[1])
        ]
        for key, column in zip(NUMBER_KEYS, np.array(values).T, strict=True):
            found[key].append(_nan_mean(column[None])[0])
    return {key: np.array(values) for key, values in found.items()}


def _of_numbers(found: np.ndarray, truth: np.ndarray) -> tuple[float, float, float, float]:
    error = float(((found - truth) ** 2).mean())
    spread = truth.var()
    if not spread:
        return np.nan, np.nan, np.nan, error
    if not found.var():
        return np.nan, np.nan, 1 - error / spread, error
    return np.corrcoef(found, truth)[0, 1], spearmanr(found, truth)[0], 1 - error / spread, error


def _mcc(confusion: np.ndarray) -> np.ndarray:
    """Gorodkin's R_K of (draws, C, C) counts; 0 where a side is constant, as scikit-learn has it."""
    total = confusion.sum((1, 2))
    truth, said = confusion.sum(2), confusion.sum(1)
    right = np.trace(confusion, axis1=1, axis2=2)
    above = right * total - (truth * said).sum(1)
    below = np.sqrt((total**2 - (said**2).sum(1)) * (total**2 - (truth**2).sum(1)))
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _f1(confusion: np.ndarray) -> np.ndarray:
    """(draws, C), 0 for a class that neither occurs nor is predicted."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    both = confusion.sum(1) + confusion.sum(2)
    return np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0)


def _areas(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision of each draw; equal scores form one step."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    drawn, yes = weights[:, order], truth[order]
    hits = np.cumsum(drawn * yes, axis=1)[:, ends]
    misses = np.cumsum(drawn * ~yes, axis=1)[:, ends]
    more_hits, more_misses = np.diff(hits, prepend=0), np.diff(misses, prepend=0)
    positives, negatives = hits[:, -1], misses[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc = ((hits - more_hits / 2) * more_misses).sum(1) / (positives * negatives)
        precision = np.where(hits > 0, hits / (hits + misses), 0.0)
        auprc = (more_hits * precision).sum(1) / positives
    auprc[(negatives == 0) | (positives == 0)] = np.nan
    return auroc, auprc


def _nan_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(-1)
    return np.divide(total, known.sum(-1), out=np.full(len(values), np.nan), where=known.any(-1))


def interval(drawn: np.ndarray, confidence: float = 0.95) -> tuple[float | None, float | None]:
    """The percentile interval of bootstrap values; None where none is defined."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return None, None
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def compare_methods(
    predictions: dict[str, Sequence[np.ndarray]],
    labels: np.ndarray,
    groups: np.ndarray,
    head: HeadConfig,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The metrics of several methods with 95 % intervals, and how much the first is above each of the others.

    Intervals are percentiles of a bootstrap over different sequences (Efron and Tibshirani, 1993): copies of one are
    drawn together, and every method is held against the same draws.

    Args:
        predictions: by method (R, N), one array for each repetition with another seed; values are their means.
        labels: of the R rows.
        groups: (R,) equal numbers for copies.
        head: the kind of the labels.
        draws: bootstrap samples.
        seed: of these.

    Returns:
        `rows`, `methods` (by name `metrics`: each `value`, `low`, `high`; and `classes` or `outputs` of the first
        repetition), and `differences` (by name of the other method: each metric's `value`, `low`, `high`).
    """
    weights, keys = draw_weights(groups, draws, seed), metric_keys(head)
    values: dict[str, dict[str, Any]] = {}
    drawn: dict[str, dict[str, np.ndarray]] = {}
    methods = {}
    for name, repetitions in predictions.items():
        points = [point_metrics(part, labels, head) for part in repetitions]
        found = [drawn_metrics(part, labels, head, weights) for part in repetitions]
        values[name] = {key: _mean_of([point.get(key) for point in points]) for key in keys}
        drawn[name] = {key: np.mean([part[key] for part in found], axis=0) for key in keys}
        metrics = {key: _with_interval(values[name][key], drawn[name][key]) for key in keys}
        detail = "classes" if head.kind == "classification" else "outputs"
        methods[name] = {"metrics": metrics, detail: points[0].get(detail, [])}
    first, *others = predictions
    differences = {
        other: {
            key: _with_interval(
                _minus(values[first][key], values[other][key]), drawn[first][key] - drawn[other][key]
            )
            for key in keys
        }
        for other in others
    }
    return {"rows": len(labels), "methods": methods, "differences": differences}


def _with_interval(value: float | None, drawn: np.ndarray) -> dict[str, float | None]:
    low, high = (None, None) if value is None else interval(drawn)
    return {"value": value, "low": low, "high": high}


def _mean_of(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(values))


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other

"""Linear classifiers and regressions on features, with settings chosen by cross-validation within the training."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from genotok.evaluation.labelled_rows import LabelledRows
from genotok.evaluation.splits import folds
from genotok.models.prediction_heads import HeadConfig

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of the logistic regression
PENALTIES = (1e-1, 1e1, 1e2, 1e3, 1e4)  # alpha of the ridge regression
INNER_FOLDS = 3
LEAST_PROBABILITY = 1e-12
STEPS = 300
MOST_NEWTON_WEIGHTS = 300  # beyond, its second derivatives cost more than they save

Features = Any  # (R, D), dense or sparse


@dataclass
class Fitted:
    """What a probe says about the rows of a test.

    Attributes:
        predictions: (T, N) logits of classes, logits of yes, or numbers.
        chosen: the features and the strength that were chosen.
    """

    predictions: np.ndarray
    chosen: dict[str, Any]


def fit_and_predict(
    features: Mapping[str, Features], rows: LabelledRows, groups: np.ndarray, train: np.ndarray, test: np.ndarray,
    seed: int,
) -> Fitted:  # fmt: skip
    """Fit a logistic or ridge regression on standardised features, and let it predict.

    The features and the strength of the regularisation are those with the least loss in a cross-validation of three
    folds within the training rows. Each column is divided by its deviation in the training rows; where the features
    are dense its mean is subtracted before.

    Args:
        features: by name (R, D) features to choose from.
        rows: R rows with their labels.
        groups: (R,) equal numbers for copies, which stay together.
        train: indices of the rows to fit on.
        test: indices of the rows to predict.
        seed: of the inner folds.
    """
    strengths = PENALTIES if rows.head.kind == "regression" else STRENGTHS
    grid = [(name, strength) for name in features for strength in strengths]
    losses = np.zeros(len(grid))
    for inner_train, inner_test in _inner_folds(rows.take(train), groups[train], seed):
        for place, (name, strength) in enumerate(grid):
            fit, check = train[inner_train], train[inner_test]
            found = _predict(features[name], rows, fit, check, strength)
            losses[place] += _loss(found, rows.labels[check], rows.head)
    name, strength = grid[int(losses.argmin())]
    chosen = {"features": name, "alpha" if rows.head.kind == "regression" else "C": strength}
    return Fitted(_predict(features[name], rows, train, test, strength), chosen)


def _inner_folds(rows: LabelledRows, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Three folds, or two where a class of the training rows is too rare for three."""
    parts = INNER_FOLDS
    if rows.head.kind == "classification":
        least = min(len(np.unique(groups[rows.labels == number])) for number in np.unique(rows.labels))
        parts = max(min(parts, least), 2)
    return folds(rows, groups, parts, seed)


def majority(rows: LabelledRows, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(T, N) predictions that know the labels of the training rows alone: their shares, or their mean."""
    labels = rows.labels[train]
    if rows.head.kind == "classification":
        shares = np.bincount(labels, minlength=rows.head.outputs) / len(labels)
        said = np.log(np.maximum(shares, LEAST_PROBABILITY))
    elif rows.head.kind == "multi_label":
        shares = labels.mean(0, dtype=float).clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        said = np.log(shares / (1 - shares))
    else:
        said = labels.mean(0, dtype=float)
    return np.tile(said, (len(test), 1))


def _predict(
    features: Features, rows: LabelledRows, train: np.ndarray, test: np.ndarray, strength: float
) -> np.ndarray:
    known, asked, labels = features[train], features[test], rows.labels[train]
    if rows.head.kind == "classification":
        return _log_probabilities(known, labels, asked, rows.head.outputs, strength)
    if rows.head.kind == "multi_label":
        answers = [_log_probabilities(known, answer.astype(int), asked, 2, strength) for answer in labels.T]
        return np.stack([found[:, 1] - found[:, 0] for found in answers], 1)
    model = _pipeline(known, Ridge(alpha=strength))
    return model.fit(known, labels).predict(asked).reshape(len(test), -1)


def _log_probabilities(
    known: Features, labels: np.ndarray, asked: Features, classes: int, strength: float
) -> np.ndarray:
    """(T, classes); a class that does not occur has the least probability."""
    found = np.full((asked.shape[0], classes), np.log(LEAST_PROBABILITY))
    present = np.unique(labels)
    if len(present) == 1:
        found[:, present[0]] = 0.0
        return found
    weights = known.shape[1] * (len(present) if len(present) > 2 else 1)
    newton = not issparse(known) and weights <= MOST_NEWTON_WEIGHTS
    solver = "newton-cholesky" if newton else "lbfgs"
    model = _pipeline(known, LogisticRegression(C=strength, max_iter=STEPS, solver=solver))
    with warnings.catch_warnings():  # the strength that is chosen counts, not the last digit of its weights
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(known, labels)
    found[:, present] = np.log(np.maximum(model.predict_proba(asked), LEAST_PROBABILITY))
    return found


def _pipeline(features: Features, last: Any) -> Pipeline:
    return make_pipeline(StandardScaler(with_mean=not issparse(features)), last)


def _loss(predictions: np.ndarray, labels: np.ndarray, head: HeadConfig) -> float:
    """The mean loss: of classes and answers in nats, of numbers the squared error in units of each one's variance."""
    if head.kind == "classification":
        return float(-predictions[np.arange(len(labels)), labels].mean())
    if head.kind == "multi_label":
        return float(np.logaddexp(0, np.where(labels == 1, -predictions, predictions)).mean())
    return float(((predictions - labels) ** 2 / np.maximum(labels.var(0), 1e-12)).mean())

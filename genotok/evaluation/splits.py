"""Stratified splits of labelled rows that keep copies of a sequence together."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from genotok.errors import InputError
from genotok.evaluation.labelled_rows import LabelledRows

BINS = 10  # of the numbers of a regression


def strata(rows: LabelledRows, parts: int) -> np.ndarray:
    """(R,) int64: what a split keeps the shares of: the class, the combination of answers, or the tenth of a number.

    Combinations of answers that fewer than `parts` rows have are taken together.
    """
    if rows.head.kind == "classification":
        return rows.labels
    if rows.head.kind == "multi_label":
        _, places, counts = np.unique(rows.labels, axis=0, return_inverse=True, return_counts=True)
        places = places.reshape(-1)
        return np.where(counts[places] < parts, len(counts), places)
    edges = np.quantile(rows.labels[:, 0], np.arange(1, BINS) / BINS)
    return np.searchsorted(edges, rows.labels[:, 0], side="right")


def check_parts(rows: LabelledRows, groups: np.ndarray, parts: int, what: str) -> None:
    """Refuse a split into more parts than a class has different sequences.

    Raises:
        InputError: names the class.
    """
    if len(np.unique(groups)) < parts:
        raise InputError(f"{rows.path}: has {len(np.unique(groups))} different sequences, too few for {what}")
    if rows.head.kind != "classification":
        return
    for number in range(rows.head.outputs):
        found = len(np.unique(groups[rows.labels == number]))
        if found < parts:
            raise InputError(
                f"{rows.path}: class {rows.class_name(number)!r} has {found} different sequences, too few for {what}"
            )


def folds(
    rows: LabelledRows, groups: np.ndarray, parts: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut rows into `parts`; each in its turn is the test.

    Args:
        rows: R of them.
        groups: (R,) rows with one number stay together.
        parts: at least 2.
        seed: fixes the folds.

    Returns:
        Indices (training, test) a fold.

    Raises:
        InputError: a class has too few different sequences.
    """
    check_parts(rows, groups, parts, f"{parts} folds")
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of combinations of answers that are rare
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(splitter.split(np.zeros(len(rows)), strata(rows, parts), groups))


def hold_out(
    rows: LabelledRows, groups: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, held out) of a split that holds about `fraction` of the rows out; see `folds`.

    Raises:
        InputError: a class has too few different sequences.
    """
    parts = max(round(1 / fraction), 2)
    check_parts(rows, groups, parts, f"a share of 1 in {parts} to be held out")
    return folds(rows, groups, parts, seed)[0]

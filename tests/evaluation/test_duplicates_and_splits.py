"""Copies and opposite strands are found and never torn apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_files import random_letters

from genotok.errors import InputError
from genotok.evaluation.duplicates import describe_duplicates, duplicate_groups
from genotok.evaluation.labelled_rows import LabelledRows
from genotok.evaluation.splits import folds, hold_out
from genotok.models.prediction_heads import HeadConfig

PAIRS = {"A": "T", "T": "A", "U": "A", "C": "G", "G": "C", "N": "N"}


def opposite(letters):
    return "".join(PAIRS[letter] for letter in reversed(letters))


def labelled(labels, sequences=None, kind="classification"):
    labels = np.asarray(labels)
    outputs = int(labels.max()) + 1 if kind == "classification" else labels.shape[1]
    sequences = sequences or [f"A{'C' * k}" for k in range(len(labels))]
    return LabelledRows("t.csv", sequences, HeadConfig(kind, outputs), labels)


@given(st.lists(st.text("ACGT", min_size=1, max_size=3), min_size=1, max_size=30))
def test_groups_by_comparing_every_pair(sequences):
    groups, among = duplicate_groups(sequences, sequences[:2])
    for a, one in enumerate(sequences):
        for b, other in enumerate(sequences):
            assert (groups[a] == groups[b]) == (one == other or one == opposite(other))
        assert among[a] == any(one in (known, opposite(known)) for known in sequences[:2])
    found = describe_duplicates(sequences, groups, np.zeros(len(sequences), int))
    copies = sum(one in sequences[:a] for a, one in enumerate(sequences))
    assert found["copies"] == copies
    assert found["different"] + copies + found["reverse_complements"] == found["rows"] == len(sequences)
    assert found["contradictory"] == 0


def test_counts_of_copies():
    sequences = ["AACC", "GGTT", "aacc", "ACGT", "GGTU", "TTTT", "CCCC", "CCCC"]
    groups, _ = duplicate_groups(sequences)
    assert groups.tolist() == [0, 0, 0, 1, 0, 2, 3, 3]
    assert describe_duplicates(sequences, groups, np.array([0, 0, 1, 1, 0, 1, 1, 1])) == {
        "rows": 8,
        "different": 4,
        "copies": 3,  # aacc, GGTU, the second CCCC
        "reverse_complements": 1,
        "contradictory": 4,
    }


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 5), st.integers(0, 100))
def test_folds_keep_copies_together_and_shares_alike(parts, seed):
    random = np.random.default_rng(seed)
    groups = random.integers(0, 60, 120)
    labels = (groups % 3 == 0).astype(int)
    rows = labelled(labels)
    splits = folds(rows, groups, parts, seed)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(120))
    for train, test in splits:
        assert not set(groups[train]) & set(groups[test])
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(120))
        assert abs(labels[test].mean() - labels.mean()) < 0.12
    again = folds(rows, groups, parts, seed)
    assert all(
        np.array_equal(a, b)
        for one, two in zip(splits, again, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_another_seed_is_another_split():
    rows = labelled(np.arange(100) % 2)
    one, two = (hold_out(rows, np.arange(100), 0.2, seed)[1] for seed in (0, 1))
    assert len(one) == 20
    assert set(one) != set(two)


def test_numbers_and_answers_are_spread_evenly():
    numbers = np.random.default_rng(0).normal(size=(200, 1)).astype(np.float32)
    for _, test in folds(labelled(numbers, kind="regression"), np.arange(200), 4, 0):
        assert abs(numbers[test].mean() - numbers.mean()) < 0.1
    answers = np.zeros((60, 2), np.float32)
    answers[:12, 0], answers[:2, 1] = 1, 1
    for _, test in folds(labelled(answers, kind="multi_label"), np.arange(60), 3, 0):
        assert 3 <= answers[test, 0].sum() <= 5


def test_a_class_that_is_too_rare_is_named():
    """Copies do not count twice."""
    rows = labelled([0] * 10 + [1] * 6)
    groups = np.array([*range(10), 20, 20, 20, 21, 22, 22])
    with pytest.raises(InputError, match=r"t\.csv: class '1' has 3 different sequences, too few for 5 folds"):
        folds(rows, groups, 5, 0)
    assert len(folds(rows, groups, 3, 0)) == 3


def test_random_letters_are_not_copies():
    random = np.random.default_rng(1)
    sequences = [random_letters(random, 30) for _ in range(500)]
    assert len(set(duplicate_groups(sequences)[0])) == 500

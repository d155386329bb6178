"""The threshold that gives chunks of a wanted length."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models.chunkers import blt_patch_lengths, entropy_threshold
from genotok.models.chunkers.entropy import entropy_starts


def dna_like(batch=8, length=2048):
    """Nearly flat, close to ln 4, and low in a repeat: what small models give on human DNA."""
    random = torch.Generator().manual_seed(0)
    entropies = math.log(4) - 0.15 * torch.rand(batch, length, generator=random) ** 2
    entropies[0, 500:900] = 0.02
    return entropies


def mean_length(entropies, threshold, **rule):
    lengths = blt_patch_lengths(
        torch.zeros(entropies.shape), "entropy", entropies=entropies, threshold=threshold, **rule
    )
    return entropies.numel() / int((lengths > 0).sum())


@pytest.mark.parametrize("rule", [{}, {"threshold_add": 0.0}, {"monotonicity": True}])
@pytest.mark.parametrize("wanted", [4.0, 6.0, 24.0])
def test_chunks_have_the_wanted_length(wanted, rule):
    entropies = dna_like()
    threshold = entropy_threshold(entropies, wanted, **rule)
    assert mean_length(entropies, threshold, **rule) == pytest.approx(wanted, rel=2e-3)


def test_the_threshold_of_text_is_no_use_here():
    assert mean_length(dna_like(), 1.335442066192627) < 2


def test_a_limit_on_the_length_is_taken_into_account():
    entropies = dna_like()
    threshold = entropy_threshold(entropies, 6.0, max_length=12)
    assert mean_length(entropies, threshold, max_patch_length=12) == pytest.approx(6.0, rel=2e-3)
    assert mean_length(entropies, threshold) > 6.05


def test_packed_rows_of_different_length():
    entropies, lengths = dna_like().flatten()[:5000], torch.tensor([1, 2, 997, 4000])
    ragged = Ragged.from_lengths(lengths)
    threshold = entropy_threshold(entropies, 5.0, ragged)
    chunks = sum(
        int((blt_patch_lengths(part[None], "entropy", entropies=part[None], threshold=threshold) > 0).sum())
        for part in entropies.split(lengths.tolist())
    )
    assert 5000 / chunks == pytest.approx(5.0, rel=2e-3)


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=40),
    st.floats(1, 12),
    st.sampled_from([{}, {"threshold_add": 0.0}, {"monotonicity": True}, {"max_length": 3}]),
)
@settings(max_examples=100, deadline=None)
def test_with_ties_no_threshold_comes_nearer(quarters, wanted, rule):
    entropies = torch.tensor(quarters) / 4
    ragged = Ragged.uniform(1, len(entropies))

    def error(threshold):
        return abs(len(entropies) / int(entropy_starts(entropies, ragged, threshold, **rule).sum()) - wanted)

    found = error(entropy_threshold(entropies, wanted, ragged, **rule))
    assert found <= min(error(eighth / 8) for eighth in range(-9, 10)) + 1e-9


def test_all_and_none():
    entropies = dna_like(2, 64)
    assert mean_length(entropies, entropy_threshold(entropies, 1.0)) == 1
    assert mean_length(entropies, entropy_threshold(entropies, 1e9)) == 32  # the first token and the rest
    constant = torch.full((1, 10), 1.25)
    assert entropy_threshold(constant, 9.0) == 1.25
    assert entropy_threshold(constant, 1.0) < 1.25


@pytest.mark.parametrize(
    ("entropies", "length", "sentence"),
    [
        (torch.ones(1, 4), 0.5, "mean_chunk_length: 0.5 must be at least 1"),
        (torch.ones(1, 4), math.nan, "mean_chunk_length: nan must be at least 1"),
        (torch.ones(4), 2.0, "entropies must be (batch, length)"),
        (torch.ones(0, 4), 2.0, "entropies must be (batch, length)"),
        (torch.tensor([[1.0, math.nan]]), 2.0, "entropies must be finite numbers"),
    ],
)
def test_what_does_not_fit_is_said(entropies, length, sentence):
    with pytest.raises(InputError) as error:
        entropy_threshold(entropies, length)
    assert str(error.value).startswith(sentence)

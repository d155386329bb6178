"""Masks: how many, where, what stands in place of the hidden, and that the same key hides the same."""

import itertools

import numpy as np
import pytest
import torch
from fasta_files import random_letters, write
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.shards.masking import Masking
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import TrainingBatches, collate
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import load_tokenizer

NUCLEOTIDE, NTV2 = load_tokenizer("nucleotide"), load_tokenizer("ntv2")
MASK, START = NUCLEOTIDE.mask_id, NUCLEOTIDE.start_id
some_ids = st.lists(st.sampled_from([0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, START, MASK]), min_size=1, max_size=60)
probabilities, spans = st.floats(0.01, 0.99), st.sampled_from([1.0, 1.5, 3.0, 10.0])


@settings(max_examples=150, deadline=None)
@given(some_ids, probabilities, spans, st.integers(0, 2**32), st.integers(0, 2**32))
def test_what_is_chosen_and_what_is_not(ids, probability, span, seed, window):
    """Certain nucleotides alone, as many as wanted, and labels of what was there."""
    ids = np.array(ids, np.uint8)
    masked, labels = Masking(NUCLEOTIDE, probability, span, seed).mask_ids(ids, (3, window))
    chosen, certain = labels != -100, ids < 4
    assert not (chosen & ~certain).any()
    assert (labels[chosen] == ids[chosen]).all()
    assert (masked[~chosen] == ids[~chosen]).all()
    assert np.isin(masked[chosen], [0, 1, 2, 3, MASK]).all()
    wanted = probability * certain.sum()
    low, high = np.floor(wanted), np.ceil(wanted)
    assert max(low, certain.any()) <= chosen.sum() <= max(high, 1)


@settings(max_examples=40, deadline=None)
@given(some_ids, spans, st.integers(0, 99), st.integers(0, 99))
def test_the_same_key_hides_the_same(ids, span, epoch, window):
    ids = np.array(ids, np.uint8)
    first, second = (Masking(NUCLEOTIDE, 0.3, span, 7).mask_ids(ids, (epoch, window)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_other_keys_and_seeds_hide_others():
    ids = np.zeros(200, np.uint8)
    found = {
        tuple(np.flatnonzero(Masking(NUCLEOTIDE, 0.15, span, seed).mask_ids(ids, key)[1] >= 0))
        for span, seed, key in itertools.product([1.0, 3.0], [1, 2], [(0, 1), (1, 0), (1, 1)])
    }
    assert len(found) == 12


@pytest.mark.parametrize("span", [1.0, 4.0])
@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_every_place_is_as_likely(span, probability):
    """Also the first and the last, and with a share of 37 tokens that is no whole number."""
    ids, rounds = np.zeros(37, np.uint8), 4000
    masking = Masking(NUCLEOTIDE, probability, span, seed=5)
    counts = sum((masking.mask_ids(ids, (0, window))[1] >= 0).astype(int) for window in range(rounds))
    spread = np.sqrt(rounds * probability * (1 - probability))
    assert np.abs(counts - rounds * probability).max() < 4.5 * spread
    assert abs(counts.sum() / rounds - probability * 37) < 0.03


def test_what_becomes_of_the_chosen():
    """80 % hidden, 10 % drawn evenly (a quarter of them by chance the same), 10 % kept."""
    ids = np.full(200_000, 2, np.uint8)
    masked, labels = Masking(NUCLEOTIDE, 0.5, 1.0, seed=1).mask_ids(ids, (0, 0))
    chosen = masked[labels >= 0]
    assert len(chosen) == 100_000
    shares = {token: (chosen == token).mean() for token in (MASK, 0, 1, 2, 3)}
    assert shares[MASK] == pytest.approx(0.8, abs=0.006)
    assert shares[2] == pytest.approx(0.1 + 0.025, abs=0.005)
    for token in (0, 1, 3):
        assert shares[token] == pytest.approx(0.025, abs=0.003)


def test_runs_have_the_wanted_mean_and_a_geometric_spread():
    ids = np.full(100_000, 1, np.uint8)
    _, labels = Masking(NUCLEOTIDE, 0.2, 5.0, seed=2).mask_ids(ids, (0, 0))
    edges = np.flatnonzero(np.diff(labels >= 0, prepend=False, append=False))
    lengths = edges[1::2] - edges[::2]
    assert lengths.mean() == pytest.approx(5.0, abs=0.05)
    assert (lengths == 1).mean() == pytest.approx(1 / 5, abs=0.02)
    assert (lengths == 2).mean() == pytest.approx(4 / 25, abs=0.02)
    assert lengths.std() == pytest.approx(np.sqrt(20), rel=0.05)


def test_a_run_shares_one_fate():
    ids = np.full(5000, 1, np.uint8)
    masked, labels = Masking(NUCLEOTIDE, 0.2, 6.0, seed=2).mask_ids(ids, (0, 0))
    edges = np.flatnonzero(np.diff(labels >= 0, prepend=False, append=False))
    hidden = [set((masked[a:b] == MASK).tolist()) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    assert all(len(fates) == 1 for fates in hidden[1:-1])  # the ends may share a run
    assert {True} in hidden
    assert {False} in hidden


def test_runs_go_on_behind_what_is_never_chosen():
    ids = np.array([0, 4] * 500, np.uint8)
    _, labels = Masking(NUCLEOTIDE, 0.2, 5.0, seed=2).mask_ids(ids, (0, 0))
    edges = np.flatnonzero(np.diff(labels[::2] >= 0, prepend=False, append=False))
    assert (edges[1::2] - edges[::2]).mean() == pytest.approx(5, abs=0.6)
    assert (labels[1::2] == -100).all()


def test_kmers():
    """Only 6-mers and single letters, never <cls> or N; replaced by any of them."""
    ids = np.array(NTV2.encode("ACGTAC" * 3000 + "N" + "CG"))
    masked, labels = Masking(NTV2, 0.5, 1.0, seed=3).mask_ids(ids, (0, 0))
    assert labels[0] == -100
    assert (labels[ids == NTV2.encode("N")[1]] == -100).all()
    assert (labels >= 0).sum() == 1501
    others = masked[(masked != ids) & (masked != NTV2.mask_id)]
    assert len(set(others.tolist())) > 100
    assert others.min() >= 6
    assert others.max() <= 4105


def test_a_batch_is_its_sequences():
    """Neither the padding nor the neighbours change the choices."""
    random = np.random.default_rng(0)
    ids = [random.integers(0, 5, length).astype(np.uint8) for length in (30, 1, 50)]
    masking = Masking(NUCLEOTIDE, 0.15, 2.0, seed=4)
    batch = masking.mask_batch(collate(ids, NUCLEOTIDE), [(0, 5), (0, 9), (1, 2)])
    for row, (sequence, key) in enumerate(zip(ids, [(0, 5), (0, 9), (1, 2)], strict=True)):
        length = len(sequence) + 1
        masked, labels = masking.mask_ids(np.concatenate([[START], sequence]), key)
        assert batch.input_ids[row, :length].tolist() == masked.tolist()
        assert batch.labels[row, :length].tolist() == labels.tolist()
        assert (batch.labels[row, length:] == -100).all()
        assert (batch.input_ids[row, length:] == NUCLEOTIDE.pad_id).all()


def test_no_mask_token_is_said():
    with pytest.raises(InputError, match="tokenizer 'byte' has no mask token, and the task 'mlm' needs one"):
        Masking(load_tokenizer("byte"))


def test_training_batches_hide_anew_in_every_epoch_and_go_on_the_same(tmp_path):
    fasta = write(tmp_path / "g.fa", {"a": random_letters(240)})
    tokenize_genomes([fasta], tmp_path / "out", window=40)
    dataset = ShardDataset(tmp_path / "out", "train")

    def batches():
        return TrainingBatches(dataset, 4, 3, False, Masking(NUCLEOTIDE, 0.2, 1.0, 3))

    whole = list(itertools.islice(batches(), 6))
    plain = list(itertools.islice(TrainingBatches(dataset, 4, 3, False), 6))
    for hidden, shown in zip(whole, plain, strict=True):
        restored = torch.where(hidden.labels >= 0, hidden.labels, hidden.input_ids)
        assert torch.equal(restored, shown.input_ids)
        assert ((hidden.labels >= 0).sum(1) == 8).all()
    places = {}
    for hidden, shown in zip(whole, plain, strict=True):
        for row in range(4):
            window = tuple(shown.input_ids[row].tolist())
            places.setdefault(window, []).append(tuple((hidden.labels[row] >= 0).nonzero()[:, 0].tolist()))
    assert len(places) == 6
    assert all(len(set(found)) == len(found) == 4 for found in places.values())
    first = batches()
    for _ in range(3):
        next(first)
    second = batches()
    second.restore(first.state())
    assert torch.equal(next(second).input_ids, whole[3].input_ids)

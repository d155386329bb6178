"""Batches: what they hold and in which order they come."""

import itertools

import numpy as np
import pytest
import torch
from fasta_files import random_letters, write

from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import TrainingBatches, batches_in_order, collate
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import load_tokenizer

NUCLEOTIDE, BYTE = load_tokenizer("nucleotide"), load_tokenizer("byte")
WINDOWS = 23


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampler")
    fasta = write(folder / "g.fa", {"a": random_letters(12 * (WINDOWS - 1) + 5, alphabet="ACGTN")})
    tokenize_genomes([fasta], folder / "out", window=12)
    dataset = ShardDataset(folder / "out", "train")
    assert len(dataset) == WINDOWS
    return dataset


def test_a_batch_with_a_start_token():
    batch = collate([np.array([0, 4, 3], np.uint8), np.array([2], np.uint8)], NUCLEOTIDE)
    start, pad = NUCLEOTIDE.start_id, NUCLEOTIDE.pad_id
    assert batch.input_ids.tolist() == [[start, 0, 4, 3], [start, 2, pad, pad]]
    assert batch.labels.tolist() == [[-100, 0, -100, 3], [-100, 2, -100, -100]]
    assert batch.lengths.tolist() == [4, 2]
    assert batch.nucleotides == 3
    assert {part.dtype for part in (batch.input_ids, batch.labels, batch.lengths)} == {torch.int64}


def test_a_batch_without_a_start_token():
    batch = collate([BYTE.encode_letters(b"ANT"), BYTE.encode_letters(b"c")], BYTE)
    assert batch.input_ids.tolist() == [[65, 78, 84], [99, 0, 0]]
    assert batch.labels.tolist() == [[65, -100, 84], [-100, -100, -100]]
    assert batch.nucleotides == 1  # nothing comes before the first letter


def sequences(batches):
    """The ids of every sequence in some batches."""
    return [
        tuple(row[1:length].tolist())
        for batch in batches
        for row, length in zip(batch.input_ids, batch.lengths, strict=True)
    ]


def windows_of(dataset):
    return [tuple(window.ids.tolist()) for window in dataset]


def opposite(ids):
    return tuple(NUCLEOTIDE.reverse_complement(np.array(ids, np.uint8)).tolist())


def test_an_epoch_holds_each_window_once(dataset):
    batches = TrainingBatches(dataset, WINDOWS, seed=5, both_strands=False)
    epochs = [sequences([next(batches)]) for _ in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(windows_of(dataset))
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("size", [1, 4, 50])
def test_batches_run_over_the_end_of_an_epoch(dataset, size):
    whole = TrainingBatches(dataset, WINDOWS, seed=5, both_strands=True)
    order = sequences(itertools.islice(whole, 5))
    found = sequences(itertools.islice(TrainingBatches(dataset, size, 5, True), 100 // size))
    assert found == order[: len(found)]


def test_two_epochs_show_both_strands(dataset):
    batches = TrainingBatches(dataset, WINDOWS, seed=5, both_strands=True)
    wanted = sorted([*windows_of(dataset), *map(opposite, windows_of(dataset))])
    for _ in range(2):
        first, second = (sequences([next(batches)]) for _ in range(2))
        assert sorted(first + second) == wanted
        forward = sum(ids in windows_of(dataset) for ids in first)
        assert 0 < forward < WINDOWS  # each epoch is a mixture


def test_the_seed_fixes_the_order(dataset):
    def first_ten(seed):
        return sequences(itertools.islice(TrainingBatches(dataset, 4, seed, True), 10))

    assert first_ten(1) == first_ten(1)
    assert first_ten(1) != first_ten(2)


@pytest.mark.parametrize("done", [0, 1, 5, 6, 11, 12, 40])
def test_going_on_from_a_state(dataset, done):
    uninterrupted = TrainingBatches(dataset, 4, seed=3, both_strands=True)
    for _ in range(done):
        next(uninterrupted)
    state = uninterrupted.state()
    resumed = TrainingBatches(dataset, 4, seed=3, both_strands=True)
    resumed.restore(state)
    assert sequences(itertools.islice(resumed, 15)) == sequences(itertools.islice(uninterrupted, 15))
    assert resumed.state() == uninterrupted.state()


def test_batches_in_order(dataset):
    pairs = list(batches_in_order(dataset, 5))
    assert [len(windows) for windows, _ in pairs] == [5, 5, 5, 5, 3]
    assert sequences(batch for _, batch in pairs) == windows_of(dataset)
    assert [window.start for windows, _ in pairs for window in windows] == [12 * i for i in range(WINDOWS)]

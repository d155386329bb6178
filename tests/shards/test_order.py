"""The order of windows over ranks, epochs and resumes, and windows of other lengths than the shards hold."""

import itertools
from collections import Counter

import numpy as np
import pytest
from fasta_files import write
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.shards.pieces import Pieces
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import Reading, TrainingBatches
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import load_tokenizer

NUCLEOTIDE = load_tokenizer("nucleotide")
WINDOWS = 23


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    letters = "".join(np.random.default_rng(1).choice(list("ACGTacgtN"), 12 * (WINDOWS - 1) + 5))
    tokenize_genomes([write(folder / "g.fa", {"a": letters})], folder / "out", window=12)
    return ShardDataset(folder / "out", "train")


def together(ranks, steps):
    """The global batches that the shares of all ranks make."""
    shares = zip(*(places(batches, steps) for batches in ranks), strict=True)
    return [list(itertools.chain(*step)) for step in shares]


def places(batches, steps):
    """(epoch, window, strand) of the rows of each step."""
    return [
        [(place.epoch, place.index, place.reverse) for place in batches.next_job().places]
        for _ in range(steps)
    ]


@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_any_ranks_and_any_resume_read_the_same_global_batches(dataset, size, done, before, after):
    """Oracle: one rank, uninterrupted. The run begins on `before` ranks and goes on, on `after` ranks."""
    before, after = min(before, size), min(after, size)
    wanted = places(TrainingBatches(dataset, size, 7, True), done + 12)
    first = [TrainingBatches(dataset, size, 7, True, rank=r, ranks=before) for r in range(before)]
    found = together(first, done)
    states = [batches.state() for batches in first]
    assert all(state == states[0] for state in states)
    then = [TrainingBatches(dataset, size, 7, True, rank=r, ranks=after) for r in range(after)]
    for batches in then:
        batches.restore(states[0])
    found += together(then, 12)
    assert found == wanted
    assert all(len(shares) for shares in found)
    epochs = Counter((epoch, index) for step in found for epoch, index, _ in step)
    assert set(epochs.values()) == {1}  # no window twice an epoch
    complete = (done + 12) * size // WINDOWS
    assert all((epoch, index) in epochs for epoch in range(complete) for index in range(WINDOWS))


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_the_shares_of_ranks_are_the_rows_of_the_global_batch(dataset, ranks):
    whole = next(TrainingBatches(dataset, 16, 3, True))
    shares = [next(TrainingBatches(dataset, 16, 3, True, rank=r, ranks=ranks)) for r in range(ranks)]
    rows = [row[:length].tolist() for b in shares for row, length in zip(b.input_ids, b.lengths, strict=True)]
    assert rows == [row[:length].tolist() for row, length in zip(whole.input_ids, whole.lengths, strict=True)]
    sizes = [len(share.lengths) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_fewer_windows_than_ranks_are_said(dataset):
    with pytest.raises(InputError, match="the windows of the split 'train' are 23, fewer than the 24 ranks"):
        TrainingBatches(dataset, 48, 1, True, rank=0, ranks=24)
    with pytest.raises(InputError, match="batch_size: is 4, fewer than the 8 ranks"):
        TrainingBatches(dataset, 4, 1, True, rank=0, ranks=8)


@st.composite
def contigs(draw):
    """Contigs with stretches of N that drop windows."""
    parts = draw(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 60)), min_size=1, max_size=3))
    seed = draw(st.integers(0, 9))
    letters = np.random.default_rng(seed)
    return "".join("".join(letters.choice(list("ACGTacgt"), n)) + "N" * gap for n, gap in parts)


@given(contigs(), contigs(), st.integers(1, 20), st.data())
@settings(max_examples=50, deadline=None)
def test_pieces_hold_every_letter_of_the_windows(tmp_path_factory, first, second, window, data):
    """Oracle: the letters that lie in some window, by hand, cut at the gaps between these."""
    stride = data.draw(st.integers(1, window))
    length = data.draw(st.integers(1, 70))
    folder = tmp_path_factory.mktemp("pieces")
    texts = {"a": first, "b": second}
    tokenize_genomes([write(folder / "g.fa", texts)], folder / "out", window=window, stride=stride)
    dataset = ShardDataset(folder / "out", "train")
    wanted = []
    for name, text in texts.items():
        covered = np.zeros(len(text) + 1, bool)
        for k in range(len(dataset)):
            if dataset[k].contig == name:
                covered[dataset[k].start : dataset[k].start + len(dataset[k].ids)] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[False], covered]).astype(int)))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            step, place = max(1, length * stride // window), begin
            while True:
                wanted.append(text[place : min(place + length, end)])
                if place + length >= end:
                    break
                place += step
    pieces = Pieces(dataset, length)
    assert len(pieces) == len(wanted)
    for k, text in enumerate(wanted):
        assert pieces.ids(k).tolist() == NUCLEOTIDE.encode(text)
        assert pieces.soft_masked(k).tolist() == [letter.islower() for letter in text]


@pytest.mark.parametrize(("window", "stride"), [(12, 12), (12, 7), (5, 1)])
def test_pieces_of_the_length_of_the_windows_are_these(window, stride, tmp_path):
    letters = "".join(np.random.default_rng(1).choice(list("ACGT"), 100))
    fasta = write(tmp_path / "g.fa", {"a": letters, "b": letters[:7]})
    tokenize_genomes([fasta], tmp_path / "out", window=window, stride=stride)
    dataset = ShardDataset(tmp_path / "out", "train")
    pieces = Pieces(dataset, window)
    assert [pieces.ids(k).tolist() for k in range(len(pieces))] == [w.ids.tolist() for w in dataset]


def test_a_change_of_length_begins_an_epoch_and_is_resumed(dataset):
    lengths = [6] * 5 + [30] * 7 + [None] * 8

    def run(batches, steps):
        return [
            [tuple(row.tolist()) for row in batches.make(batches.next_job(Reading(n, 4))).input_ids]
            for n in steps
        ]

    whole = TrainingBatches(dataset, 4, 3, True)
    wanted = run(whole, lengths)
    assert {len(step[0]) for step in wanted[:5]} == {7}  # with the start token
    assert {len(step[0]) for step in wanted[5:12]} == {31}
    assert len({row for step in wanted[5:7] for row in step}) == 8  # 10 pieces of 30: each once an epoch
    for done in range(len(lengths)):
        first = TrainingBatches(dataset, 4, 3, True)
        run(first, lengths[:done])
        second = TrainingBatches(dataset, 4, 3, True)
        second.restore(first.state())
        assert run(second, lengths[done:]) == wanted[done:]

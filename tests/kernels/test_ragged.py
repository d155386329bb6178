"""The packed layout against lists of sequences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.kernels.ragged import Ragged

some_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)
quick = settings(max_examples=60, deadline=None)


@quick
@given(some_lengths)
def test_layout_numbers(lengths):
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    rows = [(b, i) for b, length in enumerate(lengths) for i in range(length)]
    assert ragged.cu_seqlens.dtype == torch.int32
    assert ragged.cu_seqlens.tolist() == [sum(lengths[:b]) for b in range(len(lengths) + 1)]
    assert (ragged.total, ragged.max_seqlen, ragged.batch) == (len(rows), max(lengths), len(lengths))
    assert ragged.is_uniform == (len(set(lengths)) == 1)
    assert ragged.lengths.tolist() == lengths
    assert ragged.first_rows.tolist() == [row for row, (_, i) in enumerate(rows) if i == 0]
    assert list(zip(ragged.sequence_ids.tolist(), ragged.positions.tolist(), strict=True)) == rows


@quick
@given(some_lengths, st.integers(0, 3), st.sampled_from([(), (2,), (3, 2)]))
def test_padding_and_packing(lengths, extra, shape):
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    values = torch.randn(ragged.total, *shape)
    padded = ragged.to_padded(values, fill=7.0)
    assert padded.shape == (len(lengths), max(lengths), *shape)
    for b, sequence in enumerate(values.split(lengths)):
        assert torch.equal(padded[b, : lengths[b]], sequence)
        assert (padded[b, lengths[b] :] == 7.0).all()
    wider = torch.cat([padded, torch.full((len(lengths), extra, *shape), 9.0)], 1)
    assert torch.equal(ragged.to_packed(wider), values)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_padding_keeps_the_type(dtype):
    values = torch.tensor([1, 0, 1], dtype=dtype)
    padded = Ragged.from_lengths(torch.tensor([1, 2])).to_padded(values)
    assert padded.dtype == dtype
    assert padded.tolist() == [[1, 0], [0, 1]]


def test_a_uniform_layout_is_the_one_of_its_lengths():
    made, counted = Ragged.uniform(3, 5), Ragged.from_lengths(torch.tensor([5, 5, 5]))
    assert torch.equal(made.cu_seqlens, counted.cu_seqlens)
    assert (made.total, made.max_seqlen) == (counted.total, counted.max_seqlen)


def test_gradients_reach_every_row_once():
    ragged = Ragged.from_lengths(torch.tensor([2, 4, 1]))
    values = torch.randn(7, 3, requires_grad=True)
    ragged.to_packed(ragged.to_padded(values)).sum().backward()
    assert torch.equal(values.grad, torch.ones(7, 3))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from([1, 4, 16, 64]))
def test_pieces(lengths, rows):
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    pieces = ragged.pieces(rows)
    assert pieces.shape == (ragged.total // rows + len(lengths), 3)
    starts, wanted = ragged.cu_seqlens.tolist(), []
    for b, length in enumerate(lengths):
        for k, first in enumerate(range(0, length, rows)):
            piece = [starts[b] + first, starts[b] + min(first + rows, length), b]
            assert pieces[starts[b] // rows + b + k].tolist() == piece
            wanted.append(piece)
    assert [piece for piece in pieces.tolist() if piece[0] < piece[1]] == wanted
    assert ragged.pieces(rows) is pieces


@quick
@given(some_lengths, st.integers(1, 4), st.booleans())
def test_pieces_by_place(lengths, rows, from_end):
    """Against places counted sequence by sequence."""
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    lines, places = ragged.pieces_by_place(rows, from_end)
    assert sorted(lines.tolist()) == list(range(len(ragged.pieces(rows))))
    assert places.tolist() == sorted(places.tolist())
    found = dict(zip(lines.tolist(), places.tolist(), strict=True))
    for line, (first, end, sequence) in enumerate(ragged.pieces(rows).tolist()):
        start, stop = ragged.cu_seqlens.tolist()[sequence : sequence + 2]
        place = (stop - end + rows - 1) // rows if from_end else (first - start) // rows
        assert found[line] == (place if first < end else -1)

"""Attention over packed rows against a dense masked softmax, and rotary positions against complex numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.kernels import attention
from genotok.kernels.attention import (
    extending_attention,
    keys_in_line,
    ragged_attention,
    rotate,
    step_attention,
)
from genotok.kernels.ragged import Ragged


def dense_attention(q, k, v, ragged, causal, window):
    """All T rows against all T rows, with everything that may not be seen masked out."""
    sequence, place = ragged.sequence_ids, ragged.positions
    distance = place[:, None] - place[None, :]
    visible = sequence[:, None] == sequence[None, :]
    if causal:
        visible = visible & (distance >= 0)
    if window >= 0:
        visible = visible & (distance.abs() <= window)
    scores = torch.einsum("qhe,khe->hqk", q, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~visible, -math.inf).softmax(-1)
    return torch.einsum("hqk,khe->qhe", weights, v)


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    causal=st.booleans(),
    window=st.sampled_from([-1, 0, 1, 3, 11, 12, 40]),
)
def test_equals_dense_attention(lengths, causal, window):
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    q, k, v = torch.randn(3, ragged.total, 2, 4, dtype=torch.double)
    found = ragged_attention(q, k, v, ragged, causal=causal, window=window)
    torch.testing.assert_close(found, dense_attention(q, k, v, ragged, causal, window))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [-1, 0, 7, 300])
@pytest.mark.parametrize("lengths", [(1100,), (700, 3, 650)])
def test_long_sequences_some_queries_at_a_time(lengths, window, causal, monkeypatch):
    """As dense attention, and no mask is larger than it may be."""
    sizes, visible = [], attention._visible

    def watched(*arguments):
        sizes.append(visible(*arguments).numel())
        return visible(*arguments)

    monkeypatch.setattr(attention, "MASKED_AT_ONCE", 1 << 18)
    monkeypatch.setattr(attention, "_visible", watched)
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    q, k, v = torch.randn(3, ragged.total, 1, 4, dtype=torch.double)
    found = attention.ragged_attention(q, k, v, ragged, causal=causal, window=window)
    torch.testing.assert_close(found, dense_attention(q, k, v, ragged, causal, window))
    assert max(sizes, default=0) <= 1 << 18


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=5),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.sampled_from([-1, 0, 1, 3, 20]),
)
def test_keys_in_line(sequences, held, window):
    """What `keys_in_line` says of lengths and places, held against lists; then attention over it and by a mask."""
    lengths, of_held = (torch.tensor(part) for part in zip(*sequences, strict=True))
    held, ragged = torch.tensor(held), Ragged.from_lengths(lengths)
    capacity = int(held.max()) if window < 0 else min(int(held.max()), window + 1)
    keys = torch.full((3, capacity, 1, 4), torch.nan, dtype=torch.double)
    rows = [torch.randn(int(length), 1, 4, dtype=torch.double) for length in held]
    for sequence, of_sequence in enumerate(rows):
        for place, row in enumerate(of_sequence):
            keys[sequence, place % capacity] = row
    q, own = torch.randn(2, ragged.total, 1, 4, dtype=torch.double)
    index, ends, longest = keys_in_line(ragged, capacity, held[of_held], of_held, 3, window)
    line = torch.cat([keys.flatten(0, 1), own]).index_select(0, index)
    assert longest >= int(ends.diff().max())
    wanted = []
    for sequence, (first, length) in enumerate(zip(ragged.first_rows, lengths, strict=True)):
        before = rows[of_held[sequence]]
        joined = torch.cat([before, own[first : first + length]])
        kept = min(len(before), capacity if window < 0 else window)
        assert torch.equal(line[ends[sequence] : ends[sequence + 1]], joined[len(before) - kept :])
        asking = torch.cat([torch.zeros_like(before), q[first : first + length]])
        layout = Ragged.uniform(1, len(joined))
        wanted.append(dense_attention(asking, joined, joined, layout, True, window)[len(before) :])
    found = extending_attention(
        q, own, own, ragged, keys.nan_to_num(), keys.nan_to_num(), held, of_held, window
    )
    torch.testing.assert_close(found, torch.cat(wanted))


def one_query(q, keys, values):
    """The softmax written out for one query (E,) over (N, E)."""
    weights = [math.exp(float(q @ key) / math.sqrt(len(q))) for key in keys]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


@pytest.mark.parametrize(("heads", "shared"), [(4, 2), (6, 3), (4, 1), (3, 3)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [-1, 2])
def test_grouped_queries(heads, shared, causal, window):
    """Heads 0, 1, ... of the queries read head 0 of the keys, those behind them head 1, and so on."""
    ragged = Ragged.from_lengths(torch.tensor([5, 1, 7]))
    q = torch.randn(ragged.total, heads, 4, dtype=torch.double)
    k, v = torch.randn(2, ragged.total, shared, 4, dtype=torch.double)
    found = ragged_attention(q, k, v, ragged, causal=causal, window=window)
    for row in range(ragged.total):
        at, first, last = (
            int(part) for part in (ragged.positions[row], *ragged.cu_seqlens[ragged.sequence_ids[row] :][:2])
        )
        low = 0 if window < 0 else max(0, at - window)
        high = at if causal else last - first - 1 if window < 0 else min(last - first - 1, at + window)
        seen = slice(first + low, first + high + 1)
        for head in range(heads):
            read = head * shared // heads
            wanted = one_query(q[row, head], k[seen, read], v[seen, read])
            torch.testing.assert_close(found[row, head], wanted)


@pytest.mark.parametrize(("heads", "shared"), [(4, 2), (6, 1), (3, 3)])
def test_grouped_queries_of_a_step(heads, shared):
    q = torch.randn(3, heads, 4, dtype=torch.double)
    k, v = torch.randn(2, 3, 9, shared, 4, dtype=torch.double)
    filled = torch.rand(3, 9) > 0.4
    filled[:, 5] = True
    found = step_attention(q, k, v, filled)
    for b in range(3):
        for head in range(heads):
            read = head * shared // heads
            wanted = one_query(q[b, head], k[b, filled[b], read], v[b, filled[b], read])
            torch.testing.assert_close(found[b, head], wanted)


@pytest.mark.parametrize("shared", [1, 2])
def test_gradients_of_shared_keys_are_sums(shared):
    ragged = Ragged.from_lengths(torch.tensor([3, 7]))
    q = torch.randn(10, 4, 2, dtype=torch.double)
    k, v = torch.randn(2, 10, shared, 2, dtype=torch.double, requires_grad=True)
    weights = torch.randn_like(q)
    found = torch.autograd.grad((ragged_attention(q, k, v, ragged) * weights).sum(), (k, v))
    apart = [part.detach()[:, [h * shared // 4 for h in range(4)]].requires_grad_() for part in (k, v)]
    dense = dense_attention(q, *apart, ragged, True, -1)
    wanted = torch.autograd.grad((dense * weights).sum(), apart)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other.view(10, shared, 4 // shared, 2).sum(2))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [-1, 2])
def test_gradients_stay_inside_a_sequence(causal, window):
    ragged = Ragged.from_lengths(torch.tensor([3, 7, 2]))
    parts = torch.randn(3, ragged.total, 2, 4, dtype=torch.double, requires_grad=True)
    seen = (ragged.sequence_ids == 1).double()[:, None, None]
    found = ragged_attention(*parts, ragged, causal=causal, window=window)
    wanted = dense_attention(*parts, ragged, causal, window)
    by_kernel, by_oracle = (
        torch.autograd.grad((out * seen).square().sum(), parts)[0] for out in (found, wanted)
    )
    torch.testing.assert_close(by_kernel, by_oracle)
    assert (by_kernel[:, ragged.sequence_ids != 1] == 0).all()


@pytest.mark.parametrize(("dim", "base"), [(8, 10_000.0), (4, 10_000.0), (6, 500.0), (2, 10_000.0)])
def test_rotation_is_a_complex_product(dim, base):
    x = torch.randn(20, 3, 8, dtype=torch.double)
    positions = torch.randint(0, 3000, (20,))
    pairs = torch.complex(x[..., : dim // 2], x[..., dim // 2 : dim])
    wave = torch.tensor([base ** (-2 * i / dim) for i in range(dim // 2)], dtype=torch.double)
    turned = pairs * torch.polar(torch.ones(()).double(), positions[:, None] * wave)[:, None]
    wanted = torch.cat([turned.real, turned.imag, x[..., dim:]], -1)
    torch.testing.assert_close(rotate(x, positions, dim, base), wanted, atol=1e-3, rtol=0)
    assert torch.equal(rotate(x, torch.zeros(20), dim, base), x)


def test_rotated_products_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 8)
    near, far = (
        (rotate(q, torch.tensor([at + 5]), 8) * rotate(k, torch.tensor([at]), 8)).sum() for at in (0, 900)
    )
    torch.testing.assert_close(near, far, atol=1e-4, rtol=0)

"""Attention between rows and chunks, against softmax written out for one query at a time."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.kernels.cross_attention import attend_to_near_chunks, attend_to_own_rows

HEADS, WIDTH = 2, 3


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def softmax_of(query, keys, values, bias=0.0):
    """(H, E) of one query (H, E) over N keys and values (N, H, E)."""
    scores = torch.einsum("he,nhe->nh", query, keys) / WIDTH**0.5 + bias
    return torch.einsum("nh,nhe->he", scores.softmax(0), values)


def gradients(out, *inputs):
    weights = torch.sin(torch.arange(out.numel()).float()).view(out.shape)
    return torch.autograd.grad((out * weights).sum(), inputs)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.floats(0, 300))
def test_a_chunk_sees_its_own_rows(lengths, scale):
    chunk_of_row = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    q, k, v = (
        random(len(lengths), HEADS, WIDTH),
        *(random(sum(lengths), HEADS, WIDTH, seed=s) for s in (1, 2)),
    )
    found = attend_to_own_rows(q * scale, k, v, chunk_of_row)
    rows = [chunk_of_row == chunk for chunk in range(len(lengths))]
    wanted = torch.stack(
        [softmax_of(query * scale, k[own], v[own]) for query, own in zip(q, rows, strict=True)]
    )
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients(found, q, k, v), gradients(wanted, q, k, v), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=4),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_row_sees_near_chunks_of_its_own_sequence(sequences, window, causal):
    """`sequences` holds the chunk lengths of each sequence."""
    lengths = [length for sequence in sequences for length in sequence]
    chunk_of_row = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    sequence_of_chunk = torch.tensor([i for i, sequence in enumerate(sequences) for _ in sequence])
    first = torch.tensor([int((sequence_of_chunk < s).sum()) for s in sequence_of_chunk])
    last = torch.tensor([int((sequence_of_chunk <= s).sum()) - 1 for s in sequence_of_chunk])
    q, k, v = (
        random(sum(lengths), HEADS, WIDTH),
        *(random(len(lengths), HEADS, WIDTH, seed=s) for s in (1, 2)),
    )
    offsets = list(range(1 - window, 1 if causal else window))
    bias = random(len(offsets), HEADS, seed=3)
    ends = first[chunk_of_row], last[chunk_of_row]
    found = attend_to_near_chunks(q, k, v, chunk_of_row, ends, offsets, bias)
    wanted = []
    for query, own in zip(q, chunk_of_row.tolist(), strict=True):
        seen = [
            (own + offset, place)
            for place, offset in enumerate(offsets)
            if 0 <= own + offset < len(lengths) and sequence_of_chunk[own + offset] == sequence_of_chunk[own]
        ]
        chunks, places = (list(part) for part in zip(*seen, strict=True))
        wanted.append(softmax_of(query, k[chunks], v[chunks], bias[places]))
    torch.testing.assert_close(found, torch.stack(wanted), atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients(found, q, k, v), gradients(torch.stack(wanted), q, k, v), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_no_matrix_of_rows_by_chunks():
    """A million rows by 250,000 chunks would need a terabyte."""
    rows, chunks = 1 << 20, 1 << 18
    chunk_of_row = torch.arange(rows) // 4
    q, k = torch.ones(chunks, 1, 1), torch.ones(rows, 1, 1)
    assert attend_to_own_rows(q, k, k, chunk_of_row).shape == (chunks, 1, 1)
    ends = torch.zeros_like(chunk_of_row), torch.full_like(chunk_of_row, chunks - 1)
    out = attend_to_near_chunks(k, q, q, chunk_of_row, ends, [0, -1], torch.zeros(2, 1))
    torch.testing.assert_close(out, torch.ones_like(k))

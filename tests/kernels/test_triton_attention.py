"""Windowed attention's Triton kernel against dense attention in float64: on a GPU, or in Triton's interpreter.

As part of all tests, which see no GPU, `test_in_interpreter.py` runs this file in a process of its own. On a GPU:
`python -m pytest --noconftest tests/kernels/test_triton_attention.py`.
"""

import math
from itertools import pairwise

import pytest
import torch

# Before all else of genotok, since Triton may be imported only where it can run.
from triton_device import DEVICE, INTERPRETED, poisoned_memory  # noqa: F401

from genotok.kernels import triton_attention
from genotok.kernels.ragged import Ragged
from genotok.kernels.triton_attention import attend, attention, takes

HALF = torch.float16 if INTERPRETED else torch.bfloat16  # numpy knows no bfloat16
LIMIT, LOG_LIMIT = (2e-3, 1e-5) if INTERPRETED else (1.6e-2, 1e-4)


def layout(*lengths):
    return Ragged.from_lengths(torch.tensor(lengths, device=DEVICE))


def visible(ragged, causal, window):
    """(T, T), which row sees which, row by row."""
    seen = torch.zeros(ragged.total, ragged.total, dtype=torch.bool)
    ends = ragged.cu_seqlens.tolist()
    for low, high in pairwise(ends):
        for row in range(low, high):
            first = low if window < 0 else max(low, row - window)
            last = row if causal else high - 1 if window < 0 else min(high - 1, row + window)
            seen[row, first : last + 1] = True
    return seen.to(DEVICE)


def scores_of(q, k, seen):
    scores = torch.einsum("qhe,khe->hqk", q, k) / math.sqrt(q.shape[-1])
    return scores.masked_fill(~seen, -math.inf)


def dense(q, k, v, seen):
    """Outputs and the logarithms of the softmax's sums, in float64."""
    scores = scores_of(q.double(), k.double(), seen)
    return torch.einsum("hqk,khe->qhe", scores.softmax(-1), v.double()), scores.logsumexp(-1)


def relative_error(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


def inputs(total, heads=2, width=16):
    return [torch.randn(total, heads, width, device=DEVICE).to(HALF) for _ in range(3)]


def held_against_dense(parts, ragged, causal, window):
    out, lse = attend(*parts, ragged, causal, window)
    wanted, logs = dense(*parts, visible(ragged, causal, window))
    assert lse.shape == (parts[0].shape[1], ragged.total)
    assert lse.dtype == torch.float32
    assert lse.is_contiguous()
    assert relative_error(out, wanted) < LIMIT
    torch.testing.assert_close(lse.double(), logs, atol=LOG_LIMIT, rtol=LOG_LIMIT)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [-1, 0, 1, 100, 1000])
def test_equals_dense_attention(causal, window):
    ragged = layout(65, 1, 63, 0, 270, 64)
    held_against_dense(inputs(ragged.total, heads=1), ragged, causal, window)


@pytest.mark.parametrize("width", [16, 32, 64, 128])
def test_widths(width):
    """Also queries, keys and values that lie side by side, of which nothing is copied."""
    ragged = layout(140, 1, 70)
    rows = torch.randn(ragged.total, 6, width, device=DEVICE).to(HALF)
    held_against_dense(rows.split(2, 1), ragged, True, 37)


def test_heads_that_lie_apart():
    """Of queries, keys and values each as far as they do."""
    ragged = layout(40, 30)
    parts = [torch.randn(70, 3, 16 + apart, device=DEVICE).to(HALF)[..., :16] for apart in (0, 8, 20)]
    held_against_dense(parts, ragged, True, 20)


@pytest.mark.parametrize("tiles", [(16, 32, 4, 1), (64, 16, 4, 1)])
def test_tiles(tiles, monkeypatch):
    """Tiles of other shapes are masked as they must be, among them one that ends behind what every query sees."""
    monkeypatch.setattr(triton_attention, "NARROW", tiles)
    ragged = layout(33, 81)
    for causal, window in [(True, 62), (True, 31), (False, 31)]:
        held_against_dense(inputs(ragged.total, heads=1), ragged, causal, window)


def test_large_scores():
    """Whose exponentials no float32 holds, those of what is not seen among them."""
    ragged = layout(150)
    q, k, v = inputs(150)
    held_against_dense((q * 30, k * 30, v), ragged, True, 20)


@pytest.mark.parametrize("causal", [True, False])
def test_sequences_see_nothing_of_each_other(causal):
    """Also where whole tiles reach into the sequence behind, or in front: here those are infinite."""
    ragged, parts = layout(50, 70, 30), inputs(150)
    for part in parts:
        part[:50], part[120:] = torch.inf, torch.nan
    out, lse = attend(*parts, ragged, causal, 40)
    own = [part[50:120] for part in parts]
    wanted, logs = dense(*own, visible(layout(70), causal, 40))
    assert relative_error(out[50:120], wanted) < LIMIT
    torch.testing.assert_close(lse[:, 50:120].double(), logs, atol=LOG_LIMIT, rtol=LOG_LIMIT)


def flash_backward(
    to_out, q, k, v, out, lse, ends, ends_k, longest, longest_k, dropped, causal, random, unused, *,
    window_size_left, window_size_right,
):  # fmt: skip
    """What torch's operation does on a GPU, by its formula (arXiv 2307.08691) of the arguments that it is given."""
    assert (causal, dropped) == ((window_size_left, window_size_right) == (-1, 0), 0.0)
    assert window_size_right in (0, window_size_left)
    ragged = Ragged(ends, len(q), longest)
    seen = visible(ragged, window_size_right == 0, window_size_left)
    weights = (scores_of(q.double(), k.double(), seen) - lse.double()[:, :, None]).exp()
    of_rows = (to_out.double() * out.double()).sum(-1).t()[:, :, None]
    to_weights = torch.einsum("qhe,khe->hqk", to_out.double(), v.double())
    to_scores = weights * (to_weights - of_rows) / math.sqrt(q.shape[-1])
    return (
        torch.einsum("hqk,khe->qhe", to_scores, k.double()).to(q.dtype),
        torch.einsum("hqk,qhe->khe", to_scores, q.double()).to(k.dtype),
        torch.einsum("hqk,qhe->khe", weights, to_out.double()).to(v.dtype),
    )


@pytest.mark.parametrize(("causal", "window"), [(True, 50), (True, -1), (False, 20), (False, -1)])
def test_gradients(causal, window, monkeypatch):
    """Of torch's operation, which needs a GPU; elsewhere it takes the arguments on torch's device "meta"."""
    operation = torch.ops.aten._flash_attention_backward

    def checked(*arguments, **sides):
        there = [part.to("meta") if isinstance(part, torch.Tensor) else part for part in arguments]
        assert [part.shape for part in operation(*there, **sides)] == [part.shape for part in arguments[1:4]]
        return flash_backward(*arguments, **sides)

    if INTERPRETED:
        monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", checked)
    ragged = layout(90, 1, 130)
    parts = [part.requires_grad_() for part in inputs(ragged.total)]
    exact = [part.detach().double().requires_grad_() for part in parts]
    out = attention(*parts, ragged, causal, window)
    wanted, _ = dense(*exact, visible(ragged, causal, window))
    weights = torch.randn_like(wanted)
    found = torch.autograd.grad(out, parts, weights.to(HALF))
    expected = torch.autograd.grad(wanted, exact, weights)
    errors = [relative_error(*pair) for pair in zip(found, expected, strict=True)]
    assert all(error < 2 * LIMIT for error in errors), errors  # false where one is NaN


def test_what_it_takes(monkeypatch):
    """Heads of a power of two, whose features lie side by side; all else is left to torch."""
    monkeypatch.setattr(triton_attention, "has_tensor_memory_accelerator", lambda device: True)
    for width in (8, 16, 24, 64, 128, 256):
        rows = torch.zeros(4, 2, width, dtype=HALF, device=DEVICE)
        assert takes(rows, rows, rows) == (width in (16, 64, 128))
    assert not takes(*[torch.zeros(4, 16, 16, dtype=HALF, device=DEVICE).transpose(1, 2)] * 3)
    monkeypatch.setattr(triton_attention, "has_tensor_memory_accelerator", lambda device: False)
    assert not takes(*inputs(4))

"""Attention within a window in Triton, forward; backward it is torch's flash attention.

A program takes the queries of one piece of a sequence and one head, and walks over the keys that any of them sees, as
flash attention does (arXiv 2307.08691). Only tiles at the edges of what is seen are masked: under a window of 1,024
rows four of eighteen.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from genotok.kernels.backend import has_tensor_memory_accelerator
from genotok.kernels.ragged import Ragged
from genotok.kernels.tile_sizes import next_power_of_2
from genotok.kernels.triton_pieces import piece, tile

NARROWEST_HEAD, WIDEST_HEAD = 16, 128
# Of heads of up to 64 features, and of wider ones; registers of a thread may be bounded behind them. Two programs fit
# a multiprocessor, so that one's products run beside the other's exponentials.
LAUNCH = ("ROWS", "KEYS", "num_warps", "num_stages", "maxnreg")
NARROW, WIDE = (128, 64, 8, 3), (64, 64, 4, 2)


def takes(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel takes inputs that torch's flash attention takes, on a device that it was written for."""
    width = q.shape[-1]
    return (
        has_tensor_memory_accelerator(q.device)
        and NARROWEST_HEAD <= width == next_power_of_2(width) <= WIDEST_HEAD
        and q.shape == k.shape == v.shape
        and q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
    )


def attention(q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, causal: bool, window: int) -> Tensor:
    """As `genotok.kernels.attention.ragged_attention`, of as many heads of keys as of queries."""
    return _Attention.apply(q, k, v, ragged, causal, window)


def attend(
    q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, causal: bool, window: int
) -> tuple[Tensor, Tensor]:
    """The outputs (T, H, E), and (H, T) float32, the natural logarithm of the sum of each query's exponentials."""
    total, heads, width = q.shape
    launch = dict(zip(LAUNCH, NARROW if width <= 64 else WIDE, strict=False))
    out = torch.empty(q.shape, device=q.device, dtype=q.dtype)
    lse = torch.empty(heads, total, device=q.device, dtype=torch.float32)
    pieces = ragged.pieces(launch["ROWS"])
    with torch.cuda.device_of(q):
        _attend[(len(pieces), heads)](
            q, k, v, pieces, ragged.cu_seqlens, out, lse, total, q.stride(0), q.stride(1), k.stride(0), k.stride(1),
            v.stride(0), v.stride(1), window, math.log2(math.e) / math.sqrt(width),
            HEADS=heads, WIDTH=width, CAUSAL=causal, LIMITED=window >= 0, **launch,
        )  # fmt: skip
    return out, lse


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, ragged, causal, window):
        out, lse = attend(q, k, v, ragged, causal, window)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.ragged, ctx.sides = ragged, (window, 0 if causal else window)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, to_out):
        q, k, v, out, lse = ctx.saved_tensors
        ends, longest, (left, right) = ctx.ragged.cu_seqlens, ctx.ragged.max_seqlen, ctx.sides
        # What torch.nn.attention.varlen gives where nothing is dropped out.
        random, unused = torch.zeros(2, device=q.device, dtype=torch.uint64), q.new_empty(0)
        to_q, to_k, to_v = torch.ops.aten._flash_attention_backward(
            to_out, q, k, v, out, lse, ends, ends, longest, longest, 0.0, (left, right) == (-1, 0), random, unused,
            window_size_left=left, window_size_right=right,
        )  # fmt: skip
        return to_q, to_k, to_v, None, None, None


@triton.jit
def _attend(
    q, k, v, pieces, ends, out, lse, total, q_row, q_head, k_row, k_head, v_row, v_head, window, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    CAUSAL: tl.constexpr, LIMITED: tl.constexpr,
):  # fmt: skip
    """The queries of one piece and head; `scale` is that of the scores times log2(e)."""
    line, head = tl.program_id(0), tl.program_id(1)
    first, end, sequence = piece(pieces, line)
    if first >= end:
        return
    # Any query sees keys from `low` to `high` only, and every one those from `all_low` to `all_high`.
    low, high = tl.load(ends + sequence), tl.load(ends + sequence + 1)
    all_low, all_high = low, high
    if LIMITED:
        all_low = tl.maximum(low, end - 1 - window)
        low = tl.maximum(low, first - window)
        if not CAUSAL:
            all_high = tl.minimum(high, first + window + 1)
            high = tl.minimum(high, end + window)
    if CAUSAL:
        all_high = first + 1
        high = end
    rows, columns = first + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    qs = tile(q + head * q_head, rows, q_row, end, columns, WIDTH)
    # Finite, so that a query that sees nothing of a tile weighs it by exp2(-inf), which is 0.
    top = tl.full([ROWS], -1e30, tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    summed = tl.zeros([ROWS, WIDTH], tl.float32)
    for begins in range(low, high, KEYS):
        keys = begins + tl.arange(0, KEYS)
        ks = tile(k + head * k_head, keys, k_row, high, columns, WIDTH)
        scores = tl.dot(qs, tl.trans(ks))
        if (begins < all_low) | (begins + KEYS > all_high):
            visible = _visible(rows, keys, high, window, CAUSAL, LIMITED)
            scores = tl.where(visible, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1) * scale)
        weights = tl.exp2(scores * scale - higher[:, None])
        shrunk = tl.exp2(top - higher)
        mass = mass * shrunk + tl.sum(weights, 1)
        vs = tile(v + head * v_head, keys, v_row, high, columns, WIDTH)
        summed = tl.dot(weights.to(vs.dtype), vs, summed * shrunk[:, None])
        top = higher
    inside = rows < end
    tl.store(lse + head.to(tl.int64) * total + rows, (top + tl.log2(mass)) * 0.6931471805599453, mask=inside)
    at = out + rows.to(tl.int64)[:, None] * (HEADS * WIDTH) + head * WIDTH + columns[None, :]
    tl.store(at, (summed * (1.0 / mass)[:, None]).to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def _visible(rows, keys, high, window, CAUSAL: tl.constexpr, LIMITED: tl.constexpr):
    """(rows, keys) of a tile: whether a query sees a key. Below 0, a distance is a large unsigned number."""
    distance = rows[:, None] - keys[None, :]
    if CAUSAL:  # rows behind `high` are not written
        if LIMITED:
            return distance.to(tl.uint32, bitcast=True) <= window
        else:
            return distance >= 0
    else:
        if LIMITED:
            near = (distance + window).to(tl.uint32, bitcast=True) <= 2 * window
            return near & (keys < high)[None, :]
        else:
            return (keys < high)[None, :]

"""Step sizes and decays of a state space, as its Triton kernels read them."""

import triton
import triton.language as tl

from genotok.kernels.triton_pieces import piece, tile


@triton.jit
def softplus(x):
    """log(1 + exp(x)), accurate for small exp(x) too."""
    e = tl.exp(tl.minimum(x, 20.0))
    one = 1.0 + e
    small = tl.where(one == 1.0, e, tl.log(one) * (e / tl.where(one == 1.0, 1.0, one - 1.0)))
    return tl.where(x > 20.0, x, small)


@triton.jit
def cumulate_kernel(
    dt, a, bias, pieces, step, high, low, total, dt_row,
    HEADS: tl.constexpr, BLOCK_H: tl.constexpr, CHUNK: tl.constexpr, SOFTPLUS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Step sizes (H, T), and running sums (H, T) of log2 decays within a chunk: EXACT as `high` + `low`, else `high`.

    Summed in float64 and, where EXACT, split so that differences of `high` are exact: behind strong decays, weak ones
    keep their precision.
    """
    first, end, _ = piece(pieces, tl.program_id(0))
    if first >= end:
        return
    rows, heads = first + tl.arange(0, CHUNK), tl.arange(0, BLOCK_H)
    inside = (rows < end)[:, None] & (heads < HEADS)[None, :]
    size = tile(dt, rows, dt_row, end, heads, HEADS).to(tl.float32)
    if SOFTPLUS:
        size = softplus(size + tl.load(bias + heads, mask=heads < HEADS, other=0.0).to(tl.float32)[None, :])
    rate = tl.load(a + heads, mask=heads < HEADS, other=0.0).to(tl.float32)
    log2_decay = tl.maximum((size * rate[None, :]).to(tl.float64) * 1.4426950408889634, -127.0)
    summed = tl.cumsum(tl.where(inside, log2_decay, 0.0), 0)
    at = heads.to(tl.int64)[None, :] * total + rows[:, None]
    tl.store(step + at, size, mask=inside)
    if EXACT:
        coarse = tl.floor(summed * 256.0) / 256.0
        tl.store(high + at, coarse.to(tl.float32), mask=inside)
        tl.store(low + at, (summed - coarse).to(tl.float32), mask=inside)
    else:
        tl.store(high + at, summed.to(tl.float32), mask=inside)


@triton.jit
def sums(high, low, at, inside, EXACT: tl.constexpr):
    """The running sums of `cumulate_kernel` at some rows, as two parts; the second is none unless EXACT."""
    coarse = tl.load(high + at, mask=inside, other=0.0)
    if EXACT:
        return coarse, tl.load(low + at, mask=inside, other=0.0)
    return coarse, coarse


@triton.jit
def chunk_decay(high, low, EXACT: tl.constexpr):
    """From the chunk's beginning to rows with these sums."""
    if EXACT:
        return tl.exp2(high + low)
    return tl.exp2(high)


@triton.jit
def decay_between(to_high, to_low, from_high, from_low, EXACT: tl.constexpr):
    """From rows to rows."""
    if EXACT:
        return tl.exp2(to_high - from_high + (to_low - from_low))
    return tl.exp2(to_high - from_high)

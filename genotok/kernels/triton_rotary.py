"""Rotary positions in Triton: a row's angles are worked out once for all of its heads."""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, HEADS = 4, 16  # that a program takes at a time


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """As `genotok.kernels.attention.rotate`; the products are float32 whatever the precision of `x`."""
    return _Rotate.apply(x, positions, frequencies)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, positions, frequencies):
        ctx.save_for_backward(positions, frequencies)
        return _turned(x, positions, frequencies, 1.0)

    @staticmethod
    def backward(ctx, gradient):
        return _turned(gradient, *ctx.saved_tensors, -1.0), None, None


def _turned(x: Tensor, positions: Tensor, frequencies: Tensor, direction: float) -> Tensor:
    x = x if x.stride(-1) == 1 else x.contiguous()
    total, heads, features = x.shape
    out = x.new_empty(x.shape)
    half, rest = len(frequencies), features - 2 * len(frequencies)
    _turn[(triton.cdiv(total, ROWS),)](
        x,
        positions,
        frequencies,
        out,
        total,
        x.stride(0),
        x.stride(1),
        heads,
        features,
        half,
        direction,
        ROWS=ROWS,
        HEADS=min(HEADS, triton.next_power_of_2(heads)),
        HALF=triton.next_power_of_2(half),
        REST=triton.next_power_of_2(max(rest, 1)),
        HAS_REST=rest > 0,
        num_warps=4,
    )
    return out


@triton.jit
def _turn(
    x,
    positions,
    frequencies,
    out,
    total,
    row_stride,
    head_stride,
    heads,
    features,
    half,
    direction,
    ROWS: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    REST: tl.constexpr,
    HAS_REST: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    wave, behind = tl.arange(0, HALF), 2 * half + tl.arange(0, REST)
    position = tl.load(positions + rows, rows < total, 0).to(tl.float32)
    angle = position[:, None] * tl.load(frequencies + wave, wave < half, 0.0)[None, :]
    cos, sin = tl.cos(angle)[:, None, :], tl.sin(angle)[:, None, :] * direction
    wave, behind = wave[None, None, :], behind[None, None, :]
    for start in range(0, heads, HEADS):
        head = (start + tl.arange(0, HEADS))[None, :, None]
        there = (rows < total)[:, None, None] & (head < heads)
        turns, stays = there & (wave < half), there & (behind < features)
        place = rows[:, None, None] * row_stride + head * head_stride
        to = (rows[:, None, None] * heads + head) * features
        first = tl.load(x + place + wave, turns, 0.0).to(tl.float32)
        second = tl.load(x + place + half + wave, turns, 0.0).to(tl.float32)
        if HAS_REST:
            tl.store(out + to + behind, tl.load(x + place + behind, stays, 0.0), stays)
        tl.store(out + to + wave, (first * cos - second * sin).to(out.dtype.element_ty), turns)
        tl.store(out + to + half + wave, (second * cos + first * sin).to(out.dtype.element_ty), turns)

"""Rotary positions in Triton: a row's angles are worked out once for all of its heads."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from genotok.kernels.tile_sizes import cdiv, next_power_of_2

ROWS, HEADS = 4, 16  # that a program takes at a time


def rotate(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """As `genotok.kernels.attention.rotate`; the products are float32 whatever the precision of `x`."""
    return rotated_parts(x, x.shape[1], 0, positions, frequencies)[0]


def rotated_parts(
    rows: Tensor, heads: int, kv_heads: int, positions: Tensor, frequencies: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `genotok.kernels.attention.rotated_parts`, with the gradients of all parts written into one tensor.

    Queries and keys share the memory that `rotate` would give; the values stay where they are in `rows`.
    """
    with torch.cuda.device_of(rows):
        return _RotatedParts.apply(rows, heads, kv_heads, positions, frequencies)


class _RotatedParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, heads, kv_heads, positions, frequencies):
        ctx.save_for_backward(positions, frequencies)
        both = heads + kv_heads
        turned = _turned(rows[:, :both], positions, frequencies)
        return turned[:, :heads], turned[:, heads:], rows[:, both:]

    @staticmethod
    @once_differentiable
    def backward(ctx, to_q, to_k, to_v):
        return _parts_turned_back(to_q, to_k, to_v, *ctx.saved_tensors), None, None, None, None


def _turned(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    x = _with_whole_heads(x)
    total, heads, features = x.shape
    out = x.new_empty(x.shape)
    _turn[(cdiv(total, ROWS),)](
        x, x.stride(0), x.stride(1), positions, frequencies, out, total, heads, features,
        len(frequencies), HEADS=min(HEADS, next_power_of_2(heads)),
        **_constants(features, len(frequencies)),
    )  # fmt: skip
    return out


def _parts_turned_back(
    to_q: Tensor, to_k: Tensor, to_v: Tensor, positions: Tensor, frequencies: Tensor
) -> Tensor:
    """The gradient of the rows, (T, H + 2 K, E), from those of queries (T, H, E), keys and values (T, K, E)."""
    parts = [_with_whole_heads(part) for part in (to_q, to_k, to_v)]
    (total, heads, features), kv_heads = to_q.shape, to_k.shape[1]
    out = to_q.new_empty(total, heads + 2 * kv_heads, features)
    _turn_parts_back[(cdiv(total, ROWS),)](
        *(value for part in parts for value in (part, part.stride(0), part.stride(1))), positions,
        frequencies, out, total, heads, kv_heads, features, len(frequencies),
        HEADS=min(HEADS, next_power_of_2(max(heads, kv_heads))), FEATURES=next_power_of_2(features),
        **_constants(features, len(frequencies)),
    )  # fmt: skip
    return out


def _with_whole_heads(x: Tensor) -> Tensor:
    """A tensor whose features of a head lie side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _constants(features: int, half: int) -> dict[str, int | bool]:
    rest = features - 2 * half
    return {
        "ROWS": ROWS,
        "HALF": next_power_of_2(half),
        "REST": next_power_of_2(max(rest, 1)),
        "HAS_REST": rest > 0,
        "num_warps": 4,
    }


@triton.jit
def _turn(
    x, row_stride, head_stride, positions, frequencies, out, total, heads, features, half,
    ROWS: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
    HAS_REST: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cos, sin = _angles(positions, frequencies, rows, total, half, HALF)
    to = out + rows * heads * features
    _turn_heads(
        x, row_stride, head_stride, to, rows, total, heads, features, half, cos, sin, HEADS, HALF, REST, HAS_REST,
    )  # fmt: skip


@triton.jit
def _turn_parts_back(
    to_q, q_row, q_head, to_k, k_row, k_head, to_v, v_row, v_head, positions, frequencies, out, total,
    heads, kv_heads, features, half, ROWS: tl.constexpr, HEADS: tl.constexpr, FEATURES: tl.constexpr,
    HALF: tl.constexpr, REST: tl.constexpr, HAS_REST: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cos, sin = _angles(positions, frequencies, rows, total, half, HALF)
    sin = -sin
    of_q = out + rows * (heads + 2 * kv_heads) * features
    of_k = of_q + heads * features
    of_v = of_k + kv_heads * features
    _turn_heads(
        to_q, q_row, q_head, of_q, rows, total, heads, features, half, cos, sin, HEADS, HALF, REST, HAS_REST,
    )  # fmt: skip
    _turn_heads(
        to_k, k_row, k_head, of_k, rows, total, kv_heads, features, half, cos, sin, HEADS, HALF, REST, HAS_REST,
    )  # fmt: skip
    feature = tl.arange(0, FEATURES)[None, None, :]
    for start in range(0, kv_heads, HEADS):
        head = (start + tl.arange(0, HEADS))[None, :, None].to(tl.int64)
        there = (rows < total)[:, None, None] & (head < kv_heads) & (feature < features)
        found = tl.load(to_v + rows[:, None, None] * v_row + head * v_head + feature, there, 0.0)
        tl.store(of_v[:, None, None] + head * features + feature, found, there)


@triton.jit
def _angles(positions, frequencies, rows, total, half, HALF: tl.constexpr):
    """Cosines and sines, (ROWS, 1, HALF), by which the pairs of features of some rows turn."""
    wave = tl.arange(0, HALF)
    position = tl.load(positions + rows, rows < total, 0).to(tl.float32)
    angle = position[:, None] * tl.load(frequencies + wave, wave < half, 0.0)[None, :]
    return tl.cos(angle)[:, None, :], tl.sin(angle)[:, None, :]


@triton.jit
def _turn_heads(
    x, row_stride, head_stride, to, rows, total, heads, features, half, cos, sin, HEADS: tl.constexpr,
    HALF: tl.constexpr, REST: tl.constexpr, HAS_REST: tl.constexpr,
):  # fmt: skip
    """Turn the heads of some rows of `x`, and write them side by side from each row's pointer `to` on."""
    wave, behind = tl.arange(0, HALF)[None, None, :], (2 * half + tl.arange(0, REST))[None, None, :]
    for start in range(0, heads, HEADS):
        head = (start + tl.arange(0, HEADS))[None, :, None].to(tl.int64)
        there = (rows < total)[:, None, None] & (head < heads)
        turns, stays = there & (wave < half), there & (behind < features)
        place = x + rows[:, None, None] * row_stride + head * head_stride
        target = to[:, None, None] + head * features
        first = tl.load(place + wave, turns, 0.0).to(tl.float32)
        second = tl.load(place + half + wave, turns, 0.0).to(tl.float32)
        if HAS_REST:
            tl.store(target + behind, tl.load(place + behind, stays, 0.0), stays)
        tl.store(target + wave, (first * cos - second * sin).to(to.dtype.element_ty), turns)
        tl.store(target + half + wave, (second * cos + first * sin).to(to.dtype.element_ty), turns)

"""One row of Mamba-2 a sequence in Triton: the states are read and written once, where they lie."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.tile_sizes import cdiv, next_power_of_2
from genotok.kernels.triton_decay import softplus

CHANNELS = 256  # of the convolution that a program takes


def convolve_step(x: Tensor, weight: Tensor, bias: Tensor, before: Tensor, stepped: Tensor | None) -> Tensor:
    """`silu(causal_conv_step(...))` of x (B, C); `before` (B, K - 1, C) is brought up to date in place.

    Args:
        x, weight, bias, before: as in `causal_conv_step`.
        stepped: (B,) bool, the sequences of which `before` changes; None for all.
    """
    (batch, channels), taps = x.shape, weight.shape[1]
    out = x.new_empty(x.shape)
    with torch.cuda.device_of(x):
        _convolve_step[(batch, cdiv(channels, CHANNELS))](
            x,
            weight.contiguous(),
            bias,
            before,
            before if stepped is None else stepped,
            out,
            channels,
            x.stride(0),
            TAPS=taps,
            BLOCK=CHANNELS,
            MASKED=stepped is not None,
            num_warps=4,
        )
    return out


def scan_step(
    convolved: Tensor,
    dt: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    skip: Tensor,
    state: Tensor,
    stepped: Tensor | None,
) -> Tensor:
    """`ssd_step` of `scan_inputs`, with the skip added; `state` (B, H, N, P) is brought up to date in place.

    Args:
        convolved: (B, C + 2 N): x, B and C side by side.
        dt: (B, H), raw.
        dt_bias, a_log, skip: (H,).
        state: float32.
        stepped: (B,) bool, the sequences of which the state changes; None for all.

    Returns:
        (B, C) float32.
    """
    batch, heads, n, p = state.shape
    out = state.new_empty(batch, heads * p)
    with torch.cuda.device_of(convolved):
        _scan_step[(batch, heads)](
            convolved,
            dt,
            dt_bias,
            a_log,
            skip,
            state,
            state if stepped is None else stepped,
            out,
            convolved.stride(0),
            dt.stride(0),
            HEADS=heads,
            N=n,
            P=p,
            BLOCK_N=next_power_of_2(n),
            BLOCK_P=next_power_of_2(p),
            MASKED=stepped is not None,
            num_warps=4,
        )
    return out


@triton.jit
def _convolve_step(
    x, weight, bias, before, stepped, out, channels, x_row,
    TAPS: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < channels
    changes = inside
    if MASKED:
        changes = inside & (tl.load(stepped + sequence).to(tl.int32) > 0)
    held = before + sequence * (TAPS - 1) * channels + column
    new = tl.load(x + sequence * x_row + column, inside, 0.0)
    tap = tl.load(weight + column * TAPS + TAPS - 1, inside, 0.0).to(tl.float32)
    summed = tl.load(bias + column, inside, 0.0).to(tl.float32) + tap * new.to(tl.float32)
    for place in tl.static_range(TAPS - 1):
        row = tl.load(held + place * channels, inside, 0.0)
        summed += tl.load(weight + column * TAPS + place, inside, 0.0).to(tl.float32) * row.to(tl.float32)
        if place > 0:
            tl.store(held + (place - 1) * channels, row, changes)
    if TAPS > 1:
        tl.store(held + (TAPS - 2) * channels, new.to(before.dtype.element_ty), changes)
    summed *= 1.0 / (1.0 + tl.exp(-summed))
    tl.store(out + sequence * channels + column, summed.to(out.dtype.element_ty), inside)


@triton.jit
def _scan_step(
    convolved, dt, dt_bias, a_log, skip, state, stepped, out, row, dt_row,
    HEADS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    sequence, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    n, p = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P)
    size = softplus(
        tl.load(dt + sequence * dt_row + head).to(tl.float32) + tl.load(dt_bias + head).to(tl.float32)
    )
    decay = tl.exp(-size * tl.exp(tl.load(a_log + head).to(tl.float32)))
    own = convolved + sequence * row
    x = tl.load(own + head * P + p, p < P, 0.0).to(tl.float32)
    b = tl.load(own + HEADS * P + n, n < N, 0.0).to(tl.float32)
    c = tl.load(own + HEADS * P + N + n, n < N, 0.0).to(tl.float32)
    inside = (n < N)[:, None] & (p < P)[None, :]
    at = state + (sequence * HEADS + head) * N * P + n[:, None] * P + p[None, :]
    new = decay * tl.load(at, inside, 0.0) + (size * b)[:, None] * x[None, :]
    changes = inside
    if MASKED:
        changes = inside & (tl.load(stepped + sequence).to(tl.int32) > 0)
    tl.store(at, new, changes)
    y = tl.sum(c[:, None] * new, 0) + tl.load(skip + head).to(tl.float32) * x
    tl.store(out + sequence * HEADS * P + head * P + p, y, p < P)

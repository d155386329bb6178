"""Triton kernels of the causal depth-wise convolution over packed sequences, with or without SiLU behind it."""
# ruff: noqa: RUF005 -- inside a kernel, tuples grow by addition alone

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.ragged import Ragged

CHANNELS = 128  # of a program's tile
ROWS, ROWS_BACKWARD = 32, 8  # of a program's tile
TILES = 16  # that a program of the backward pass sums its part of the weights' gradient over


@triton.jit
def _conv_kernel(
    x, weight, bias, positions, out, total, channels, x_row, out_row,
    TAPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    position = tl.load(positions + rows, mask=rows < total, other=-1)
    inside = column < channels
    summed = tl.zeros([ROWS, BLOCK_C], tl.float32) + tl.load(bias + column, mask=inside, other=0.0).to(
        tl.float32
    )
    for back in tl.static_range(TAPS):
        tap = tl.load(weight + column * TAPS + TAPS - 1 - back, mask=inside, other=0.0).to(tl.float32)
        at = x + (rows - back).to(tl.int64)[:, None] * x_row + column[None, :]
        values = tl.load(at, mask=(position >= back)[:, None] & inside[None, :], other=0.0)
        summed += tap[None, :] * values.to(tl.float32)
    if SILU:
        summed *= 1.0 / (1.0 + tl.exp(-summed))
    at = out + rows.to(tl.int64)[:, None] * out_row + column[None, :]
    tl.store(at, summed.to(out.dtype.element_ty), mask=(rows < total)[:, None] & inside[None, :])


@triton.jit
def _conv_outputs_backward_kernel(
    x, weight, bias, positions, gradient, before, partial, total, channels, x_row, gradient_row,
    TAPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr, TILES: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """The gradients of the convolution's output, (T, C) in `before` if SILU, and of its weight and bias.

    `partial` (programs, TAPS + 1, C) takes the program's part of the latter two. `before` may be `gradient`.
    """
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = column < channels
    offset = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    to_bias = tl.zeros([ROWS, BLOCK_C], tl.float32)
    taps, to_weight = (), ()
    for back in tl.static_range(TAPS):
        tap = tl.load(weight + column * TAPS + TAPS - 1 - back, mask=inside, other=0.0).to(tl.float32)
        taps, to_weight = taps + (tap,), to_weight + (to_bias,)
    for tile in range(TILES):
        rows = (tl.program_id(1) * TILES + tile) * ROWS + tl.arange(0, ROWS)
        position = tl.load(positions + rows, mask=rows < total, other=-1)
        mask = (rows < total)[:, None] & inside[None, :]
        place = rows.to(tl.int64)[:, None]
        given = tl.load(gradient + place * gradient_row + column[None, :], mask=mask, other=0.0).to(
            tl.float32
        )
        values, summed = (), tl.zeros([ROWS, BLOCK_C], tl.float32) + offset[None, :]
        for back in tl.static_range(TAPS):
            at = x + (place - back) * x_row + column[None, :]
            value = tl.load(at, mask=(position >= back)[:, None] & inside[None, :], other=0.0).to(tl.float32)
            values = values + (value,)
            if SILU:
                summed += taps[back][None, :] * value
        if SILU:
            gate = 1.0 / (1.0 + tl.exp(-summed))
            given *= gate * (1.0 + summed * (1.0 - gate))
            tl.store(
                before + place * channels + column[None, :], given.to(before.dtype.element_ty), mask=mask
            )
        to_bias += given
        grown = ()
        for back in tl.static_range(TAPS):
            grown = grown + (to_weight[back] + given * values[back],)
        to_weight = grown
    at = partial + tl.program_id(1).to(tl.int64) * (TAPS + 1) * channels + column
    for back in tl.static_range(TAPS):
        tl.store(at + (TAPS - 1 - back) * channels, tl.sum(to_weight[back], 0), mask=inside)
    tl.store(at + TAPS * channels, tl.sum(to_bias, 0), mask=inside)


@triton.jit
def _conv_inputs_backward_kernel(
    gradient, weight, positions, dx, total, channels, gradient_row, dx_row,
    TAPS: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Each row's input reaches the outputs of itself and of the rows behind it in its sequence."""
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = column < channels
    summed = tl.zeros([ROWS, BLOCK_C], tl.float32)
    for ahead in tl.static_range(TAPS):
        position = tl.load(positions + rows + ahead, mask=rows + ahead < total, other=-1)
        tap = tl.load(weight + column * TAPS + TAPS - 1 - ahead, mask=inside, other=0.0).to(tl.float32)
        at = gradient + (rows + ahead).to(tl.int64)[:, None] * gradient_row + column[None, :]
        given = tl.load(at, mask=(position >= ahead)[:, None] & inside[None, :], other=0.0)
        summed += tap[None, :] * given.to(tl.float32)
    at = dx + rows.to(tl.int64)[:, None] * dx_row + column[None, :]
    tl.store(at, summed.to(dx.dtype.element_ty), mask=(rows < total)[:, None] & inside[None, :])


def convolve(x: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged, silu: bool) -> Tensor:
    """`causal_conv`, or `causal_conv_silu`, of x (T, C), whose rows may lie apart."""
    total, channels = x.shape
    out = torch.empty(total, channels, device=x.device, dtype=x.dtype)
    _conv_kernel[(triton.cdiv(channels, CHANNELS), triton.cdiv(total, ROWS))](
        x, weight, bias, ragged.positions, out, total, channels, x.stride(0), channels,
        TAPS=weight.shape[1], ROWS=ROWS, BLOCK_C=CHANNELS, SILU=silu, num_warps=4,
    )  # fmt: skip
    return out


def convolve_backward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    ragged: Ragged,
    silu: bool,
    gradient: Tensor,
    dx: Tensor,
    spare: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fill `dx` (T, C), whose rows may lie apart, and return the gradients of weight and bias, float32.

    With `silu`, `spare` is overwritten: contiguous, of the shape and dtype of x; it may be `gradient` itself.
    """
    total, channels = x.shape
    taps, programs = weight.shape[1], triton.cdiv(total, ROWS_BACKWARD * TILES)
    partial = torch.empty(programs, taps + 1, channels, device=x.device, dtype=torch.float32)
    before = spare if silu else gradient
    tile = {"TAPS": taps, "BLOCK_C": CHANNELS, "num_warps": 4}
    _conv_outputs_backward_kernel[(triton.cdiv(channels, CHANNELS), programs)](
        x, weight, bias, ragged.positions, gradient, before, partial, total, channels,
        x.stride(0), gradient.stride(0), ROWS=ROWS_BACKWARD, TILES=TILES, SILU=silu, **tile,
    )  # fmt: skip
    _conv_inputs_backward_kernel[(triton.cdiv(channels, CHANNELS), triton.cdiv(total, ROWS))](
        before,
        weight,
        ragged.positions,
        dx,
        total,
        channels,
        before.stride(0),
        dx.stride(0),
        ROWS=ROWS,
        **tile,
    )
    summed = partial.sum(0)
    return summed[:taps].t(), summed[taps]


class CausalConv(torch.autograd.Function):
    """`genotok.kernels.causal_conv.causal_conv`, and with `silu` what follows it in Mamba-2."""

    @staticmethod
    def forward(ctx, x, weight, bias, ragged, silu):
        """See `causal_conv`."""
        x = x if x.stride(-1) == 1 else x.contiguous()
        weight, bias = weight.contiguous(), bias.contiguous()
        ctx.save_for_backward(x, weight, bias)
        ctx.ragged, ctx.silu = ragged, silu
        with torch.cuda.device_of(x):
            return convolve(x, weight, bias, ragged, silu)

    @staticmethod
    def backward(ctx, gradient):
        """Gradients of x, weight and bias."""
        x, weight, bias = ctx.saved_tensors
        gradient = gradient.contiguous()
        dx, spare = (torch.empty(x.shape, device=x.device, dtype=x.dtype) for _ in range(2))
        with torch.cuda.device_of(x):
            to_weight, to_bias = convolve_backward(x, weight, bias, ctx.ragged, ctx.silu, gradient, dx, spare)
        return dx, to_weight.to(weight.dtype), to_bias.to(bias.dtype), None, None

"""Triton kernels of the causal depth-wise convolution over packed sequences, with or without SiLU behind it."""
# ruff: noqa: RUF005 -- inside a kernel, tuples grow by addition alone

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.kernels.tile_sizes import cdiv
from genotok.kernels.triton_pieces import piece

CHANNELS = 128  # of a program
# Rows that a program walks down, rows that are fetched at once, and warps, forward and backward; and backward so many
# times these rows: what is fetched ahead, and what is worked on. By measurement on an H200.
FORWARD_WALK, FORWARD_UNROLL, FORWARD_WARPS = 64, 8, 1
WALK, UNROLL, BACKWARD_WARPS, STAGES = 128, 4, 1, 4


@triton.jit
def _conv_kernel(
    x, weight, bias, out, pieces, ends, channels, x_row, out_row,
    TAPS: tl.constexpr, BLOCK_C: tl.constexpr, UNROLL: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Walk down the rows of a piece, with the TAPS - 1 rows before each in registers: every number is read once."""
    # A grid of one axis, since the others end at 65,535 programs.
    blocks = tl.cdiv(channels, BLOCK_C)
    first, end, sequence = piece(pieces, tl.program_id(0) // blocks)
    sequence_first = tl.load(ends + sequence)
    column = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = column < channels
    offset = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    taps, inputs = (), ()
    for back in tl.static_range(TAPS):
        tap = tl.load(weight + column * TAPS + TAPS - 1 - back, mask=inside, other=0.0).to(tl.float32)
        row = first.to(tl.int64) - 1 - back
        before = tl.load(x + row * x_row + column, mask=inside & (row >= sequence_first), other=0.0)
        taps, inputs = taps + (tap,), inputs + (before.to(tl.float32),)
    for begins in range(first, end, UNROLL):
        values = ()
        for k in tl.static_range(UNROLL):
            row = tl.full([], begins, tl.int64) + k
            values = values + (tl.load(x + row * x_row + column, mask=inside & (row < end), other=0.0),)
        for k in tl.static_range(UNROLL):
            row = tl.full([], begins, tl.int64) + k
            inputs = _shifted(values[k].to(tl.float32), inputs, TAPS)
            summed = offset
            for back in tl.static_range(TAPS):
                summed += taps[back] * inputs[back]
            if SILU:
                summed *= 1.0 / (1.0 + tl.exp(-summed))
            tl.store(out + row * out_row + column, summed.to(out.dtype.element_ty), mask=inside & (row < end))


@triton.jit
def _conv_backward_kernel(
    x, weight, bias, gradient, dx, pieces, ends, partial, channels, x_row, gradient_row, dx_row,
    TAPS: tl.constexpr, BLOCK_C: tl.constexpr, UNROLL: tl.constexpr, SILU: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Walk down the rows of a piece, with what the neighbouring rows need of each in registers.

    A row's input reaches its own output and those of the TAPS - 1 rows behind it in its sequence, so that the walk
    goes so far beyond the piece. `partial` (pieces, TAPS + 1, C) takes the piece's part of the gradients of weight
    and bias.
    """
    line = tl.program_id(1)
    first, end, sequence = piece(pieces, line)
    sequence_first, sequence_end = tl.load(ends + sequence), tl.load(ends + sequence + 1)
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = column < channels
    offset = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    nothing = tl.zeros([BLOCK_C], tl.float32)
    taps, to_weight, inputs, outputs = (), (), (), ()
    for back in tl.static_range(TAPS):
        tap = tl.load(weight + column * TAPS + TAPS - 1 - back, mask=inside, other=0.0).to(tl.float32)
        taps, to_weight = taps + (tap,), to_weight + (nothing,)
        row = first.to(tl.int64) - 1 - back
        known = inside & (row >= sequence_first)
        before = tl.load(x + row * x_row + column, mask=known, other=0.0).to(tl.float32)
        inputs, outputs = inputs + (before,), outputs + (nothing,)
    to_bias = nothing
    for begins in tl.range(first, tl.where(first < end, end + TAPS - 1, first), UNROLL, num_stages=STAGES):
        values, given = (), ()
        for k in tl.static_range(UNROLL):
            row = tl.full([], begins, tl.int64) + k
            known = inside & (row < sequence_end)
            values = values + (tl.load(x + row * x_row + column, mask=known, other=0.0),)
            given = given + (tl.load(gradient + row * gradient_row + column, mask=known, other=0.0),)
        for k in tl.static_range(UNROLL):
            row = tl.full([], begins, tl.int64) + k
            inputs = _shifted(values[k].to(tl.float32), inputs, TAPS)
            to_output = given[k].to(tl.float32)
            if SILU:
                summed = offset
                for back in tl.static_range(TAPS):
                    summed += taps[back] * inputs[back]
                gate = 1.0 / (1.0 + tl.exp(-summed))
                to_output *= gate * (1.0 + summed * (1.0 - gate))
            outputs = _shifted(to_output, outputs, TAPS)
            own = tl.where(row < end, to_output, 0.0)  # the rows behind are those of another piece
            to_bias += own
            grown, to_input = (), nothing
            for back in tl.static_range(TAPS):
                grown = grown + (to_weight[back] + own * inputs[back],)
                to_input += taps[back] * outputs[TAPS - 1 - back]
            to_weight = grown
            reached = row - (TAPS - 1)
            at = dx + reached * dx_row + column
            tl.store(at, to_input.to(dx.dtype.element_ty), mask=inside & (reached >= first) & (reached < end))
    at = partial + line.to(tl.int64) * (TAPS + 1) * channels + column
    for back in tl.static_range(TAPS):
        tl.store(at + (TAPS - 1 - back) * channels, to_weight[back], mask=inside)
    tl.store(at + TAPS * channels, to_bias, mask=inside)


@triton.jit
def _shifted(newest, others, COUNT: tl.constexpr):
    """`newest` in front of all but the last of `others`."""
    shifted = (newest,)
    for k in tl.static_range(COUNT - 1):
        shifted = shifted + (others[k],)
    return shifted


def convolve(x: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged, silu: bool) -> Tensor:
    """`causal_conv`, or `causal_conv_silu`, of x (T, C), whose rows may lie apart."""
    channels, pieces = x.shape[1], ragged.pieces(FORWARD_WALK)
    out = torch.empty(x.shape, device=x.device, dtype=x.dtype)
    _conv_kernel[(cdiv(channels, CHANNELS) * len(pieces),)](
        x, weight, bias, out, pieces, ragged.cu_seqlens, channels, x.stride(0), channels,
        TAPS=weight.shape[1], BLOCK_C=CHANNELS, UNROLL=FORWARD_UNROLL, SILU=silu, num_warps=FORWARD_WARPS,
    )  # fmt: skip
    return out


def convolve_backward(
    x: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged, silu: bool, gradient: Tensor, dx: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill `dx` (T, C), whose rows may lie apart, and return the gradients of weight and bias, float32."""
    channels, taps, pieces = x.shape[1], weight.shape[1], ragged.pieces(WALK)
    partial = torch.empty(len(pieces), taps + 1, channels, device=x.device, dtype=torch.float32)
    _conv_backward_kernel[(cdiv(channels, CHANNELS), len(pieces))](
        x, weight, bias, gradient, dx, pieces, ragged.cu_seqlens, partial, channels,
        x.stride(0), gradient.stride(0), dx.stride(0),
        TAPS=taps, BLOCK_C=CHANNELS, UNROLL=UNROLL, SILU=silu, num_warps=BACKWARD_WARPS, STAGES=STAGES,
    )  # fmt: skip
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
        dx = torch.empty(x.shape, device=x.device, dtype=x.dtype)
        with torch.cuda.device_of(x):
            to_weight, to_bias = convolve_backward(x, weight, bias, ctx.ragged, ctx.silu, gradient, dx)
        return dx, to_weight.to(weight.dtype), to_bias.to(bias.dtype), None, None

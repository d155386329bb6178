"""The gate of a SwiGLU in Triton: both halves are read once, and their gradients written side by side."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.tile_sizes import cdiv

COLUMNS = 1024


def swiglu(value_gate: Tensor) -> Tensor:
    """As `genotok.kernels.swiglu.swiglu`."""
    with torch.cuda.device_of(value_gate):
        return _SwiGLU.apply(value_gate)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value_gate):
        value_gate = value_gate.contiguous()
        ctx.save_for_backward(value_gate)
        width = value_gate.shape[-1] // 2
        out = value_gate.new_empty(*value_gate.shape[:-1], width)
        _forward[_grid(out)](value_gate, out, width, COLUMNS=COLUMNS, num_warps=4)
        return out

    @staticmethod
    def backward(ctx, gradient):
        (value_gate,) = ctx.saved_tensors
        to_both = torch.empty_like(value_gate)
        gradient = gradient.contiguous()
        _backward[_grid(gradient)](
            value_gate, gradient, to_both, gradient.shape[-1], COLUMNS=COLUMNS, num_warps=4
        )
        return to_both


def _grid(out: Tensor) -> tuple[int, int]:
    return out.numel() // out.shape[-1], cdiv(out.shape[-1], COLUMNS)


@triton.jit
def _forward(value_gate, out, width, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < width
    value = tl.load(value_gate + row * 2 * width + columns, there, 0.0).to(tl.float32)
    gate = tl.load(value_gate + row * 2 * width + width + columns, there, 0.0).to(tl.float32)
    gated = gate * tl.sigmoid(gate) * value
    tl.store(out + row * width + columns, gated.to(out.dtype.element_ty), there)


@triton.jit
def _backward(value_gate, gradient, to_both, width, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < width
    place = row * 2 * width + columns
    value = tl.load(value_gate + place, there, 0.0).to(tl.float32)
    gate = tl.load(value_gate + place + width, there, 0.0).to(tl.float32)
    found = tl.load(gradient + row * width + columns, there, 0.0).to(tl.float32)
    open_ = tl.sigmoid(gate)
    to_value = found * gate * open_
    to_gate = found * value * open_ * (1 + gate * (1 - open_))
    tl.store(to_both + place, to_value.to(to_both.dtype.element_ty), there)
    tl.store(to_both + place + width, to_gate.to(to_both.dtype.element_ty), there)

"""Triton kernels of Mamba-2's gated norm."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.tile_sizes import cdiv, next_power_of_2

WIDEST = 1 << 14  # features a row that registers hold
TILE = 2048  # numbers a program takes at once
STAGES = 3  # tiles that are fetched ahead, and the one that is worked on, in the backward pass
MOST_FETCHED = 64 << 10  # bytes of the former, for which the shared memory of small GPUs has room as well
PROGRAMS = 1056  # 8 a multiprocessor of an H100: each sums its rows' part of the weight's gradient


@triton.jit
def _gated_norm_kernel(
    y, z, weight, out, total, width, eps, y_row, z_row, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr
):
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_C)
    inside = (rows < total)[:, None] & (column < width)[None, :]
    place = rows.to(tl.int64)[:, None]
    gate = tl.load(z + place * z_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
    value = tl.load(y + place * y_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
    value *= gate / (1.0 + tl.exp(-gate))
    scale = tl.rsqrt(tl.sum(value * value, 1) / width + eps)
    value *= scale[:, None] * tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    tl.store(out + place * width + column[None, :], value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gated_norm_backward_kernel(
    y, z, weight, gradient, dy, dz, partial, total, width, eps, y_row, z_row, gradient_row, dz_row,
    BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Every program takes each so-manieth tile of rows; `partial` (programs, C) its part of the weight's gradient."""
    column = tl.arange(0, BLOCK_C)
    inside_c = column < width
    factor = tl.load(weight + column, mask=inside_c, other=0.0).to(tl.float32)
    to_weight = tl.zeros([BLOCK_C], tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(total, BLOCK_T), tl.num_programs(0), num_stages=STAGES):
        rows = tile * BLOCK_T + tl.arange(0, BLOCK_T)
        inside = (rows < total)[:, None] & inside_c[None, :]
        place = rows.to(tl.int64)[:, None]
        gate = tl.load(z + place * z_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        value = tl.load(y + place * y_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        given = tl.load(gradient + place * gradient_row + column[None, :], mask=inside, other=0.0).to(
            tl.float32
        )
        sigmoid = 1.0 / (1.0 + tl.exp(-gate))
        gated = value * gate * sigmoid
        scale = tl.rsqrt(tl.sum(gated * gated, 1) / width + eps)[:, None]
        to_weight += tl.sum(given * gated * scale, 0)
        given *= factor[None, :]
        along = tl.sum(given * gated, 1)[:, None] / width
        to_gated = scale * (given - gated * (scale * scale * along))
        to_y = to_gated * gate * sigmoid
        tl.store(dy + place * width + column[None, :], to_y.to(dy.dtype.element_ty), mask=inside)
        to_z = to_gated * value * sigmoid * (1.0 + gate * (1.0 - sigmoid))
        tl.store(dz + place * dz_row + column[None, :], to_z.to(dz.dtype.element_ty), mask=inside)
    tl.store(partial + tl.program_id(0) * width + column, to_weight, mask=inside_c)


def _tile(width: int) -> dict[str, int]:
    """Rows and columns of a program's tile, and its warps: TILE numbers, or a row."""
    columns = next_power_of_2(width)
    return {
        "BLOCK_C": columns,
        "BLOCK_T": max(1, TILE // columns),
        "num_warps": min(16, max(4, columns // 512)),
    }


def _stages(tile: dict[str, int], *read: Tensor) -> int:
    """STAGES, or for tiles too wide to be fetched ahead 1."""
    numbers = tile["BLOCK_T"] * tile["BLOCK_C"]
    ahead = (STAGES - 1) * numbers * sum(part.element_size() for part in read)
    return STAGES if ahead <= MOST_FETCHED else 1


def gated_norm(y: Tensor, z: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """`gated_rms_norm` of y and z (T, C), whose rows may lie apart."""
    total, width = y.shape
    out = torch.empty(total, width, device=y.device, dtype=dtype)
    tile = _tile(width)
    _gated_norm_kernel[(cdiv(total, tile["BLOCK_T"]),)](
        y, z, weight, out, total, width, eps, y.stride(0), z.stride(0), **tile
    )
    return out


def gated_norm_backward(
    y: Tensor, z: Tensor, weight: Tensor, eps: float, gradient: Tensor, dy: Tensor, dz: Tensor
) -> Tensor:
    """Fill dy (T, C) and dz, whose rows may lie apart, and return the gradient of weight, float32."""
    total, width = y.shape
    tile = _tile(width)
    programs = min(PROGRAMS, cdiv(total, tile["BLOCK_T"]))
    partial = torch.empty(programs, width, device=y.device, dtype=torch.float32)
    _gated_norm_backward_kernel[(programs,)](
        y, z, weight, gradient, dy, dz, partial, total, width, eps,
        y.stride(0), z.stride(0), gradient.stride(0), dz.stride(0), **tile,
        STAGES=_stages(tile, y, z, gradient),
    )  # fmt: skip
    return partial.sum(0)


class GatedNorm(torch.autograd.Function):
    """`genotok.kernels.gated_norm.gated_rms_norm`."""

    @staticmethod
    def forward(ctx, y, z, weight, eps, dtype):
        """See `gated_rms_norm`."""
        y, z = (part if part.stride(-1) == 1 else part.contiguous() for part in (y, z))
        ctx.save_for_backward(y, z, weight)
        ctx.eps = eps
        with torch.cuda.device_of(y):
            return gated_norm(y, z, weight, eps, dtype)

    @staticmethod
    def backward(ctx, gradient):
        """Gradients of y, z and weight."""
        y, z, weight = ctx.saved_tensors
        gradient = gradient if gradient.stride(-1) == 1 else gradient.contiguous()
        dy, dz = (torch.empty(part.shape, device=y.device, dtype=part.dtype) for part in (y, z))
        with torch.cuda.device_of(y):
            to_weight = gated_norm_backward(y, z, weight, ctx.eps, gradient, dy, dz)
        return dy, dz, to_weight.to(weight.dtype), None, None

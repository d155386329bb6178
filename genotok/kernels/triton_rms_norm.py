"""Addition to the residual stream and root-mean-square norm in Triton, rows read and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from genotok.kernels.backend import multiprocessors
from genotok.kernels.less_kept import remember
from genotok.kernels.tile_sizes import cdiv, next_power_of_2

ROWS_OF_512, BACKWARD_ROWS_OF_512 = 4, 8  # rows of 512 features that a program takes at a time
PROGRAMS = 16  # a multiprocessor, in the backward pass


def add_rms_norm(
    x: Tensor, added: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """As `genotok.kernels.rms_norm.add_rms_norm`, the norm of the given type."""
    shape = x.shape
    x = x.reshape(-1, shape[-1])
    added = None if added is None else added.reshape(x.shape)
    with torch.cuda.device_of(x):
        stream, normed = _AddNorm.apply(x, added, weight, eps, dtype)
    return stream.view(shape), normed.view(shape)


class _AddNorm(torch.autograd.Function):
    """Also where nothing is added, so that the gradient of the stream is added to that of the norm as it is made.

    The stream is then a view of what came in, which nothing may write into.
    """

    @staticmethod
    def forward(ctx, x, added, weight, eps, dtype):
        x, added = x.contiguous(), None if added is None else added.contiguous()
        stream = x if added is None else torch.empty_like(x, dtype=torch.float32)
        normed, scale = _run_forward(x, added, stream, weight, eps, dtype)
        ctx.save_for_backward(stream, scale, weight)
        ctx.types = x.dtype, None if added is None else added.dtype
        ctx.set_materialize_grads(False)
        return stream, normed

    @staticmethod
    @once_differentiable
    def backward(ctx, to_stream, to_normed):
        stream, scale, weight = ctx.saved_tensors
        of_x, of_added = ctx.types
        if to_normed is None:
            to_added = None if of_added is None else to_stream.to(of_added)
            return to_stream.to(of_x), to_added, torch.zeros_like(weight), None, None
        to_x, to_other, to_weight = _run_backward(
            stream, scale, weight, to_normed, to_stream, of_added or of_x
        )
        if of_added is None:
            return to_other, None, to_weight, None, None
        return to_x.to(of_x), to_other, to_weight, None, None


def _run_forward(x, added, stream, weight, eps, dtype) -> tuple[Tensor, Tensor]:
    total, width = x.shape
    normed, scale = x.new_empty(x.shape, dtype=dtype), x.new_empty(total, dtype=torch.float32)
    rows, columns = _tile(width)
    _forward[(cdiv(total, rows),)](
        x,
        x if added is None else added,
        stream,
        weight,
        normed,
        scale,
        total,
        width,
        eps,
        ADDED=added is not None,
        ROWS=rows,
        COLUMNS=columns,
        num_warps=4,
    )
    remember(normed, _run_again, stream, scale, weight, dtype)
    return normed, scale


def _run_again(stream: Tensor, scale: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The norm from what its backward pass reads."""
    total, width = stream.shape
    normed = stream.new_empty(stream.shape, dtype=dtype)
    rows, columns = _tile(width)
    _forward_again[(cdiv(total, rows),)](
        stream, scale, weight, normed, total, width, ROWS=rows, COLUMNS=columns, num_warps=4
    )
    return normed


def _run_backward(x, scale, weight, to_normed, to_stream, dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of the sum in float32 and, where that is another, in `dtype`; and that of the weight."""
    total, width = x.shape
    rows, columns = _tile(width, BACKWARD_ROWS_OF_512)
    programs = min(cdiv(total, rows), PROGRAMS * multiprocessors(x.device))
    to_x = torch.empty_like(x, dtype=torch.float32)
    to_added = to_x if dtype == torch.float32 else torch.empty_like(x, dtype=dtype)
    to_weight = x.new_empty(programs, width, dtype=torch.float32)
    to_normed = to_normed.contiguous()
    _backward[(programs,)](
        to_normed,
        to_normed if to_stream is None else to_stream.contiguous(),
        x,
        scale,
        weight,
        to_x,
        to_added,
        to_weight,
        total,
        width,
        programs,
        ADDED=to_stream is not None,
        TWICE=to_added is not to_x,
        ROWS=rows,
        COLUMNS=columns,
        num_warps=4,
    )
    return to_x, to_added, to_weight.sum(0).to(weight.dtype)


def _tile(width: int, rows_of_512: int = ROWS_OF_512) -> tuple[int, int]:
    columns = next_power_of_2(width)
    return max(1, min(64, rows_of_512 * 512 // columns)), columns


@triton.jit
def _forward(
    x,
    added,
    stream,
    weight,
    normed,
    scale,
    total,
    width,
    eps,
    ADDED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    there = (rows < total)[:, None] & (columns < width)[None, :]
    place = rows[:, None] * width + columns[None, :]
    value = tl.load(x + place, there, 0.0).to(tl.float32)
    if ADDED:
        value += tl.load(added + place, there, 0.0).to(tl.float32)
        tl.store(stream + place, value, there)
    inverse = 1 / tl.sqrt(tl.sum(value * value, 1) / width + eps)
    tl.store(scale + rows, inverse, rows < total)
    gain = tl.load(weight + columns, columns < width, 0.0).to(tl.float32)
    value = value * inverse[:, None] * gain[None, :]
    tl.store(normed + place, value.to(normed.dtype.element_ty), there)


@triton.jit
def _forward_again(
    stream, scale, weight, normed, total, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    there = (rows < total)[:, None] & (columns < width)[None, :]
    place = rows[:, None] * width + columns[None, :]
    value = tl.load(stream + place, there, 0.0).to(tl.float32)
    inverse = tl.load(scale + rows, rows < total, 0.0)
    gain = tl.load(weight + columns, columns < width, 0.0).to(tl.float32)
    value = value * inverse[:, None] * gain[None, :]
    tl.store(normed + place, value.to(normed.dtype.element_ty), there)


@triton.jit
def _backward(
    to_normed,
    to_stream,
    x,
    scale,
    weight,
    to_x,
    to_added,
    to_weight,
    total,
    width,
    programs,
    ADDED: tl.constexpr,
    TWICE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, COLUMNS)
    gain = tl.load(weight + columns, columns < width, 0.0).to(tl.float32)
    to_gain = tl.zeros([COLUMNS], tl.float32)
    for start in range(program * ROWS, total, programs * ROWS):
        rows = start + tl.arange(0, ROWS)
        there = (rows < total)[:, None] & (columns < width)[None, :]
        place = rows[:, None] * width + columns[None, :]
        inverse = tl.load(scale + rows, rows < total, 0.0)
        gradient = tl.load(to_normed + place, there, 0.0).to(tl.float32)
        value = tl.load(x + place, there, 0.0).to(tl.float32) * inverse[:, None]
        to_gain += tl.sum(gradient * value, 0)
        gradient = gradient * gain[None, :]
        along = tl.sum(gradient * value, 1) / width
        gradient = (gradient - along[:, None] * value) * inverse[:, None]
        if ADDED:
            gradient += tl.load(to_stream + place, there, 0.0).to(tl.float32)
        tl.store(to_x + place, gradient, there)
        if TWICE:
            tl.store(to_added + place, gradient.to(to_added.dtype.element_ty), there)
    tl.store(to_weight + program * width + columns, to_gain, columns < width)

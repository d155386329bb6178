"""Triton kernels that turn packed rows of channels into channels of lines and back, multiplying on the way."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.tile_sizes import cdiv

ROWS, CHANNELS = 64, 64  # of a program's tile


@triton.jit
def _to_lines_kernel(
    values, factor, other, lines, out, product, count, length, tiles, channels,
    values_row, factor_row, other_row, product_row,
    FACTOR: tl.constexpr, PRODUCT: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0) // tiles
    place = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    row = tl.load(lines + line * 3).to(tl.int64) + place
    end = tl.load(lines + line * 3 + 1)
    column = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    mask = (row < end)[:, None] & (column < channels)[None, :]
    found = tl.load(values + row[:, None] * values_row + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if PRODUCT:
        second = tl.load(other + row[:, None] * other_row + column[None, :], mask=mask, other=0.0)
        at = product + row[:, None] * product_row + column[None, :]
        tl.store(at, (found * second.to(tl.float32)).to(product.dtype.element_ty), mask=mask)
    if FACTOR:
        second = tl.load(factor + row[:, None] * factor_row + column[None, :], mask=mask, other=0.0)
        found *= second.to(tl.float32)
    at = out + (column.to(tl.int64)[None, :] * count + line) * length + place[:, None]
    tl.store(
        at, found.to(out.dtype.element_ty), mask=(place < length)[:, None] & (column < channels)[None, :]
    )


@triton.jit
def _from_lines_kernel(
    values, factor, other, lines, out, product, count, length, tiles, channels,
    factor_row, other_row, out_row, product_row,
    FACTOR: tl.constexpr, PRODUCT: tl.constexpr, OTHER: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0) // tiles
    place = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    row = tl.load(lines + line * 3).to(tl.int64) + place
    end = tl.load(lines + line * 3 + 1)
    column = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    mask = (row < end)[:, None] & (column < channels)[None, :]
    at = values + (column.to(tl.int64)[None, :] * count + line) * length + place[:, None]
    found = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    if PRODUCT:
        second = found
        if OTHER:
            second *= tl.load(other + row[:, None] * other_row + column[None, :], mask=mask, other=0.0)
        at = product + row[:, None] * product_row + column[None, :]
        tl.store(at, second.to(product.dtype.element_ty), mask=mask)
    if FACTOR:
        found *= tl.load(factor + row[:, None] * factor_row + column[None, :], mask=mask, other=0.0)
    at = out + row[:, None] * out_row + column[None, :]
    tl.store(at, found.to(out.dtype.element_ty), mask=mask)


def to_lines(
    values: Tensor,
    factor: Tensor | None,
    lines: Tensor,
    length: int,
    dtype: torch.dtype,
    other: Tensor | None = None,
    product: Tensor | None = None,
) -> Tensor:
    """values * factor by channel, each line its rows and zeros behind them.

    Args:
        values, factor: (T, C), whose rows may lie apart; without a factor the values themselves.
        lines: (N, 3) int32, a line's first row, the row behind its last, and a number that is not read.
        length: of a line, at least as many as it has rows.
        dtype: of the result.
        other, product: (T, C); where given, `product` takes values * other of the lines' rows.

    Returns:
        (C, N, length), contiguous.
    """
    count, channels = len(lines), values.shape[1]
    out = torch.empty(channels, count, length, device=values.device, dtype=dtype)
    tiles = cdiv(length, ROWS)
    _to_lines_kernel[(count * tiles, cdiv(channels, CHANNELS))](
        values, factor, other, lines, out, product, count, length, tiles, channels,
        values.stride(0), *_row_strides(factor, other, product), FACTOR=factor is not None,
        PRODUCT=product is not None, ROWS=ROWS, CHANNELS=CHANNELS, num_warps=4,
    )  # fmt: skip
    return out


def from_lines(
    values: Tensor,
    factor: Tensor | None,
    lines: Tensor,
    longest: int,
    out: Tensor,
    other: Tensor | None = None,
    product: Tensor | None = None,
) -> None:
    """Put values * factor to the rows of `out`, and values * other to those of `product` where that is given.

    Args:
        values: (C, N, length), contiguous.
        factor, other: (T, C); without one the values themselves.
        lines: as in `to_lines`.
        longest: rows that a line has at most.
        out, product: (T, C), whose rows may lie apart; rows of no line stay.
    """
    channels, count, length = values.shape
    tiles = cdiv(longest, ROWS)
    _from_lines_kernel[(count * tiles, cdiv(channels, CHANNELS))](
        values, factor, other, lines, out, product, count, length, tiles, channels,
        *_row_strides(factor, other, out, product), FACTOR=factor is not None, PRODUCT=product is not None,
        OTHER=other is not None, ROWS=ROWS, CHANNELS=CHANNELS, num_warps=4,
    )  # fmt: skip


def _row_strides(*parts: Tensor | None) -> list[int]:
    return [0 if part is None else part.stride(0) for part in parts]

"""Triton kernels of the causal depth-wise convolution as products of Toeplitz matrices on tensor cores.

A channel's rows stand in blocks of BLOCK rows, and no block holds rows of two sequences. What a block gets from the
j-th block in front of it is the product with the BLOCK x BLOCK Toeplitz matrix of the taps around j * BLOCK; the
blocks that have as many in front of them share it, so that it is one product of matrices for many blocks.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from genotok.kernels.ragged import Ragged
from genotok.kernels.tile_sizes import cdiv

BLOCK = {2: 128, 4: 64}  # rows of a block, where sequences are as long, by the bytes of a number
LINES = 128  # blocks of a program's product
DEPTH = 128  # bytes of the rows, or blocks, that a program sums over at once
LAUNCH = {"num_warps": 4, "num_stages": 3}
BYTES = 16  # of a load


@triton.jit
def _product_kernel(
    x, taps, order, places, out, lines, lags, taps_row,
    BLOCK: tl.constexpr, LINES: tl.constexpr, DEPTH: tl.constexpr, SHIFTS: tl.constexpr,
    AHEAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Blocks of `out` from themselves and the `lags` blocks in front of them, or with AHEAD those behind them.

    `taps` holds SHIFTS copies, each moved on by one, so that a matrix's rows begin at multiples of SHIFTS.
    """
    channel = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * LINES + tl.arange(0, LINES)
    line = tl.load(order + at, mask=at < lines, other=0)
    place = tl.load(places + at, mask=at < lines, other=-1)
    x += channel * lines * BLOCK
    taps += channel * SHIFTS * taps_row
    row, depth = tl.arange(0, BLOCK), tl.arange(0, DEPTH)
    copy = taps + (SHIFTS - 1 - depth % SHIFTS) * taps_row - depth // SHIFTS * SHIFTS
    parts: tl.constexpr = BLOCK // DEPTH
    summed = tl.zeros([LINES, BLOCK], tl.float32)
    for step in range((tl.minimum(tl.max(place, 0), lags) + 1) * parts):
        lag, first = step // parts, step % parts * DEPTH
        if AHEAD:
            source, begin = line + lag, (lags + 1 - lag) * BLOCK - first
        else:
            source, begin = line - lag, (lag + 1) * BLOCK - first
        values = tl.load(
            x + source[:, None] * BLOCK + first + depth[None, :], mask=(place >= lag)[:, None], other=0.0
        )
        matrix = tl.load(copy[:, None] + begin + row[None, :])
        summed = tl.dot(values, matrix, summed, input_precision=PRECISION)
    out += channel * lines * BLOCK
    tl.store(
        out + line[:, None] * BLOCK + row[None, :],
        summed.to(out.dtype.element_ty),
        mask=(at < lines)[:, None],
    )


@triton.jit
def _correlation_kernel(
    x, gradient, order, begins, out, lines, lags,
    BLOCK: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The products of all blocks of the gradient with the blocks `lag` in front of them, summed along diagonals.

    `out` (channels, lags + 1, 2, BLOCK): those of the diagonals d = 0 ... and of d - BLOCK.
    """
    lag, channel = tl.program_id(0), tl.program_id(1).to(tl.int64)
    x += channel * lines * BLOCK
    gradient += channel * lines * BLOCK
    row, depth = tl.arange(0, BLOCK), tl.arange(0, DEPTH)
    summed = tl.zeros([BLOCK, BLOCK], tl.float32)
    for first in range(tl.load(begins + lag), lines, DEPTH):
        at = first + depth
        line = tl.load(order + at, mask=at < lines, other=0)
        given = tl.load(
            gradient + line[None, :] * BLOCK + row[:, None], mask=(at < lines)[None, :], other=0.0
        )
        values = tl.load(
            x + (line - lag)[:, None] * BLOCK + row[None, :], mask=(at < lines)[:, None], other=0.0
        )
        summed = tl.dot(given, values, summed, input_precision=PRECISION)
    from_diagonal = row[:, None] - row[None, :]
    skewed = tl.gather(summed, (from_diagonal + BLOCK) % BLOCK, 1)
    out += (channel * (lags + 1) + lag) * 2 * BLOCK + row
    tl.store(out, tl.sum(tl.where(from_diagonal >= 0, skewed, 0.0), 0))
    tl.store(out + BLOCK, tl.sum(tl.where(from_diagonal < 0, skewed, 0.0), 0))


@dataclass(frozen=True)
class Blocks:
    """The blocks that a layout's sequences are cut into.

    Attributes:
        ragged: the layout.
        size: rows of a block, a power of 2, at least 16.
        taps: how many the filters have.
    """

    ragged: Ragged
    size: int
    taps: int

    @property
    def lags(self) -> int:
        """How many blocks in front of a block reach it."""
        return -(-(self.taps - 1) // self.size)

    def product(self, x: Tensor, taps: Tensor, ahead: bool) -> Tensor:
        """Each channel of x (C, N, size) convolved with its taps, over rows before, or with `ahead` those behind.

        Args:
            x: contiguous, N the lines of `ragged.pieces(size)`.
            taps: (C, K), the nearest tap first, in the dtype of x.
            ahead: whether a row gets from those behind it.

        Returns:
            Of the shape and dtype of x; lines without a piece are not set.
        """
        channels, lines, size = x.shape
        shifts = BYTES // x.element_size()
        copies = _shifted(taps, size, (self.lags + 2) * size, shifts, ahead)
        order, places = self.ragged.pieces_by_place(size, ahead)
        out = torch.empty_like(x)
        _product_kernel[(cdiv(lines, LINES), channels)](
            x, copies, order, places, out, lines, self.lags, copies.shape[2],
            BLOCK=size, LINES=LINES, DEPTH=min(DEPTH // x.element_size(), size), SHIFTS=shifts, AHEAD=ahead,
            PRECISION=_precision(x), **LAUNCH,
        )  # fmt: skip
        return out

    def correlation(self, x: Tensor, gradient: Tensor) -> Tensor:
        """(C, K) float32: sum over rows of gradient[t] * x[t - k], both (C, N, size) and contiguous."""
        channels, lines, size = x.shape
        order, places = self.ragged.pieces_by_place(size, False)
        begins = torch.searchsorted(
            places, torch.arange(self.lags + 1, dtype=places.dtype, device=x.device), out_int32=True
        )
        sums = torch.empty(channels, self.lags + 1, 2, size, device=x.device)
        _correlation_kernel[(self.lags + 1, channels)](
            x, gradient, order, begins, sums, lines, self.lags,
            BLOCK=size, DEPTH=DEPTH // x.element_size(), PRECISION=_precision(x), **LAUNCH,
        )  # fmt: skip
        to_taps, from_next = sums.unbind(2)
        to_taps[:, :-1] += from_next[:, 1:]
        return to_taps.flatten(1)[:, : self.taps]


def _shifted(taps: Tensor, front: int, length: int, shifts: int, ahead: bool) -> Tensor:
    """(C, shifts, length): copy p holds the taps behind `front` zeros, moved back by shifts - 1 - p places.

    With `ahead` what they stand in is mirrored about its place `length` / 2.
    """
    behind = length - front - taps.shape[1]
    room = (shifts + behind + 1, front - 1) if ahead else (shifts + front, behind)
    padded = pad(taps.flip(1) if ahead else taps, room)
    return padded.unfold(1, length, 1)[:, 1:].contiguous()


def _precision(x: Tensor) -> str:
    """Three products of 10 bits each for float32, which keep nearly all of its digits."""
    return "tf32x3" if x.dtype == torch.float32 else "tf32"

"""The gated long convolution on a CUDA device: a kernel to channels, Toeplitz products or transforms, one back."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from genotok.kernels import fft_conv
from genotok.kernels.fft_conv import fast_length
from genotok.kernels.ragged import Ragged
from genotok.kernels.tile_sizes import next_power_of_2
from genotok.kernels.triton_by_channel import from_lines, to_lines
from genotok.kernels.triton_spectra import backward_of_product
from genotok.kernels.triton_toeplitz import BLOCK, Blocks

# Rows times channels of Toeplitz products that are worked off at once.
AT_ONCE = 1 << 26
# Taps up to which Toeplitz products are faster than Fourier transforms: `python -m benchmarks.kernels_hyena`.
MOST_TAPS = {torch.bfloat16: 4096, torch.float16: 4096, torch.float32: 256}


class GatedLongConv(torch.autograd.Function):
    """See `genotok.kernels.gated_long_conv.gated_long_conv`."""

    @staticmethod
    def forward(ctx, value, before, taps, skip, behind, ragged):
        """Keeps the convolution's result where the gate behind it needs a gradient."""
        value, before, taps, behind = (_with_whole_rows(rows) for rows in (value, before, taps, behind))
        out = torch.empty(value.shape, device=value.device, dtype=value.dtype)
        kept = torch.empty_like(out) if behind is not None and ctx.needs_input_grad[4] else None
        with torch.cuda.device_of(value):
            for part in _parts(ragged, taps, value):
                one = part.channels
                x = to_lines(value[:, one], before[:, one], part.lines, part.length, part.dtype)
                x = part.convolve(x, _filters(taps, skip, part))
                from_lines(x, _of(behind, one), part.lines, part.longest, out[:, one], None, _of(kept, one))
        ctx.save_for_backward(value, before, taps, skip, behind, kept)
        ctx.ragged = ragged
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        """Turns the product of value and gate to channels anew."""
        value, before, taps, skip, behind, kept = ctx.saved_tensors
        gradient = _with_whole_rows(gradient)
        to_value, to_before = (
            torch.empty(value.shape, device=value.device, dtype=value.dtype) for _ in range(2)
        )
        to_behind = None if kept is None else torch.empty_like(to_value)
        to_taps = torch.zeros(taps.shape, device=taps.device)
        with torch.cuda.device_of(value):
            for part in _parts(ctx.ragged, taps, value):
                one = part.channels
                given = to_lines(
                    gradient[:, one], _of(behind, one), part.lines, part.length, part.dtype,
                    _of(kept, one), _of(to_behind, one),
                )  # fmt: skip
                x = to_lines(value[:, one], before[:, one], part.lines, part.length, part.dtype)
                to_x, to_filters = part.backward(x, given, _filters(taps, skip, part))
                to_taps[: part.taps, one] += to_filters.t()
                from_lines(
                    to_x, before[:, one], part.lines, part.longest, to_value[:, one],
                    value[:, one], to_before[:, one],
                )  # fmt: skip
        return to_value, to_before, to_taps.to(taps.dtype), to_taps[0].to(skip.dtype), to_behind, None


@dataclass(frozen=True)
class _Toeplitz:
    """All sequences, in blocks, and some of the channels.

    Attributes:
        blocks: the blocks.
        channels: which.
        dtype: of the lines, and of the products' factors.
    """

    blocks: Blocks
    channels: slice
    dtype: torch.dtype

    @property
    def taps(self) -> int:
        return self.blocks.taps

    @property
    def lines(self) -> Tensor:
        return self.blocks.ragged.pieces(self.blocks.size)

    @property
    def length(self) -> int:
        return self.blocks.size

    longest = length
    filter_length = taps

    def convolve(self, x: Tensor, filters: Tensor) -> Tensor:
        """(C, N, length) with filters (C, 1, filter_length)."""
        return self.blocks.product(x, filters[:, 0], ahead=False)

    def backward(self, x: Tensor, gradient: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and, (C, K) float32, of the filters."""
        return self.blocks.product(gradient, filters[:, 0], ahead=True), self.blocks.correlation(x, gradient)


@dataclass(frozen=True)
class _Fourier:
    """Some of the sequences and some of the channels.

    Attributes:
        lines: (N, 3) int32, the sequences, as `to_lines` wants them.
        longest: length of the longest.
        taps: that matter.
        channels: which.
    """

    lines: Tensor
    longest: int
    taps: int
    channels: slice
    dtype = torch.float32  # of the lines

    @property
    def length(self) -> int:
        """Long enough that nothing comes round from the end to the beginning."""
        return fast_length(self.longest + self.taps - 1)

    filter_length = length

    def convolve(self, x: Tensor, filters: Tensor) -> Tensor:
        """(C, N, length) with filters (C, 1, filter_length)."""
        spectrum = torch.fft.rfft(x)
        spectrum *= torch.fft.rfft(filters)
        return self._back(spectrum)

    def backward(self, x: Tensor, gradient: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and, (C, K), of the filters."""
        spectra = torch.fft.rfft(x), torch.fft.rfft(gradient), torch.fft.rfft(filters)[:, 0]
        to_x, to_filters = backward_of_product(*spectra)
        return self._back(to_x), self._back(to_filters)[:, : self.taps]

    def _back(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfft(spectrum, self.length)


def _parts(ragged: Ragged, taps: Tensor, value: Tensor) -> Iterator[_Toeplitz | _Fourier]:
    """What is worked off one after the other."""
    used, channels = min(len(taps), ragged.max_seqlen), value.shape[1]
    size = min(BLOCK[value.element_size()], max(16, next_power_of_2(ragged.max_seqlen)))
    if used <= MOST_TAPS[value.dtype] and size * ragged.batch <= 2 * ragged.total:
        for some in _groups(channels, AT_ONCE // ragged.total):
            yield _Toeplitz(Blocks(ragged, size, used), some, value.dtype)
        return
    for lines, longest in _alike(ragged):
        for some in _groups(channels, fft_conv.AT_ONCE // (len(lines) * longest)):
            yield _Fourier(lines, longest, min(used, longest), some)


def _groups(channels: int, at_once: int) -> list[slice]:
    at_once = max(1, at_once)
    return [slice(first, first + at_once) for first in range(0, channels, at_once)]


def _alike(ragged: Ragged) -> list[tuple[Tensor, int]]:
    """Sequences of similar length together, as lines, and the longest length of each group."""
    ends = ragged.cu_seqlens
    lines = torch.stack([ends[:-1], ends[1:], ends[:-1]], 1)
    groups = fft_conv.alike(ragged)
    if groups is None:
        return [(lines, ragged.max_seqlen)]
    return [
        (lines[torch.tensor(chosen, device=ends.device)], max(ragged.host_lengths[b] for b in chosen))
        for chosen in groups
    ]


def _filters(taps: Tensor, skip: Tensor, part: _Toeplitz | _Fourier) -> Tensor:
    """The part's filters (C, 1, length), zeros behind them, the skip connection in their first taps."""
    line = torch.arange(3, device=taps.device, dtype=torch.int32)[None] * part.taps
    filters = to_lines(taps[:, part.channels], None, line, part.filter_length, torch.float32)
    filters[:, 0, 0] += skip[part.channels]
    return filters.to(part.dtype)


def _with_whole_rows(values: Tensor | None) -> Tensor | None:
    return values if values is None or values.stride(-1) == 1 else values.contiguous()


def _of(values: Tensor | None, channels: slice) -> Tensor | None:
    return None if values is None else values[:, channels]

"""Causal depth-wise convolution with filters as long as the sequence, through the Fourier transform."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from genotok.kernels.ragged import Ragged
from genotok.kernels.without_autocast import without_autocast

# Numbers that are transformed at once; the transforms and their products take some 30 bytes for each of them.
AT_ONCE = 1 << 24


@without_autocast
def fft_conv(x: Tensor, taps: Tensor, ragged: Ragged) -> Tensor:
    """out[t] = sum_k taps[k] * x[t - k] within each sequence, in O(L log L) for a sequence of L rows.

    Runs over groups of channels, so that beside the result it takes a bounded amount of memory, or what one channel
    takes where that is more. Sequences of very different length are padded to others of about their own length
    alone; finding these costs one host synchronisation a layout. The backward pass keeps `x` and `taps` and
    transforms them anew.

    Args:
        x: (T, C).
        taps: (K, C), the newest tap first; rows from L on are not used.
        ragged: the layout of the T rows.

    Returns:
        (T, C) float32; computed in float32 whatever the caller's precision.
    """
    return _LongConvolution.apply(x, taps, ragged)


def fast_length(at_least: int) -> int:
    """The smallest 2^k, 3 * 2^k or 5 * 2^k that is not less; such transforms are fast everywhere."""
    return min(factor << (-(-at_least // factor) - 1).bit_length() for factor in (1, 3, 5))


class _LongConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, taps: Tensor, ragged: Ragged) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.ragged = ragged
        out = x.new_empty(x.shape, dtype=torch.float32)
        for part in _parts(ragged, len(taps), x.shape[1]):
            spectrum = part.transform(part.take(x))
            spectrum *= part.transform(part.filters(taps))
            part.write(out, part.back(spectrum))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, taps = ctx.saved_tensors
        to_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        to_taps = torch.zeros_like(taps, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for part in _parts(ctx.ragged, len(taps), x.shape[1]):
            of_gradient = part.transform(part.take(gradient))
            if to_taps is not None:
                product = (part.transform(part.take(x)).conj_physical_() * of_gradient).sum(0)
                used = part.used_taps
                to_taps[:used, part.channels] += part.back(product)[:, :used].T
            if to_x is not None:
                of_gradient *= part.transform(part.filters(taps)).conj_physical_()
                part.write(to_x, part.back(of_gradient))
        return to_x, None if to_taps is None else to_taps.to(taps.dtype), None


class _Part:
    """Some of the sequences and some of the channels.

    Args:
        rows: (T',) the packed rows of these sequences; None for all rows.
        layout: theirs.
        channels: which.
        taps: how many the filters have.
    """

    def __init__(self, rows: Tensor | None, layout: Ragged, channels: slice, taps: int):
        self.rows, self.layout, self.channels = rows, layout, channels
        self.used_taps = min(taps, layout.max_seqlen)
        # Long enough that nothing comes round from the end to the beginning.
        self.size = fast_length(layout.max_seqlen + self.used_taps - 1)

    def take(self, values: Tensor) -> Tensor:
        """Of (T, C) these rows and channels as (B', C', L')."""
        values = values[:, self.channels]
        values = (values if self.rows is None else values.index_select(0, self.rows)).float()
        return self.layout.to_padded(values.contiguous()).transpose(1, 2).contiguous()

    def filters(self, taps: Tensor) -> Tensor:
        """Of (K, C) the taps that matter, as (C', K')."""
        return taps[: self.used_taps, self.channels].T.float().contiguous()

    def transform(self, values: Tensor) -> Tensor:
        return torch.fft.rfft(values, self.size)

    def back(self, spectrum: Tensor) -> Tensor:
        return torch.fft.irfft(spectrum, self.size)

    def write(self, out: Tensor, values: Tensor) -> None:
        """Put (B', C', L' or more) to their rows and channels of (T, C)."""
        packed = self.layout.to_packed(values[..., : self.layout.max_seqlen].transpose(1, 2)).to(out.dtype)
        if self.rows is None:
            out[:, self.channels] = packed
        else:
            out[:, self.channels].index_copy_(0, self.rows, packed)


def _parts(ragged: Ragged, taps: int, channels: int) -> Iterator[_Part]:
    for rows, layout in _alike(ragged):
        at_once = max(1, AT_ONCE // (layout.batch * layout.max_seqlen))
        for first in range(0, channels, at_once):
            yield _Part(rows, layout, slice(first, first + at_once), taps)


def _alike(ragged: Ragged) -> list[tuple[Tensor | None, Ragged]]:
    """Their packed rows (None for all) and their layout, for each of `alike`."""
    groups = alike(ragged)
    return [(None, ragged)] if groups is None else [ragged.of_sequences(chosen) for chosen in groups]


def alike(ragged: Ragged) -> list[list[int]] | None:
    """Sequences of similar length together; None where padding all of them to the longest at most doubles them."""
    if ragged.batch * ragged.max_seqlen <= 2 * ragged.total:
        return None
    kinds: dict[int, list[int]] = {}
    for sequence, length in enumerate(ragged.host_lengths):
        kinds.setdefault(length.bit_length(), []).append(sequence)
    return [chosen for _, chosen in sorted(kinds.items())]

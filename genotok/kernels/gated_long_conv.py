"""Hyena's operator behind the projections: a gate, a convolution as long as the sequence, and a gate."""

from torch import Tensor

from genotok.kernels.backend import uses_triton
from genotok.kernels.fft_conv import fft_conv
from genotok.kernels.ragged import Ragged


def gated_long_conv(
    value: Tensor, before: Tensor, taps: Tensor, skip: Tensor, behind: Tensor | None, ragged: Ragged
) -> Tensor:
    """out[t] = behind[t] * (skip * u[t] + sum_k taps[k] * u[t - k]) with u = before * value, in each sequence.

    (Poli et al. 2023, arXiv 2302.10866.) On a CUDA device filters of up to some thousand taps are products of
    Toeplitz matrices in the precision of `value`, longer ones Fourier transforms in float32, in groups of channels
    that bound the memory; gates are multiplied where the rows are turned to channels and back, and the backward pass
    keeps the arguments and one tensor of their shape.

    Args:
        value, before: (T, C) of one dtype.
        taps: (K, C) float32, the newest first; rows from the longest sequence's length on are not used.
        skip: (C,).
        behind: (T, C) as `value`, or None for ones.
        ragged: the layout of the T rows.

    Returns:
        (T, C) in the dtype of `value`.
    """
    if uses_triton(value, before, taps):
        from genotok.kernels.triton_gated_long_conv import GatedLongConv  # Triton exists on Linux only

        return GatedLongConv.apply(value, before, taps, skip, behind, ragged)
    gated = value * before
    out = fft_conv(gated, taps, ragged) + gated * skip
    return (out if behind is None else out * behind).to(value.dtype)

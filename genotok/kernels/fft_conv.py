"""Causal depth-wise convolution with filters as long as the sequence, through the Fourier transform."""

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.kernels.without_autocast import without_autocast


@without_autocast
def fft_conv(x: Tensor, taps: Tensor, ragged: Ragged) -> Tensor:
    """out[t] = sum_k taps[k] * x[t - k] within each sequence, in O(L log L) for a longest sequence of L rows.

    Args:
        x: (T, C).
        taps: (K, C), the newest tap first; rows from L on are not used.
        ragged: the layout of the T rows.

    Returns:
        (T, C) float32; computed in float32 whatever the caller's precision.
    """
    padded = ragged.to_padded(x.float())
    taps = taps[: ragged.max_seqlen].float()
    # Long enough that nothing comes round from the end to the beginning.
    size = fast_length(ragged.max_seqlen + len(taps) - 1)
    spectrum = torch.fft.rfft(padded, size, 1) * torch.fft.rfft(taps, size, 0)
    return ragged.to_packed(torch.fft.irfft(spectrum, size, 1)[:, : ragged.max_seqlen])


def fast_length(at_least: int) -> int:
    """The smallest 2^k, 3 * 2^k or 5 * 2^k that is not less; such transforms are fast everywhere."""
    return min(factor << (-(-at_least // factor) - 1).bit_length() for factor in (1, 3, 5))

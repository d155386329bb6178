"""Mamba-2's gated norm (arXiv 2405.21060, section 7)."""

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from genotok.kernels.backend import uses_triton


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """RMSNorm(y * silu(z)), computed in float32.

    Args:
        y: (T, C).
        z: (T, C), the gate.
        weight: (C,).
        eps: added to the mean of the squares.
        dtype: of the result.

    Returns:
        (T, C).
    """
    if uses_triton(y, z):
        from genotok.kernels.triton_gated_norm import WIDEST, GatedNorm  # Triton exists on Linux only

        if y.shape[1] <= WIDEST:
            return GatedNorm.apply(y, z, weight, eps, dtype)
    gated = y.float() * silu(z.float())
    return rms_norm(gated, gated.shape[-1:], weight.float(), eps).to(dtype)

"""Additions to the residual stream and the norm behind them."""

import torch
from torch import Tensor

from genotok.kernels.backend import uses_triton
from genotok.kernels.less_kept import cheap
from genotok.kernels.rounding import product_dtype


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight in float32 (Zhang and Sennrich 2019).

    Args:
        x: (..., D).
        weight: (D,).
        eps: added to the mean square.

    Returns:
        (..., D) float32.
    """
    if uses_triton(x):
        from genotok.kernels import triton_rms_norm

        return triton_rms_norm.add_rms_norm(x, None, weight, eps, torch.float32)[1]
    return torch.nn.functional.rms_norm(x.float(), x.shape[-1:], weight.float(), eps)


def add_rms_norm(x: Tensor, added: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The residual stream after an addition, and its `rms_norm`.

    On a GPU the norm comes in the precision of the autocast around it, since products follow on it; the stream
    stays float32.

    Args:
        x: (T, D) float32, the stream.
        added: (T, D), of any precision; None for 0.
        weight: (D,).
        eps: as in `rms_norm`.

    Returns:
        (T, D) float32 and (T, D).
    """
    if uses_triton(x):
        from genotok.kernels import triton_rms_norm

        return triton_rms_norm.add_rms_norm(x, added, weight, eps, product_dtype(x, torch.float32))
    x = x if added is None else x + added
    return x, cheap(rms_norm, x, weight, eps)

"""Normalisation layers."""

import torch
from torch import Tensor, nn

from genotok.kernels.less_kept import cheap
from genotok.kernels.rms_norm import add_rms_norm, rms_norm


class RMSNorm(nn.Module):
    """x / rms(x) * weight in float32 (Zhang and Sennrich 2019), returned in float32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) to (T, D) float32."""
        return rms_norm(x, self.weight, self.eps)

    def after_adding(self, x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
        """The residual stream (T, D) float32 with what is added to it, and the norm of the sum.

        On a GPU the norm is of the autocast's precision, as `add_rms_norm` says.
        """
        return add_rms_norm(x, added, self.weight, self.eps)


class LayerNorm(nn.Module):
    """(x - mean) / standard deviation * weight + bias in float32 (arXiv 1607.06450), returned in float32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) to (T, D) float32."""
        return nn.functional.layer_norm(
            x.float(), x.shape[-1:], self.weight.float(), self.bias.float(), self.eps
        )

    def after_adding(self, x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
        """The residual stream (T, D) float32 with what is added to it, and the norm of the sum."""
        x = x if added is None else x + added
        return x, cheap(self, x)


NORMS = {"rms": RMSNorm, "layer": LayerNorm}

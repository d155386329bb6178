"""Normalisation layers."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight in float32 (Zhang and Sennrich 2019), returned in float32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) to (T, D) float32."""
        return nn.functional.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps)


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


NORMS = {"rms": RMSNorm, "layer": LayerNorm}

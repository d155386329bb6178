"""Hyena: gated long convolutions whose filters a small network writes (Poli et al. 2023, arXiv 2302.10866)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from genotok.errors import InputError
from genotok.kernels.causal_conv import causal_conv
from genotok.kernels.fft_conv import fft_conv
from genotok.kernels.ragged import Ragged
from genotok.models.config import HyenaConfig

# Decays of the filters: the fastest channel is down to TARGET after 0.3 of `max_length`, the slowest after 1.5.
TARGET, FASTEST, SLOWEST = 1e-2, 0.3, 1.5


class Hyena(nn.Module):
    """The operator of order N with HyenaDNA's filters (arXiv 2306.15794).

    `in_proj` yields, in this order: N gates and the value. After a short convolution of all of them the value is
    multiplied with the last gate and convolved with the first filter, then with the last gate but one and the
    second filter, and so on; the first gate is multiplied in the end.

    Args:
        width: features a row.
        config: sizes, see `HyenaConfig`.
    """

    def __init__(self, width: int, config: HyenaConfig):
        super().__init__()
        channels = (config.order + 1) * width
        self.width, self.max_length = width, config.max_length
        self.in_proj = nn.Linear(width, channels)
        self.conv_weight = nn.Parameter(torch.empty(channels, config.d_conv))
        self.conv_bias = nn.Parameter(torch.empty(channels))
        self.filter = ImplicitFilter(config.order - 1, width, config)
        self.skip = nn.Parameter(torch.randn(config.order - 1, width))
        self.out = nn.Linear(width, width)
        bound = 1 / math.sqrt(config.d_conv)
        nn.init.uniform_(self.conv_weight, -bound, bound)
        nn.init.uniform_(self.conv_bias, -bound, bound)

    def forward(self, x: Tensor, ragged: Ragged) -> Tensor:
        """(T, D) to (T, D), causal.

        Raises:
            InputError: a sequence is longer than the filters.
        """
        if ragged.max_seqlen > self.max_length:
            raise InputError(
                f"a sequence of {ragged.max_seqlen} tokens is longer than the {self.max_length} that this model's "
                "Hyena filters cover; take a shorter window"
            )
        mixed = causal_conv(self.in_proj(x), self.conv_weight, self.conv_bias, ragged)
        *gates, value = mixed.split(self.width, -1)
        filters = self.filter(ragged.max_seqlen)
        for gate, taps, skip in zip(reversed(gates[1:]), filters, self.skip, strict=True):
            value = value * gate
            value = fft_conv(value, taps, ragged) + value * skip
        return self.out((value * gates[0]).to(x.dtype))


class ImplicitFilter(nn.Module):
    """Filters as a function of the place: sines of a few linear layers, under an exponential decay.

    Args:
        filters: how many.
        width: channels of each.
        config: sizes, see `HyenaConfig`.
    """

    def __init__(self, filters: int, width: int, config: HyenaConfig):
        super().__init__()
        self.filters, self.shift = filters, config.shift
        self.max_length, self.d_position = config.max_length, config.d_position
        widths = [config.d_position, *[config.d_filter] * (config.filter_layers + 1)]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.layers.append(nn.Linear(config.d_filter, filters * width, bias=False))
        self.frequency = nn.Parameter(torch.full((config.d_filter,), float(config.frequency)))
        slowest, fastest = math.log(TARGET) / SLOWEST, math.log(TARGET) / FASTEST
        self.register_buffer("decay", torch.linspace(slowest, fastest, filters * width).abs())

    def forward(self, length: int) -> Tensor:
        """(filters, length, width) float32, newest tap first."""
        features = position_features(self.max_length, self.d_position, length, self.decay.device)
        with torch.autocast(features.device.type, enabled=False):
            x = features
            for layer in self.layers[:-1]:
                x = torch.sin(self.frequency * layer(x))
            taps = self.layers[-1](x) * (torch.exp(-features[:, :1] * self.decay) + self.shift)
        return taps.view(length, self.filters, -1).transpose(0, 1)


def position_features(
    max_length: int, d_position: int, length: int, device: torch.device | str = "cpu"
) -> Tensor:
    """(length, d_position) float32: the place as a share of `max_length`, and cosines and sines of it."""
    share = torch.linspace(0, 1, max_length, device=device)[:length, None]
    angle = 2 * math.pi / max_length * torch.arange(length, device=device)[:, None]
    bands = (d_position - 1) // 2
    waves = torch.linspace(1e-4, max(bands - 1, 1e-4), bands, device=device) * angle
    return torch.cat([share, waves.cos(), -waves.sin()], -1)

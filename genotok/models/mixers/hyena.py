"""Hyena: gated long convolutions whose filters a small network writes (Poli et al. 2023, arXiv 2302.10866)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from genotok.errors import InputError
from genotok.kernels.autocast_linear import autocast_linear
from genotok.kernels.causal_conv import causal_conv, causal_conv_step, last_inputs
from genotok.kernels.gated_long_conv import gated_long_conv
from genotok.kernels.ragged import Ragged
from genotok.models.linear import Linear
from genotok.models.mixer_config import HyenaConfig
from genotok.models.mixers.convolution_memory import ConvolutionStore, HyenaCache

# Rows times channels that are worked off at once where memory counts, and up to which training keeps everything.
AT_ONCE, KEPT = 1 << 24, 1 << 26
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
        self.width, self.order = width, config.order
        self.in_proj = Linear(width, channels)
        self.conv_weight = nn.Parameter(torch.empty(channels, config.d_conv))
        self.conv_bias = nn.Parameter(torch.empty(channels))
        self.filter = ImplicitFilter(config.order - 1, width, config)
        self.skip = nn.Parameter(torch.randn(config.order - 1, width))
        self.out = Linear(width, width)
        bound = 1 / math.sqrt(config.d_conv)
        nn.init.uniform_(self.conv_weight, -bound, bound)
        nn.init.uniform_(self.conv_bias, -bound, bound)

    def forward(self, x: Tensor, ragged: Ragged) -> Tensor:
        """(T, D) to (T, D), causal.

        Where there are many rows, the channels are worked off in groups, since they meet in the projections alone.
        In training the backward pass then computes each group anew, so that the gates are not kept.

        Raises:
            InputError: a sequence is longer than the filters.
        """
        waves, done = self.filter.waves(ragged.max_seqlen), []
        groups = self._groups(ragged.total)
        for channels in groups:
            if len(groups) > 1 and torch.is_grad_enabled():
                settings = {"use_reentrant": False, "preserve_rng_state": False}  # nothing is drawn by chance
                part = checkpoint(self._operate, x, waves, ragged, channels, **settings)
            else:
                part = self._operate(x, waves, ragged, channels)
            done.append(part)
        return self._out(done)

    def prefill(self, x: Tensor, ragged: Ragged) -> tuple[Tensor, HyenaCache]:
        """`forward`, and the cache behind each sequence's last row."""
        waves, done, kept = self.filter.waves(ragged.max_seqlen), [], []
        for channels in self._groups(ragged.total):
            keep = ([], [])
            done.append(self._operate(x, waves, ragged, channels, keep))
            kept.append(keep)
        inputs, taps = (
            [torch.cat(parts, -1).detach() for parts in zip(*of_groups, strict=True)]
            for of_groups in zip(*kept, strict=True)
        )
        conv = self._last_projected(x, ragged)
        store = ConvolutionStore(inputs, torch.stack(taps), ragged, self.filter, self.filter.max_length)
        return self._out(done), HyenaCache(conv.detach(), store)

    def step(self, x: Tensor, cache: HyenaCache, stepped: Tensor | None = None) -> Tensor:
        """One further row (B, D) of each sequence; the work grows with the length of the longest.

        The sequences that are not `stepped` (B,) bool do not remember it.

        Raises:
            InputError: a sequence becomes longer than the filters.
        """
        cache.make_room()
        mixed, conv = causal_conv_step(self.in_proj(x), self.conv_weight, self.conv_bias, cache.conv)
        cache.conv = conv if stepped is None else torch.where(stepped[:, None, None], conv, cache.conv)
        *gates, value = mixed.split(self.width, -1)
        for i, (gate, skip) in enumerate(zip(reversed(gates[1:]), self.skip, strict=True)):
            value = value * gate
            value = cache.convolve(i, value) + value * skip
        cache.advance(stepped)
        return self.out((value * gates[0]).to(x.dtype))

    def _operate(
        self, x: Tensor, waves: Tensor, ragged: Ragged, channels: slice, keep: tuple[list, list] | None = None
    ) -> Tensor:
        """What a group of C channels gives to the last projection, (T, C).

        `keep` takes the inputs (T, C) and the taps (L, C) of each long convolution.
        """
        parts = self.order + 1
        weight, bias, conv_weight, conv_bias = (
            of_all.unflatten(0, (parts, self.width))[:, channels].flatten(0, 1)
            for of_all in (self.in_proj.weight, self.in_proj.bias, self.conv_weight, self.conv_bias)
        )
        mixed = causal_conv(autocast_linear(x, weight, bias), conv_weight, conv_bias, ragged)
        *gates, value = mixed.chunk(parts, -1)
        filters, skips = self.filter.taps(waves, channels), self.skip[:, channels]
        behind = [None] * (self.order - 2) + [gates[0]]
        for gate, taps, skip, last in zip(reversed(gates[1:]), filters, skips, behind, strict=True):
            if keep is not None:
                keep[0].append(value * gate)
                keep[1].append(taps)
            value = gated_long_conv(value, gate, taps, skip, last, ragged)
        return value

    def _out(self, parts: list[Tensor]) -> Tensor:
        """The last projection of what the groups of channels give; takes them out of the list to free them."""
        whole = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
        parts.clear()
        return self.out(whole)

    def _last_projected(self, x: Tensor, ragged: Ragged) -> Tensor:
        """(B, K - 1, C), the short convolution's last inputs."""
        before = self.conv_weight.shape[1] - 1
        rows = last_inputs(x, before + 1, ragged)
        # Rows in front of a sequence are zeros behind the projection, which has a bias, not in front of it.
        real = torch.arange(-before, 0, device=x.device) >= -ragged.lengths[:, None]
        return self.in_proj(rows) * real[..., None]

    def _groups(self, rows: int) -> list[slice]:
        if torch.is_grad_enabled() and rows * self.width <= KEPT:
            return [slice(0, self.width)]
        at_once = min(self.width, max(1, AT_ONCE // rows))
        return [slice(first, first + at_once) for first in range(0, self.width, at_once)]


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
        return self.taps(self.waves(length))

    def waves(self, length: int) -> Tensor:
        """(length, d_filter) float32, what the last layer makes the taps of.

        Raises:
            InputError: the filters are shorter.
        """
        if length > self.max_length:
            raise InputError(
                f"a sequence of {length} tokens is longer than the {self.max_length} that this model's Hyena "
                "filters cover; take a shorter window"
            )
        x = position_features(self.max_length, self.d_position, length, self.decay.device)
        with torch.autocast(x.device.type, enabled=False):
            for layer in self.layers[:-1]:
                x = torch.sin(self.frequency * layer(x))
        return x

    def taps(self, waves: Tensor, channels: slice = slice(None)) -> Tensor:
        """(filters, length, C) float32, newest tap first, of C of the channels."""
        weight, decay = (
            of_all.unflatten(0, (self.filters, -1))[:, channels].flatten(0, 1)
            for of_all in (self.layers[-1].weight, self.decay)
        )
        share = torch.linspace(0, 1, self.max_length, device=waves.device)[: len(waves), None]
        with torch.autocast(waves.device.type, enabled=False):
            taps = linear(waves, weight) * (torch.exp(-share * decay) + self.shift)
        return taps.view(len(waves), self.filters, -1).transpose(0, 1)


def position_features(
    max_length: int, d_position: int, length: int, device: torch.device | str = "cpu"
) -> Tensor:
    """(length, d_position) float32: the place as a share of `max_length`, and cosines and sines of it."""
    share = torch.linspace(0, 1, max_length, device=device)[:length, None]
    angle = 2 * math.pi / max_length * torch.arange(length, device=device)[:, None]
    bands = (d_position - 1) // 2
    waves = torch.linspace(1e-4, max(bands - 1, 1e-4), bands, device=device) * angle
    return torch.cat([share, waves.cos(), -waves.sin()], -1)

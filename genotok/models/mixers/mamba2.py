"""Mamba-2, a selective state space with a scalar decay a head (Dao and Gu 2024, arXiv 2405.21060)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genotok.kernels.less_kept import product
from genotok.kernels.mamba2 import mamba2_inner, mamba2_inner_with_states, mamba2_step
from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache
from genotok.models.linear import Linear
from genotok.models.mixer_config import Mamba2Config
from genotok.models.norms import RMSNorm


@dataclass
class Mamba2Cache(Cache):
    """Mamba-2's memory.

    Attributes:
        conv: (B, K - 1, C), the convolution's last inputs, oldest first.
        state: (B, H, N, P) float32.
    """

    conv: Tensor
    state: Tensor


class Mamba2(nn.Module):
    """The mixer of Mamba-2 with one group of B and C.

    `in_proj` yields, in this order: gate z, input x, B, C, step size dt (one a head).

    Args:
        width: features a row.
        config: sizes, see `Mamba2Config`.
        norm_eps: epsilon of the gated norm.
    """

    def __init__(self, width: int, config: Mamba2Config, norm_eps: float):
        super().__init__()
        self.inner = width * config.expand
        self.heads = self.inner // config.head_dim
        self.states, self.chunk = config.d_state, config.chunk_size
        channels = self.inner + 2 * self.states
        self.in_proj = Linear(width, self.inner + channels + self.heads, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(channels, config.d_conv))
        self.conv_bias = nn.Parameter(torch.empty(channels))
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.a_log = nn.Parameter(torch.empty(self.heads))
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(self.inner, norm_eps)
        self.out = Linear(self.inner, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the state space's own parameters as the paper does: dt in [0.001, 0.1], A in [-16, -1]."""
        bound = 1 / math.sqrt(self.conv_weight.shape[1])
        nn.init.uniform_(self.conv_weight, -bound, bound)
        nn.init.uniform_(self.conv_bias, -bound, bound)
        if self.a_log.is_meta:
            return  # see `genotok.models.saved.without_numbers`
        with torch.no_grad():
            dt = torch.empty(self.heads).uniform_(math.log(0.001), math.log(0.1)).exp().clamp(min=1e-4)
            self.dt_bias.copy_(dt + (-(-dt).expm1()).log())  # the inverse of softplus
            self.a_log.copy_(torch.empty(self.heads).uniform_(1, 16).log())

    def forward(self, x: Tensor, ragged: Ragged) -> Tensor:
        """(T, D) to (T, D), causal."""
        return self.out(mamba2_inner(*self._inner_arguments(x, ragged)))

    def prefill(
        self, x: Tensor, ragged: Ragged, before: Mamba2Cache | None = None
    ) -> tuple[Tensor, Mamba2Cache]:
        """`forward`, and the cache behind each sequence's last row.

        Given the cache `before` of the same sequences, the rows are those that follow on it.
        """
        start = None if before is None else (before.conv, before.state)
        inner, behind = mamba2_inner_with_states(*self._inner_arguments(x, ragged), start)
        return self.out(inner), Mamba2Cache(*behind)

    def extend(self, x: Tensor, ragged: Ragged, cache: Mamba2Cache, of_cache: Tensor) -> Tensor:
        """(T, D) to (T, D), rows that follow on those of the sequences `of_cache` (B,); the cache stays as it is."""
        start = cache.conv[of_cache], cache.state[of_cache]
        return self.out(mamba2_inner_with_states(*self._inner_arguments(x, ragged), start, ends=False)[0])

    def step(self, x: Tensor, cache: Mamba2Cache, stepped: Tensor | None = None) -> Tensor:
        """One further row (B, D) of each sequence; of those that are not `stepped` (B,) bool the cache stays."""
        inner, (cache.conv, cache.state) = mamba2_step(
            self.in_proj(x), *self._inner_parameters(), (cache.conv, cache.state), stepped
        )
        return self.out(inner)

    def _inner_arguments(self, x: Tensor, ragged: Ragged) -> tuple:
        """What `mamba2_inner` takes."""
        return product(self.in_proj, x), *self._inner_parameters(), ragged, self.chunk

    def _inner_parameters(self) -> tuple:
        return (
            self.conv_weight,
            self.conv_bias,
            self.dt_bias,
            self.a_log,
            self.skip,
            self.norm.weight,
            self.norm.eps,
            self.states,
        )

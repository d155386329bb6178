"""Mamba-2, a selective state space with a scalar decay a head (Dao and Gu 2024, arXiv 2405.21060)."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from genotok.kernels.causal_conv import causal_conv, causal_conv_step, last_inputs
from genotok.kernels.ragged import Ragged
from genotok.kernels.ssd import ssd, ssd_step, ssd_with_states
from genotok.models.cache import Mamba2Cache
from genotok.models.config import Mamba2Config
from genotok.models.norms import RMSNorm


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
        self.in_proj = nn.Linear(width, self.inner + channels + self.heads, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(channels, config.d_conv))
        self.conv_bias = nn.Parameter(torch.empty(channels))
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.a_log = nn.Parameter(torch.empty(self.heads))
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(self.inner, norm_eps)
        self.out = nn.Linear(self.inner, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the state space's own parameters as the paper does: dt in [0.001, 0.1], A in [-16, -1]."""
        bound = 1 / math.sqrt(self.conv_weight.shape[1])
        nn.init.uniform_(self.conv_weight, -bound, bound)
        nn.init.uniform_(self.conv_bias, -bound, bound)
        with torch.no_grad():
            dt = torch.empty(self.heads).uniform_(math.log(0.001), math.log(0.1)).exp().clamp(min=1e-4)
            self.dt_bias.copy_(dt + (-(-dt).expm1()).log())  # the inverse of softplus
            self.a_log.copy_(torch.empty(self.heads).uniform_(1, 16).log())

    def forward(self, x: Tensor, ragged: Ragged) -> Tensor:
        """(T, D) to (T, D), causal."""
        z, mixed, dt = self._project(x)
        scan = self._scan_inputs(causal_conv(mixed, self.conv_weight, self.conv_bias, ragged), dt)
        return self._gated(ssd(*scan, ragged, self.chunk), scan[0], z, x.dtype)

    def prefill(
        self, x: Tensor, ragged: Ragged, before: Mamba2Cache | None = None
    ) -> tuple[Tensor, Mamba2Cache]:
        """`forward`, and the cache behind each sequence's last row.

        Given the cache `before` of the same sequences, the rows are those that follow on it.
        """
        z, mixed, dt = self._project(x)
        if before is None:
            convolved, conv = self._convolved(mixed, ragged)
        else:
            rows, longer, kept = _behind(before.conv, mixed, ragged)
            convolved, conv = self._convolved(rows, longer)
            convolved = convolved[kept]
        scan = self._scan_inputs(convolved, dt)
        y, state = ssd_with_states(*scan, ragged, None if before is None else before.state, self.chunk)
        return self._gated(y, scan[0], z, x.dtype), Mamba2Cache(conv.detach(), state.detach())

    def extend(self, x: Tensor, ragged: Ragged, cache: Mamba2Cache) -> Tensor:
        """(T, D) to (T, D), rows that follow on what the cache holds; the cache stays as it is."""
        return self.prefill(x, ragged, cache)[0]

    def step(self, x: Tensor, cache: Mamba2Cache) -> Tensor:
        """One further row (B, D) of each sequence."""
        z, mixed, dt = self._project(x)
        mixed, cache.conv = causal_conv_step(mixed, self.conv_weight, self.conv_bias, cache.conv)
        scan = self._scan_inputs(mixed, dt)
        y, cache.state = ssd_step(*scan, cache.state)
        return self._gated(y, scan[0], z, x.dtype)

    def _convolved(self, mixed: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        """The convolution of the rows, and those of its inputs that the next row will need."""
        convolved = causal_conv(mixed, self.conv_weight, self.conv_bias, ragged)
        return convolved, last_inputs(mixed, self.conv_weight.shape[1], ragged)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gate z, what the convolution takes (x, B, C), and the raw step sizes."""
        return self.in_proj(x).split([self.inner, self.inner + 2 * self.states, self.heads], -1)

    def _scan_inputs(self, convolved: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x (T, H, P), dt (T, H), a (H,), b and c (T, 1, N)."""
        value, b, c = silu(convolved).split([self.inner, self.states, self.states], -1)
        dt = softplus(dt.float() + self.dt_bias)
        value = value.view(len(value), self.heads, -1)
        return value, dt, -self.a_log.float().exp(), b[:, None], c[:, None]

    def _gated(self, y: Tensor, value: Tensor, z: Tensor, dtype: torch.dtype) -> Tensor:
        y = y + self.skip[:, None] * value
        return self.out(self.norm(y.flatten(1) * silu(z.float())).to(dtype))


def _behind(before: Tensor, rows: Tensor, ragged: Ragged) -> tuple[Tensor, Ragged, Tensor]:
    """Put K rows (B, K, C) in front of each sequence of (T, C) rows.

    Returns:
        The longer rows, their layout, and (T,) where the given rows lie in it.
    """
    gap = before.shape[1]
    longer = Ragged.from_lengths(ragged.lengths + gap)
    kept = torch.arange(ragged.total, device=rows.device) + gap * (ragged.sequence_ids + 1)
    front = (longer.first_rows[:, None] + torch.arange(gap, device=rows.device)).flatten()
    joined = rows.new_zeros(longer.total, rows.shape[1]).index_copy(0, kept, rows)
    return joined.index_copy(0, front, before.flatten(0, 1).to(rows.dtype)), longer, kept

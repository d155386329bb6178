"""Multi-head attention with partial rotary positions, an optional sliding window and optional biases.

Several query heads may share one head of keys and values (grouped-query attention, arXiv 2305.13245).
"""

from torch import Tensor, nn

from genotok.kernels.attention import (
    attention_weights,
    extending_attention,
    ragged_attention,
    rotated_parts,
    step_attention,
)
from genotok.kernels.less_kept import product
from genotok.kernels.ragged import Ragged
from genotok.models.linear import Linear
from genotok.models.mixers.key_values import AttentionCache, KeyValueStore


class Attention(nn.Module):
    """Self-attention over packed sequences; positions count from each sequence's own first row.

    Args:
        width: features a row.
        heads: number of heads, dividing `width`.
        rotary_dim: features of a head that the rotary embedding turns (the first ones).
        window: earlier rows seen besides the row itself; -1 for all.
        rotary_base: base of the rotary wave lengths.
        bias: whether the projections have biases.
        kv_heads: number of heads of keys and values, dividing `heads`; None for as many.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        rotary_dim: int,
        window: int,
        rotary_base: float,
        bias: bool = False,
        kv_heads: int | None = None,
    ):
        super().__init__()
        self.heads, self.rotary_dim, self.window, self.rotary_base = heads, rotary_dim, window, rotary_base
        self.kv_heads = kv_heads or heads
        self.qkv = Linear(width, width + 2 * width // heads * self.kv_heads, bias=bias)
        self.out = Linear(width, width, bias=bias)

    def forward(self, x: Tensor, ragged: Ragged, causal: bool = True) -> Tensor:
        """(T, D) to (T, D); a row sees those in front of it, and those behind it as well when not `causal`."""
        return self._attend(*self._rotated(x, ragged.positions), ragged, causal)

    def weights(self, x: Tensor, ragged: Ragged, causal: bool = True) -> Tensor:
        """(B, H, L, L) float32, what each row takes of each other in `forward`; for looking at."""
        q, k, _ = self._rotated(x, ragged.positions)
        return attention_weights(q, k, ragged, causal=causal, window=self.window)

    def prefill(self, x: Tensor, ragged: Ragged) -> tuple[Tensor, AttentionCache]:
        """`forward`, and the cache behind each sequence's last row."""
        q, k, v = self._rotated(x, ragged.positions)
        return self._attend(q, k, v, ragged), AttentionCache(KeyValueStore(k, v, ragged, self.window))

    def extend(self, x: Tensor, ragged: Ragged, cache: AttentionCache, of_cache: Tensor) -> Tensor:
        """(T, D) to (T, D), rows that follow on those of the sequences `of_cache` (B,); the cache stays as it is."""
        store = cache.store
        rows = of_cache if cache.rows is None else cache.rows[of_cache]
        positions = ragged.positions + store.lengths[rows][ragged.sequence_ids]
        q, k, v = self._rotated(x, positions)
        held = store.keys, store.values, store.lengths, rows
        return self.out(extending_attention(q, k, v, ragged, *held, self.window).flatten(1))

    def step(self, x: Tensor, cache: AttentionCache, stepped: Tensor | None = None) -> Tensor:
        """One further row (B, D) of each sequence; those that are not `stepped` (B,) bool do not remember it."""
        q, k, v = self._rotated(x, cache.positions)
        return self.out(step_attention(q, *cache.append(k, v, stepped)).flatten(1))

    def _rotated(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = product(self.qkv, x).view(len(x), self.heads + 2 * self.kv_heads, -1)
        turning = positions, self.rotary_dim, self.rotary_base
        return rotated_parts(rows, self.heads, self.kv_heads, *turning)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, causal: bool = True) -> Tensor:
        return self.out(ragged_attention(q, k, v, ragged, causal=causal, window=self.window).flatten(1))

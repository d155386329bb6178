"""Multi-head attention with partial rotary positions, an optional sliding window and optional biases."""

from torch import Tensor, nn

from genotok.kernels.attention import ragged_attention, rotate
from genotok.kernels.ragged import Ragged


class Attention(nn.Module):
    """Self-attention over packed sequences; positions count from each sequence's own first row.

    Args:
        width: features a row.
        heads: number of heads, dividing `width`.
        rotary_dim: features of a head that the rotary embedding turns (the first ones).
        window: earlier rows seen besides the row itself; -1 for all.
        rotary_base: base of the rotary wave lengths.
        bias: whether the projections have biases.
    """

    def __init__(
        self, width: int, heads: int, rotary_dim: int, window: int, rotary_base: float, bias: bool = False
    ):
        super().__init__()
        self.heads, self.rotary_dim, self.window, self.rotary_base = heads, rotary_dim, window, rotary_base
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, ragged: Ragged, causal: bool = True) -> Tensor:
        """(T, D) to (T, D); a row sees those in front of it, and those behind it as well when not `causal`."""
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        if self.rotary_dim:
            q = rotate(q, ragged.positions, self.rotary_dim, self.rotary_base)
            k = rotate(k, ragged.positions, self.rotary_dim, self.rotary_base)
        y = ragged_attention(q, k, v, ragged, causal=causal, window=self.window)
        return self.out(y.flatten(1))

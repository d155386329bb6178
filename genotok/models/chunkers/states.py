"""What a chunk hands to the stage inside: its first row, or a summary of all its rows.

The first row of a chunk is known when the chunk begins. A summary is known only when the chunk has ended, and a
causal model may not look ahead: there the row inside that stands for a chunk carries the summary of the chunk before
it, and the first one a learned state (as the patches of the Byte Latent Transformer, arXiv 2412.09871, are delayed).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genotok.kernels.cross_attention import attend_to_own_rows, own_row_scores
from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache
from genotok.models.chunkers.routing import Boundaries


@dataclass
class MeanStateCache(Cache):
    """The chunk in hand: `total` (B, D) float32, the sum of its rows so far, and `rows` (B,) int64, their number."""

    total: Tensor
    rows: Tensor


@dataclass
class CrossStateCache(Cache):
    """The chunk in hand, as its first row sees it.

    Attributes:
        first: (B, D), the chunk's first row.
        query: (B, H, E), its query.
        highest: (B, H) float32, the highest score so far.
        total: (B, H) float32, the sum of exp(score - highest).
        summed: (B, H, E) float32, that of exp(score - highest) * value.
    """

    first: Tensor
    query: Tensor
    highest: Tensor
    total: Tensor
    summed: Tensor


class SelectedRows(nn.Module):
    """The chunk's first row, as in H-Net (arXiv 2507.07955)."""

    def forward(self, x: Tensor, boundaries: Boundaries, chunk_layout: Ragged, causal: bool = True) -> Tensor:
        """(T, D) rows to (M, D) chunks."""
        return boundaries.of_chunks(x, chunk_layout)

    def prefill(self, x: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> tuple[Tensor, Cache | None]:
        """`forward`, and no cache, since nothing is to be remembered."""
        return boundaries.of_chunks(x, chunk_layout), None

    def extend(self, x: Tensor, rows: Tensor, cache: None) -> Tensor:
        """The states (M, D) of the chunks that begin with the `rows` (M,) of (T, D) ones that follow on others."""
        return x.index_select(0, rows)

    def step(self, x: Tensor, begins: Tensor, cache: None) -> Tensor:
        """The states of the chunks that begin with the next rows (B, D), for the sequences `begins` (M,) int64."""
        return x[begins]


class Summary(nn.Module, ABC):
    """What mean and cross-attention share: the delay in causal models.

    Args:
        width: features a row.
    """

    def __init__(self, width: int):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(width))

    @abstractmethod
    def summaries(self, x: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> Tensor:
        """(T, D) rows to (M, D) summaries of the chunks that they make up."""

    def forward(self, x: Tensor, boundaries: Boundaries, chunk_layout: Ragged, causal: bool = True) -> Tensor:
        """(T, D) rows to (M, D) chunks; in a causal model each carries the summary of the one before it."""
        states = self.summaries(x, boundaries, chunk_layout)
        return self.delayed(states, chunk_layout) if causal else states

    def delayed(self, states: Tensor, chunk_layout: Ragged) -> Tensor:
        """(M, D) to (M, D): each chunk gets the state of the one before it."""
        first = torch.zeros(len(states), 1, dtype=torch.bool, device=states.device)
        first = first.index_fill(0, chunk_layout.first_rows, True)
        return torch.where(first, self.start.to(states.dtype), states.roll(1, 0))


class MeanState(Summary):
    """The mean of the chunk's rows, in float32."""

    def summaries(self, x: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> Tensor:
        """(T, D) rows to (M, D) means."""
        chunk_of_row, chunks = boundaries.chunk_of_row, chunk_layout.total
        sums = x.new_zeros(chunks, x.shape[1], dtype=torch.float32).index_add(0, chunk_of_row, x.float())
        rows = sums.new_zeros(chunks).index_add(0, chunk_of_row, sums.new_ones(len(x)))
        return sums / rows.clamp(min=1)[:, None]

    def prefill(
        self, x: Tensor, boundaries: Boundaries, chunk_layout: Ragged
    ) -> tuple[Tensor, MeanStateCache]:
        """`forward`, and what the last chunk of each sequence holds so far."""
        means, lengths = self.summaries(x, boundaries, chunk_layout), lengths_so_far(boundaries)
        total = means[chunk_layout.last_rows] * lengths[:, None]
        return self.delayed(means, chunk_layout), MeanStateCache(total.detach(), lengths)

    def step(self, x: Tensor, begins: Tensor, cache: MeanStateCache) -> Tensor:
        """The means of the chunks that have ended in the sequences `begins`; (B, D) rows join the chunks in hand."""
        means = cache.total[begins] / cache.rows[begins, None]
        cache.total = cache.total.index_fill(0, begins, 0.0) + x.float()
        cache.rows = cache.rows.index_fill(0, begins, 0) + 1
        return means


class CrossAttentionState(Summary):
    """The chunk's first row asks all rows of the chunk: row + out(attention), in float32.

    Args:
        width: features a row.
        heads: number of heads, dividing `width`.
        norm: the norm in front of the attention.
    """

    def __init__(self, width: int, heads: int, norm: nn.Module):
        super().__init__(width)
        self.heads, self.norm = heads, norm
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def summaries(self, x: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> Tensor:
        """(T, D) rows to (M, D) summaries."""
        normed, rows = self.norm(x), boundaries.chunk_rows(chunk_layout)
        q, (k, v) = self._query(normed.index_select(0, rows)), self._key_value(normed)
        seen = attend_to_own_rows(q, k, v, boundaries.chunk_of_row)
        return x.index_select(0, rows) + self.out(seen.flatten(1))

    def prefill(
        self, x: Tensor, boundaries: Boundaries, chunk_layout: Ragged
    ) -> tuple[Tensor, CrossStateCache]:
        """`forward`, and what the last chunk of each sequence holds so far."""
        ragged, lengths = boundaries.ragged, lengths_so_far(boundaries)
        first = x[ragged.last_rows + 1 - lengths]
        normed = self.norm(x)
        q, (k, v) = self._query(self.norm(first)), self._key_value(normed)
        sequence = ragged.sequence_ids
        own = ragged.positions > (ragged.lengths - lengths - 1)[sequence]
        scores = own_row_scores(q[sequence], k).masked_fill(~own[:, None], -torch.inf)
        highest = scores.new_full(q.shape[:2], -torch.inf)
        highest = highest.scatter_reduce(0, sequence[:, None].expand_as(scores), scores, "amax")
        weights = (scores - highest[sequence]).exp()
        total = torch.zeros_like(highest).index_add(0, sequence, weights)
        summed = torch.zeros_like(q).float().index_add(0, sequence, weights[..., None] * v.float())
        parts = (part.detach() for part in (first, q, highest, total, summed))
        return self(x, boundaries, chunk_layout), CrossStateCache(*parts)

    def step(self, x: Tensor, begins: Tensor, cache: CrossStateCache) -> Tensor:
        """The summaries of the chunks that have ended in `begins`; (B, D) rows join the chunks in hand."""
        ended = cache.select(begins)
        states = ended.first + self.out((ended.summed / ended.total[..., None]).flatten(1))
        normed = self.norm(x)
        k, v = self._key_value(normed)
        fresh = torch.zeros(len(x), dtype=torch.bool, device=x.device).index_fill(0, begins, True)
        cache.first = torch.where(fresh[:, None], x, cache.first)
        cache.query = torch.where(fresh[:, None, None], self._query(normed), cache.query)
        before = cache.highest.masked_fill(fresh[:, None], -torch.inf)
        score = own_row_scores(cache.query, k)
        cache.highest = torch.maximum(before, score)
        kept, added = (before - cache.highest).exp(), (score - cache.highest).exp()
        cache.total = kept * cache.total + added
        cache.summed = kept[..., None] * cache.summed + added[..., None] * v.float()
        return states

    def _query(self, normed: Tensor) -> Tensor:
        return self.query(normed).unflatten(1, (self.heads, -1))

    def _key_value(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        return self.key_value(normed).unflatten(1, (2, self.heads, -1)).unbind(1)


def lengths_so_far(boundaries: Boundaries) -> Tensor:
    """(B,) int64, how many rows the last chunk of each sequence holds."""
    rows = torch.arange(len(boundaries.mask), device=boundaries.mask.device)
    latest = torch.where(boundaries.mask, rows, 0).cummax(0).values
    last = boundaries.ragged.last_rows
    return last - latest[last] + 1


CHUNK_STATES = ("select", "mean", "cross_attention")


def make_chunk_states(kind: str, width: int, heads: int, norm: nn.Module) -> nn.Module:
    """Build what `chunk_states` of a configuration names."""
    if kind == "cross_attention":
        return CrossAttentionState(width, heads, norm)
    return MeanState(width) if kind == "mean" else SelectedRows()

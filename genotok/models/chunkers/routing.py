"""H-Net's routing: a boundary stands where neighbouring states differ (arXiv 2507.07955, section 2.2)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from genotok.kernels.less_kept import cheap, product
from genotok.kernels.ragged import Ragged
from genotok.kernels.rounding import as_products_take_it
from genotok.kernels.router import boundary_probability, pair_probability
from genotok.models.cache import Cache
from genotok.models.linear import Linear


@dataclass
class Boundaries:
    """Where chunks begin.

    Attributes:
        prob: (T,) float32 probability that a row begins a chunk, 1 at each sequence's first row; with gradient.
        mask: (T,) bool, the rows that do begin one.
        ragged: the layout of the T rows.
        learned: whether the boundaries follow the model's own scores, so that a loss can steer them.
        left_out: () int64, how many boundaries there was no room for; None where nothing limits them.
    """

    prob: Tensor
    mask: Tensor
    ragged: Ragged
    learned: bool = True
    left_out: Tensor | None = None

    @classmethod
    def fixed(cls, mask: Tensor, ragged: Ragged) -> "Boundaries":
        """Boundaries that no weight decides upon: the probability is 1 where a chunk begins, else 0."""
        return cls(mask.float(), mask, ragged, learned=False)

    @property
    def confidence(self) -> Tensor:
        """(T,) probability of the decision that was taken, boundary or not."""
        return torch.where(self.mask, self.prob, 1 - self.prob)

    @property
    def chunk_of_row(self) -> Tensor:
        """(T,) int64: the chunk that each row lies in, counted over the whole batch."""
        return self.mask.cumsum(0) - 1

    def chunk_counts(self) -> Tensor:
        """(B,) int64, how many chunks begin in each sequence."""
        counts = self.mask.new_zeros(self.ragged.batch, dtype=torch.long)
        return counts.index_add(0, self.ragged.sequence_ids, self.mask.long())

    def continued_layout(self) -> tuple[Tensor, Ragged | None]:
        """Of rows that follow on others; costs one host synchronisation.

        Returns:
            (S,) int64, the sequences in which a chunk begins, and the layout of the chunks in these, or None.
        """
        counts = self.chunk_counts()
        found = torch.stack([(counts > 0).sum(), counts.sum(), counts.max()]).tolist()
        begun = (counts == 0).long().argsort(stable=True)[: found[0]]
        ends = torch.nn.functional.pad(counts[begun].cumsum(0), (1, 0)).int()
        return begun, Ragged(ends, *found[1:]) if found[0] else None

    def of_real_rows(self) -> "Boundaries":
        """The same, but among rows that only fill the layout up none that need not be."""
        if self.ragged.real is None:
            return self
        mask = (self.mask & self.ragged.is_real).index_fill(0, self.ragged.first_rows, True)
        return replace(self, mask=mask)

    def at_most(self, capacity: int) -> "Boundaries":
        """The same without the last of those that there is no room for; the first row of each sequence keeps its own.

        Costs no host synchronisation.
        """
        first = torch.zeros_like(self.mask).index_fill(0, self.ragged.first_rows, True)
        others = self.mask & ~first
        mask = first | (others & (others.cumsum(0) <= capacity - self.ragged.batch))
        return replace(self, mask=mask, left_out=self.mask.sum() - mask.sum())

    def chunk_layout(self, capacity: int | None = None) -> Ragged:
        """The layout of the chunks; costs one host synchronisation, or none where a capacity is given.

        Args:
            capacity: how many chunks there is room for, see `at_most`; the layout is filled up.
        """
        if capacity is None:
            return Ragged.from_lengths(self.chunk_counts())
        longest = min(capacity, self.ragged.max_seqlen)
        return Ragged.filled_up(self.chunk_counts(), capacity, longest, self.real_mask.sum())

    @property
    def real_mask(self) -> Tensor:
        """(T,) bool, the mask without rows that only fill the layout up."""
        return self.mask if self.ragged.real is None else self.mask & self.ragged.is_real

    def chunk_rows(self, chunk_layout: Ragged) -> Tensor:
        """(M,) int64, the first row of each chunk; of those that only fill the layout of the chunks up, any row.

        Costs no host synchronisation, as indexing by the mask would.
        """
        chunk = torch.arange(chunk_layout.total, device=self.mask.device)
        rows = torch.searchsorted(self.chunk_of_row, chunk)
        if chunk_layout.real is None:
            return rows
        return torch.where(rows < len(self.mask), rows, chunk % len(self.mask))

    def of_chunks(self, values: Tensor, chunk_layout: Ragged) -> Tensor:
        """(T, ...) to (M, ...), what the first row of each chunk has."""
        return values.index_select(0, self.chunk_rows(chunk_layout))


@dataclass
class RoutingCache(Cache):
    """The router's memory: `query` (B, D), that of each sequence's last row."""

    query: Tensor


class RoutingChunker(nn.Module):
    """Boundary probability from the cosine of a row's key with the query of the row before it."""

    def __init__(self, width: int):
        super().__init__()
        self.query = Linear(width, width, bias=False)
        self.key = Linear(width, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin with identity projections, so that the first boundaries follow the states themselves."""
        nn.init.eye_(self.query.weight)
        nn.init.eye_(self.key.weight)

    def forward(self, x: Tensor, ragged: Ragged, causal: bool = True) -> Boundaries:
        """(T, D) states to boundaries; the first row of each sequence always begins a chunk.

        Other than causal, a row's query is held against the key of the row before it as well, and the probability
        is the mean of both, so that a sequence and its mirror image have the same boundaries.
        """
        narrow = cheap(as_products_take_it, x)
        query, key = product(self.query, narrow), product(self.key, narrow)
        if causal:
            return Boundaries(*boundary_probability(query, key, ragged), ragged)
        prob = (pair_probability(query[:-1], key[1:]) + pair_probability(query[1:], key[:-1])) / 2
        prob = torch.cat([prob.new_ones(1), prob]).index_fill(0, ragged.first_rows, 1.0)
        return Boundaries(prob, prob > 0.5, ragged)

    def prefill(self, x: Tensor, ragged: Ragged) -> tuple[Boundaries, RoutingCache]:
        """`forward`, and the cache behind each sequence's last row."""
        return self(x, ragged), RoutingCache(self.query(x[ragged.last_rows]).detach())

    def extend(self, x: Tensor, ragged: Ragged, cache: RoutingCache, of_cache: Tensor) -> Boundaries:
        """Boundaries of (T, D) rows that follow on those of the cache's sequences `of_cache` (B,)."""
        before = self.query(x).roll(1, 0)
        before = before.index_copy(0, ragged.first_rows, cache.query[of_cache].to(before.dtype))
        prob = pair_probability(before, self.key(x))
        return Boundaries(prob, prob > 0.5, ragged)

    def step(self, x: Tensor, cache: RoutingCache) -> Boundaries:
        """Whether one further row (B, D) of each sequence begins a chunk."""
        prob = pair_probability(cache.query, self.key(x))
        cache.query = self.query(x)
        return Boundaries(prob, prob > 0.5, Ragged.uniform(len(x), 1, x.device))

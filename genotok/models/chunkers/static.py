"""Chunks of a fixed length, the baseline that learned chunks are held against."""

from dataclasses import dataclass

from torch import Tensor, nn

from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache
from genotok.models.chunkers.routing import Boundaries


@dataclass
class StaticCache(Cache):
    """The memory of chunks of a fixed length: `position` (B,) int64, that of the row that comes next."""

    position: Tensor


class StaticChunker(nn.Module):
    """A boundary at every `length`-th row, counted from the first row of each sequence."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length

    def forward(self, x: Tensor, ragged: Ragged) -> Boundaries:
        """(T, D) rows to boundaries; the rows' states do not matter."""
        return Boundaries.fixed(ragged.positions % self.length == 0, ragged)

    def prefill(self, x: Tensor, ragged: Ragged) -> tuple[Boundaries, StaticCache]:
        """`forward`, and the cache behind each sequence's last row."""
        return self(x, ragged), StaticCache(ragged.lengths.clone())

    def extend(self, x: Tensor, ragged: Ragged, cache: StaticCache, of_cache: Tensor) -> Boundaries:
        """Boundaries of (T, D) rows that follow on those of the cache's sequences `of_cache` (B,)."""
        positions = ragged.positions + cache.position[of_cache][ragged.sequence_ids]
        return Boundaries.fixed(positions % self.length == 0, ragged)

    def step(self, x: Tensor, cache: StaticCache) -> Boundaries:
        """Whether one further row (B, D) of each sequence begins a chunk."""
        begins = cache.position % self.length == 0
        cache.position = cache.position + 1
        return Boundaries.fixed(begins, Ragged.uniform(len(x), 1, x.device))

"""Chunks of a fixed length, the baseline that learned chunks are held against."""

from torch import Tensor, nn

from genotok.kernels.ragged import Ragged
from genotok.models.chunkers.routing import Boundaries


class StaticChunker(nn.Module):
    """A boundary at every `length`-th row, counted from the first row of each sequence."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length

    def forward(self, x: Tensor, ragged: Ragged) -> Boundaries:
        """(T, D) rows to boundaries; the rows' states do not matter."""
        return Boundaries.fixed(ragged.positions % self.length == 0, ragged)

"""Boundaries that the caller supplies: genes, exons, conserved stretches, anything that has coordinates.

`genotok.genomes.intervals.boundary_mask` makes them of intervals.
"""

from torch import Tensor, nn

from genotok.kernels.ragged import Ragged
from genotok.models.chunkers.routing import Boundaries


class GivenChunker(nn.Module):
    """Boundaries where the caller says, and at the first row of each sequence."""

    def forward(self, x: Tensor, ragged: Ragged, mask: Tensor) -> Boundaries:
        """(T, D) rows and a (T,) bool mask to boundaries; the rows' states do not matter."""
        return Boundaries.fixed(mask.bool().index_fill(0, ragged.first_rows, True), ragged)

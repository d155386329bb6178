"""Boundaries that the caller supplies: genes, exons, conserved stretches, anything that has coordinates."""

import torch
from torch import Tensor, nn

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models.chunkers.routing import Boundaries


class GivenChunker(nn.Module):
    """Boundaries where the caller says, and at the first row of each sequence."""

    def forward(self, x: Tensor, ragged: Ragged, mask: Tensor) -> Boundaries:
        """(T, D) rows and a (T,) bool mask to boundaries; the rows' states do not matter."""
        return Boundaries.fixed(mask.bool().index_fill(0, ragged.first_rows, True), ragged)


def mask_of_positions(positions: Tensor, length: int) -> Tensor:
    """(L,) bool with boundaries at the given positions and at the first.

    Args:
        positions: (N,) 0-based, in any order.
        length: L.

    Raises:
        InputError: a position lies outside.
    """
    positions = torch.as_tensor(positions, dtype=torch.long)
    outside = positions[(positions < 0) | (positions >= length)]
    if len(outside):
        raise InputError(f"boundary position {int(outside[0])} lies outside 0 to {length - 1}")
    mask = torch.zeros(length, dtype=torch.bool, device=positions.device)
    mask[:1] = True
    return mask.index_fill(0, positions, True)


def mask_of_intervals(intervals: Tensor, start: int, end: int, start_tokens: int = 0) -> Tensor:
    """Turn intervals of a contig, such as those of a BED file, into the boundaries of a window of it.

    A chunk begins where an interval begins and where one ends, so that the stretches between intervals are chunks
    as well. Intervals may overlap, lie in any order, and reach out of the window.

    Args:
        intervals: (N, 2) starts and ends on the contig, 0-based and half-open.
        start: first position of the window.
        end: position after its last.
        start_tokens: how many start tokens the tokenizer puts in front; they belong to the first chunk.

    Returns:
        (start_tokens + end - start,) bool; the first is true.

    Raises:
        InputError: the window is empty, or an interval ends before it starts.
    """
    if not 0 <= start < end:
        raise InputError(f"the window {start} to {end} is empty")
    intervals = torch.as_tensor(intervals, dtype=torch.long).reshape(-1, 2)
    reversed_ones = intervals[intervals[:, 0] > intervals[:, 1]]
    if len(reversed_ones):
        raise InputError(f"interval {reversed_ones[0].tolist()}: ends before it starts")
    edges = intervals.flatten()
    # The window's own start is no edge, and with it the start tokens stay in the first chunk.
    inside = edges[(edges > start) & (edges < end)]
    return mask_of_positions(inside - start + start_tokens, start_tokens + end - start)

"""Where the chunks of every stage lie on the tokens."""

import torch
from torch import Tensor

from genotok.models.chunkers.routing import Boundaries


def chunk_starts(boundaries: list[Boundaries]) -> list[Tensor]:
    """The token rows at which the chunks of each stage begin.

    Args:
        boundaries: of all stages, outermost first; those of stage s run over the chunks of stage s - 1.

    Returns:
        For each stage, (M_s,) int64 rows in the packed batch (0-based), rising.
    """
    starts, rows = [], None
    for stage in boundaries:
        chosen = stage.mask.nonzero()[:, 0]
        rows = chosen if rows is None else rows[chosen]
        starts.append(rows)
    return starts


def chunk_lengths(
    boundaries: list[Boundaries], start_tokens: int = 0, letters: Tensor | None = None
) -> list[Tensor]:
    """The lengths of the chunks of each stage, in tokens or in letters.

    Args:
        boundaries: of all stages, outermost first.
        start_tokens: how many start tokens stand in front of each sequence; they are not counted, and a chunk
            that holds nothing else is left out.
        letters: (T,) how many letters each token of the packed batch adds, 0 for a start token; None to count tokens.

    Returns:
        For each stage, (M_s,) int64.
    """
    result = []
    if letters is not None:
        before = torch.cat([letters.new_zeros(1), letters.cumsum(0)])
    for starts in chunk_starts(boundaries):
        ends = torch.cat([starts[1:], starts.new_tensor([boundaries[0].ragged.total])])
        if letters is not None:
            result.append((before[ends] - before[starts])[before[ends] > before[starts]])
            continue
        lengths = ends - starts
        lengths[torch.isin(starts, boundaries[0].ragged.first_rows)] -= start_tokens
        result.append(lengths[lengths > 0])
    return result

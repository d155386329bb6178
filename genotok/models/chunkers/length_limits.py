"""Longest and shortest chunk lengths, enforced on all sequences of a batch at once."""

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged


def split_long_chunks(starts: Tensor, max_length: int) -> Tensor:
    """Cut each chunk that is too long into pieces of `max_length` and a rest.

    Args:
        starts: (..., L) bool, where chunks begin; the first row must begin one. Sequences may lie end to end,
            since each begins a chunk.
        max_length: rows a chunk, at least 1.

    Returns:
        (..., L) bool.
    """
    rows = torch.arange(starts.shape[-1], device=starts.device)
    latest = torch.where(starts, rows, 0).cummax(-1).values
    return starts | ((rows - latest) % max_length == 0)


def choose_starts(candidates: Tensor, ragged: Ragged, min_length: int, max_length: int) -> Tensor:
    """Walk over each sequence and begin a chunk at the first candidate that the last chunk's length allows.

    A chunk that began at row b ends in front of the first candidate from row b + `min_length` on, and at the
    latest in front of row b + `max_length`. Where each row's chunk would end is known for all rows at once, and
    the rows that are reached from the first one are marked by doubling the stride of the jumps: O(T log T)
    work, log T steps, no host synchronisation. Whether a chunk begins at a row depends on candidates up to that
    row alone.

    Args:
        candidates: (T,) bool, rows where a chunk may begin.
        ragged: their layout.
        min_length: rows a chunk, at least 1; the last chunk of a sequence may be shorter.
        max_length: at least `min_length`.

    Returns:
        (T,) bool.
    """
    total = ragged.total
    rows = torch.arange(total, device=candidates.device)
    # Row `total` stands for the end of every sequence; it leads to itself.
    beyond = rows.new_full((1,), total)
    nearest = torch.where(candidates, rows, total).flip(0).cummin(0).values.flip(0)
    nearest = torch.cat([nearest, beyond])[(rows + min_length).clamp(max=total)]
    following = torch.minimum(nearest, rows + max_length)
    ends = ragged.cu_seqlens[1:].long()[ragged.sequence_ids]
    jump = torch.cat([torch.where(following < ends, following, total), beyond])
    starts = candidates.new_zeros(total + 1).index_fill(0, ragged.first_rows, True)
    most_chunks = -(-ragged.max_seqlen // min_length)
    for _ in range((most_chunks - 1).bit_length()):
        starts = starts.index_fill(0, torch.where(starts, jump, total), True)
        jump = jump[jump]
    return starts[:-1]

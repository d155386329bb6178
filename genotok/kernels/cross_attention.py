"""Attention between rows and the chunks that they make up, without a matrix of all rows by all chunks."""

from collections.abc import Sequence

import torch
from torch import Tensor


def attend_to_own_rows(q: Tensor, k: Tensor, v: Tensor, chunk_of_row: Tensor) -> Tensor:
    """Each chunk's query attends to the rows of its chunk alone, in O(T).

    Args:
        q: (M, H, E), one query a chunk.
        k, v: (T, H, E), one key and value a row.
        chunk_of_row: (T,) int64, the chunk of each row.

    Returns:
        (M, H, E) float32; 0 for a chunk without a row.
    """
    scores = own_row_scores(q[chunk_of_row], k)
    index = chunk_of_row[:, None].expand_as(scores)
    highest = scores.new_full(q.shape[:2], -torch.inf).scatter_reduce(0, index, scores.detach(), "amax")
    weights = (scores - highest[chunk_of_row]).exp()
    total = torch.zeros_like(highest).index_add(0, chunk_of_row, weights)
    summed = weights.new_zeros(q.shape).index_add(0, chunk_of_row, weights[..., None] * v.float())
    return summed / total.clamp(min=1)[..., None]  # the highest score alone adds 1


def own_row_scores(q: Tensor, k: Tensor) -> Tensor:
    """(T, H) float32: the score of each row's key under the query (T, H, E) of its chunk."""
    return (q.float() * k.float()).sum(-1) * q.shape[-1] ** -0.5


def attend_to_near_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    chunk_of_row: Tensor,
    nearest: tuple[Tensor, Tensor],
    offsets: Sequence[int],
    bias: Tensor,
) -> Tensor:
    """Each row's query attends to the chunks at some offsets from its own, in O(T) for each offset.

    Args:
        q: (T, H, E), one query a row.
        k, v: (M, H, E), one key and value a chunk.
        chunk_of_row: (T,) int64, the chunk of each row.
        nearest: the first and the last chunk of each row's sequence, (T,) int64 both; others are not seen.
        offsets: W of them, 0 included.
        bias: (W, H), added to the scores of each offset.

    Returns:
        (T, H, E) float32.
    """
    q, (first, last) = q.float() * q.shape[-1] ** -0.5, nearest
    scores, chunks = [], []
    for place, offset in enumerate(offsets):
        chunk = chunk_of_row + offset
        hidden = (chunk < first) | (chunk > last)
        chunks.append(chunk.clamp(0, len(k) - 1))
        score = (q * k[chunks[-1]].float()).sum(-1) + bias[place].float()
        scores.append(score.masked_fill(hidden[:, None], -torch.inf))
    weights = torch.stack(scores).softmax(0)
    return sum(weight[..., None] * v[chunk].float() for weight, chunk in zip(weights, chunks, strict=True))

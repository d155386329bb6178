"""How likely a boundary stands between neighbouring rows: half of one minus the cosine of their projections."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from genotok.kernels.backend import uses_triton
from genotok.kernels.ragged import Ragged


def pair_probability(query: Tensor, key: Tensor) -> Tensor:
    """(1 - cos(query, key)) / 2 row by row, in float32 (H-Net, arXiv 2507.07955, eq. 4).

    Args:
        query, key: (N, D).

    Returns:
        (N,) float32, from 0 to 1.
    """
    if uses_triton(query):
        from genotok.kernels import triton_router

        return triton_router.pair_probability(query, key)
    query, key = normalize(query.float(), dim=-1), normalize(key.float(), dim=-1)
    return (0.5 - 0.5 * (query * key).sum(-1)).clamp(0, 1)


def boundary_probability(query: Tensor, key: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
    """`pair_probability` of each row's key with the query of the row before it, and where it exceeds 1/2.

    Args:
        query, key: (T, D).
        ragged: the layout of the T rows.

    Returns:
        (T,) float32, 1 at each sequence's first row, and (T,) bool.
    """
    if uses_triton(query):
        from genotok.kernels import triton_router

        return triton_router.boundary_probability(query, key, ragged)
    prob = pair_probability(query[:-1], key[1:])
    prob = torch.cat([prob.new_ones(1), prob]).index_fill(0, ragged.first_rows, 1.0)
    return prob, prob > 0.5

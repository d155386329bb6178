"""The router in Triton: two rows are read once, normalised and multiplied."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.kernels.tile_sizes import cdiv, next_power_of_2

ROWS_OF_512 = 4  # rows of 512 features that a program takes at a time
_EPS = tl.constexpr(1e-12)


def pair_probability(query: Tensor, key: Tensor) -> Tensor:
    """As `genotok.kernels.router.pair_probability`."""
    with torch.cuda.device_of(query):
        return _Probability.apply(query, key, None)[0]


def boundary_probability(query: Tensor, key: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
    """As `genotok.kernels.router.boundary_probability`."""
    with torch.cuda.device_of(query):
        return _Probability.apply(query, key, ragged.sequence_ids)


class _Probability(torch.autograd.Function):
    """With the sequence of each row, queries stand one row in front of their keys; without, in the same one."""

    @staticmethod
    def forward(ctx, query, key, sequence):
        query, key = query.contiguous(), key.contiguous()
        prob = query.new_empty(len(query), dtype=torch.float32)
        mask = torch.empty_like(prob, dtype=torch.bool)
        ctx.sizes = _sizes(query)
        ctx.save_for_backward(query, key, sequence)
        ctx.mark_non_differentiable(mask)
        grid, flags = ctx.sizes
        shifted = sequence is not None
        _forward[grid](
            query, key, sequence if shifted else query, prob, mask, *query.shape, SHIFTED=shifted, **flags
        )
        return prob, mask

    @staticmethod
    def backward(ctx, gradient, _):
        query, key, sequence = ctx.saved_tensors
        to_query, to_key = torch.empty_like(query), torch.empty_like(key)
        grid, flags = ctx.sizes
        shifted = sequence is not None
        _backward[grid](
            gradient.contiguous(),
            query,
            key,
            sequence if shifted else query,
            to_query,
            to_key,
            *query.shape,
            SHIFTED=shifted,
            **flags,
        )
        return to_query, to_key, None


def _sizes(query: Tensor) -> tuple[tuple[int], dict[str, int]]:
    columns = next_power_of_2(query.shape[1])
    rows = max(1, min(64, ROWS_OF_512 * 512 // columns))
    return (cdiv(len(query), rows),), {"ROWS": rows, "COLUMNS": columns, "num_warps": 4}


@triton.jit
def _pair(query, key, sequence, rows, total, width, columns, SHIFTED: tl.constexpr):
    """Where the queries stand, which rows have one, the row pairs and their norms."""
    other = rows - 1 if SHIFTED else rows
    paired = (rows < total) & (other >= 0)
    if SHIFTED:
        own = tl.load(sequence + rows, paired, 0)
        paired = paired & (tl.load(sequence + other, paired, -1) == own)
    there = paired[:, None] & (columns < width)[None, :]
    q = tl.load(query + other[:, None] * width + columns[None, :], there, 0.0).to(tl.float32)
    k = tl.load(key + rows[:, None] * width + columns[None, :], there, 0.0).to(tl.float32)
    return other, paired, q, k, tl.sqrt(tl.sum(q * q, 1)), tl.sqrt(tl.sum(k * k, 1))


@triton.jit
def _forward(
    query,
    key,
    sequence,
    prob,
    mask,
    total,
    width,
    SHIFTED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    _, paired, q, k, q_norm, k_norm = _pair(query, key, sequence, rows, total, width, columns, SHIFTED)
    cosine = tl.sum(q * k, 1) / (tl.maximum(q_norm, _EPS) * tl.maximum(k_norm, _EPS))
    found = tl.where(paired, tl.minimum(tl.maximum(0.5 - 0.5 * cosine, 0.0), 1.0), 1.0)
    tl.store(prob + rows, found, rows < total)
    tl.store(mask + rows, found > 0.5, rows < total)


@triton.jit
def _backward(
    gradient,
    query,
    key,
    sequence,
    to_query,
    to_key,
    total,
    width,
    SHIFTED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    other, paired, q, k, q_norm, k_norm = _pair(query, key, sequence, rows, total, width, columns, SHIFTED)
    q_scale, k_scale = 1 / tl.maximum(q_norm, _EPS), 1 / tl.maximum(k_norm, _EPS)
    q, k = q * q_scale[:, None], k * k_scale[:, None]
    cosine = tl.sum(q * k, 1)
    free = paired & (tl.abs(cosine) <= 1)
    to_cosine = tl.where(free, -0.5 * tl.load(gradient + rows, paired, 0.0), 0.0)
    # A row of length 0 is not divided by its length, and so has no part along itself to lose.
    q_along, k_along = tl.where(q_norm > _EPS, cosine, 0.0), tl.where(k_norm > _EPS, cosine, 0.0)
    of_query = (to_cosine * q_scale)[:, None] * (k - q_along[:, None] * q)
    of_key = (to_cosine * k_scale)[:, None] * (q - k_along[:, None] * k)
    # The last query stands in front of no key; the first row's program clears it.
    if SHIFTED:
        other = tl.where(other < 0, total - 1, other)
    there = (rows < total)[:, None] & (columns < width)[None, :]
    tl.store(
        to_query + other[:, None] * width + columns[None, :], of_query.to(to_query.dtype.element_ty), there
    )
    tl.store(to_key + rows[:, None] * width + columns[None, :], of_key.to(to_key.dtype.element_ty), there)

"""The exponential moving average that smooths chunk states, and its spreading over the chunks' rows."""

import torch
from torch import Tensor

from genotok.kernels.backend import uses_triton
from genotok.kernels.linear_scan import linear_scan
from genotok.kernels.ragged import Ragged

PROBABILITY_FLOOR = 1e-4


def ema_scan(values: Tensor, probability: Tensor, ragged: Ragged, initial: Tensor | None = None) -> Tensor:
    """z_t = p_t x_t + (1 - p_t) z_{t-1} (H-Net, arXiv 2507.07955, eq. 5).

    The scan runs in float32 whatever the autocast: in bfloat16 the state collapses on long sequences.

    Args:
        values: (M, D) chunk states.
        probability: (M,) boundary probabilities; clamped to [1e-4, 1 - 1e-4] as in the reference.
        ragged: the layout of the M chunks.
        initial: (B, D), z in front of each sequence; None for 0.

    Returns:
        (M, D) float32.
    """
    if uses_triton(values):
        itself = torch.arange(len(values), device=values.device)
        return ema_upsample(values, probability, torch.ones_like(probability), itself, ragged, initial)
    probability = probability.float().clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    weighted = values.float() * probability[:, None]
    if initial is not None:
        first = ragged.first_rows
        weighted = weighted.index_add(0, first, (1 - probability[first])[:, None] * initial)
    return linear_scan((-probability).log1p()[:, None], weighted[:, None], ragged.sequence_ids)[:, 0]


def ema_upsample(
    chunks: Tensor,
    prob: Tensor,
    confidence: Tensor,
    chunk_of_row: Tensor,
    ragged: Ragged,
    initial: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Smooth chunk states by `ema_scan` and give each row its chunk's, times a one that carries a gradient.

    The one stands for the confidence in the row's boundary (straight-through, H-Net, arXiv 2507.07955, eq. 7 to 9).

    Args:
        chunks: (M, D) states.
        prob: (M,), the boundary probabilities of the chunks.
        confidence: (T,), of the rows; its values do not matter, only that its gradient is the row's product with
            the gradient of the result.
        chunk_of_row: (T,) int64, from 0 on without a gap; a row belongs to its predecessor's chunk or begins the next
            one. Of chunks that no row belongs to, the last ones, gradients may hold anything.
        ragged: the layout of the M chunks.
        initial: (B, D), the smoothed state in front of each sequence; None for 0.
        dtype: of the result; the average is float32 whatever it is.

    Returns:
        (T, D).
    """
    if uses_triton(chunks):
        from genotok.kernels import triton_ema

        return triton_ema.ema_upsample(chunks, prob, confidence, chunk_of_row, ragged, initial, dtype)
    return rewarded(ema_scan(chunks, prob, ragged, initial).index_select(0, chunk_of_row), confidence).to(
        dtype
    )


def rewarded(rows: Tensor, confidence: Tensor) -> Tensor:
    """The rows (T, D) multiplied by a one whose gradient reaches the confidence (T,) in their boundaries."""
    return rows * _StraightThroughOne.apply(confidence)[:, None]


class _StraightThroughOne(torch.autograd.Function):
    """1 in the forward pass, the identity in the backward pass."""

    @staticmethod
    def forward(ctx, confidence: Tensor) -> Tensor:
        return torch.ones_like(confidence)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


def ema_step(values: Tensor, probability: Tensor, before: Tensor) -> Tensor:
    """One row of `ema_scan` for each of M sequences, in float32.

    Args:
        values: (M, D).
        probability: (M,).
        before: (M, D), the smoothed values of the rows before.
    """
    probability = probability.float().clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)[:, None]
    return probability * values.float() + (1 - probability) * before

"""The exponential moving average that smooths chunk states before they are brought back to tokens."""

from torch import Tensor

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
    probability = probability.float().clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    weighted = values.float() * probability[:, None]
    if initial is not None:
        first = ragged.first_rows
        weighted = weighted.index_add(0, first, (1 - probability[first])[:, None] * initial)
    return linear_scan((-probability).log1p()[:, None], weighted[:, None], ragged.sequence_ids)[:, 0]


def ema_step(values: Tensor, probability: Tensor, before: Tensor) -> Tensor:
    """One row of `ema_scan` for each of M sequences, in float32.

    Args:
        values: (M, D).
        probability: (M,).
        before: (M, D), the smoothed values of the rows before.
    """
    probability = probability.float().clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)[:, None]
    return probability * values.float() + (1 - probability) * before

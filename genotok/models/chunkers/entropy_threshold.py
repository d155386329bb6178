"""The entropy threshold that gives chunks of a wanted length: on DNA the one for text cuts almost nowhere."""

import math

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models.chunkers.entropy import entropy_starts


def entropy_threshold(
    entropies: Tensor,
    mean_chunk_length: float,
    ragged: Ragged | None = None,
    threshold_add: float | None = None,
    monotonicity: bool = False,
    max_length: int | None = None,
) -> float:
    """Find the threshold under which BLT's rule makes chunks of a wanted mean length.

    The number of chunks never rises with the threshold and changes only at entropies (or rises of entropy) that
    occur, so that a bisection over these finds the best there is. Chunks begin above the threshold, and the
    threshold is itself a float32 that occurs, or the one below the lowest: nothing depends on rounding. Where many
    entropies are equal, or `threshold_add` or `max_length` bind, the wanted length may lie out of reach; the
    threshold with the nearest mean length is returned.

    Args:
        entropies: (T,) packed with `ragged`, or (B, L), in nats.
        mean_chunk_length: tokens a chunk, at least 1.
        ragged: the layout of packed entropies.
        threshold_add, monotonicity, max_length: the rest of the rule, see `EntropyChunker`.

    Returns:
        The threshold, in nats; with `monotonicity` a rise in nats.

    Raises:
        InputError: the length is below 1, or the entropies are not finite or have another shape.
    """
    if not mean_chunk_length >= 1:
        raise InputError(f"mean_chunk_length: {mean_chunk_length} must be at least 1")
    if ragged is None and entropies.ndim == 2:
        ragged, entropies = Ragged.uniform(*entropies.shape, entropies.device), entropies.flatten()
    if ragged is None or entropies.shape != (ragged.total,) or not ragged.total:
        raise InputError("entropies must be (batch, length), or (rows,) together with their layout")
    entropies = entropies.float()
    if not entropies.isfinite().all():
        raise InputError("entropies must be finite numbers")
    thresholds = _candidates(entropies, monotonicity)

    def error(index: int) -> float:
        """By how much the mean length is too long (positive) or too short."""
        rule = (thresholds[index].item(), threshold_add, monotonicity, max_length)
        return ragged.total / int(entropy_starts(entropies, ragged, *rule).sum()) - mean_chunk_length

    low, high = 0, len(thresholds) - 1  # the answer of the bisection: the lowest that is not too short
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if error(middle) >= 0 else (middle + 1, high)
    best = min((index for index in (low - 1, low) if index >= 0), key=lambda index: abs(error(index)))
    return thresholds[best].item()


def _candidates(entropies: Tensor, monotonicity: bool) -> Tensor:
    """All values at which the number of chunks can change, rising, with one below them all in front."""
    values = entropies - entropies.roll(1) if monotonicity else entropies
    values = values.unique()
    lowest = torch.nextafter(values[:1], values.new_full((1,), -math.inf))
    return torch.cat([lowest, values])

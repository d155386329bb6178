"""Intervals over what was measured on, and over seeds.

A bootstrap sample of a measure draws the seeds with replacement and takes the mean over those of what the measure
is in one sample of the blocks (or sites, or sequences), the same blocks for all of them. Samples are the same for
every arm, so that the difference of two arms is taken within each sample: what makes a stretch of sequence hard for
all arms, or an order of windows good for all, does not widen its interval. With three seeds the drawing of seeds is
coarse, and an interval says little of seeds that nobody drew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SEED_OF_SEEDS = 0
CONFIDENCE = 0.95


@dataclass
class Estimate:
    """A measure of an arm.

    Attributes:
        value: the mean over the seeds.
        drawn: (B,) what it is in each bootstrap sample, NaN where it is undefined.
        by_seed: the value of each seed, in their order.
    """

    value: float
    drawn: np.ndarray
    by_seed: list[float]

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The percentile interval; NaN where nothing is defined."""
        known = self.drawn[~np.isnan(self.drawn)]
        if not len(known):
            return np.nan, np.nan
        tail = (1 - confidence) / 2
        low, high = np.quantile(known, [tail, 1 - tail])
        return float(low), float(high)

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference of two arms with the same seeds, sample by sample."""
        pairs = zip(self.by_seed, other.by_seed, strict=True)
        return Estimate(self.value - other.value, self.drawn - other.drawn, [one - two for one, two in pairs])


def over_seeds(measured: Sequence[dict[str, Any]]) -> Estimate | None:
    """The measure of an arm over its runs.

    Args:
        measured: of each seed, in the same order for every arm, `value` and `drawn` of
            `genotok.comparison.measures.Measured`.

    Returns:
        None where a seed has no value.
    """
    values = [one["value"] for one in measured]
    if None in values:
        return None
    drawn = np.array([one["drawn"] for one in measured], np.float64)
    seeds, draws = drawn.shape
    chosen = np.random.default_rng(SEED_OF_SEEDS).integers(0, seeds, (seeds, draws))
    return Estimate(float(np.mean(values)), drawn[chosen, np.arange(draws)].mean(0), values)


def widened(comparisons: int) -> float:
    """Bonferroni's confidence, with which all of several intervals together are wrong in 5 of 100 cases at most."""
    return 1 - (1 - CONFIDENCE) / comparisons


def differs(difference: Estimate, comparisons: int = 1) -> int:
    """The sign of a difference whose interval leaves out 0, else 0.

    Args:
        difference: of two arms.
        comparisons: that are made at once, for which the interval is `widened`.
    """
    low, high = difference.interval(widened(comparisons))
    if np.isnan(low):
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0

"""Do chunks begin where something begins? Boundaries against annotation, with rotated boundaries as the control.

A rotation of all boundaries along a contig keeps how many there are and how far they lie apart, and takes away only
where they lie. The overlap of a kind of places with every rotation at once is a circular correlation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

LONGEST_BLOCK = 1 << 22  # bases; a longer contig is rotated in blocks
LEAST_SHIFT = 64  # bases; a smaller rotation leaves boundaries near where they were
ROTATIONS = 1000


@dataclass(frozen=True)
class Enrichment:
    """One kind of places and one stage.

    Attributes:
        stage: of the chunks, 0 the outermost.
        kind: of places.
        bases: how many bases are of the kind.
        boundaries: at how many of them a chunk begins.
        rate: share of the kind's bases at which a chunk begins.
        elsewhere: share of all other bases.
        odds_ratio: odds of a boundary there over the odds elsewhere, with 1/2 added to each count (Haldane); NaN
            where there is no boundary at all.
        fold: boundaries over the mean of the rotations; None where that is 0.
        fold_low, fold_high: the 95 % range of the rotations over their mean: what chance alone gives.
        z: boundaries less the mean of the rotations, in their standard deviations; None where they do not vary.
        p: two-sided, from the rotations; at least 2 / (rotations + 1).
    """

    stage: int
    kind: str
    bases: int
    boundaries: int
    rate: float
    elsewhere: float
    odds_ratio: float
    fold: float | None
    fold_low: float | None
    fold_high: float | None
    z: float | None
    p: float


@dataclass
class BoundaryEnrichment:
    """Gathers the overlap of boundaries and places, contig by contig.

    Args:
        rotations: how many random rotations are the control.
        seed: of the rotations.
    """

    rotations: int = ROTATIONS
    seed: int = 1
    _bases: dict[str, int] = field(default_factory=dict)
    _observed: dict[tuple[int, str], int] = field(default_factory=dict)
    _rotated: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    _totals: dict[int, tuple[int, int]] = field(default_factory=dict)
    _blocks: int = 0

    def add(self, begins: Iterable[np.ndarray], masks: Mapping[str, np.ndarray]) -> None:
        """Count one contig.

        Args:
            begins: of each stage (L,) bool, at which bases a chunk begins.
            masks: of each kind (L,) bool.
        """
        begins = list(begins)
        length = len(begins[0]) if begins else 0
        for start in range(0, length, LONGEST_BLOCK):
            places = slice(start, min(start + LONGEST_BLOCK, length))
            block = {kind: mask[places] for kind, mask in masks.items()}
            self._add_block([stage[places] for stage in begins], block)

    def _add_block(self, begins: list[np.ndarray], masks: Mapping[str, np.ndarray]) -> None:
        length = len(begins[0])
        shifts = self._shifts(length)
        spectra = [np.fft.rfft(stage.astype(np.float64)) for stage in begins]
        for stage, boundaries in enumerate(begins):
            bases, count = self._totals.get(stage, (0, 0))
            self._totals[stage] = bases + length, count + int(boundaries.sum())
        for kind, mask in masks.items():
            self._bases[kind] = self._bases.get(kind, 0) + int(mask.sum())
            spectrum = np.fft.rfft(mask.astype(np.float64)).conj()
            for stage, boundaries in enumerate(begins):
                overlap = np.rint(np.fft.irfft(spectra[stage] * spectrum, length))[shifts]
                key = stage, kind
                self._observed[key] = self._observed.get(key, 0) + int((boundaries & mask).sum())
                self._rotated[key] = self._rotated.get(key, 0) + overlap

    def _shifts(self, length: int) -> np.ndarray:
        """(rotations,) how far each rotation moves this block; the same for all kinds and stages."""
        self._blocks += 1
        random = np.random.default_rng([self.seed, self._blocks])
        least = min(LEAST_SHIFT, length // 4)
        return random.integers(least, max(length - least, least + 1), self.rotations) % length

    def table(self) -> list[Enrichment]:
        """All kinds of each stage, in the order in which they came."""
        return [self._row(stage, kind) for stage in self._totals for kind in self._bases]

    def _row(self, stage: int, kind: str) -> Enrichment:
        bases, observed, rotated = self._bases[kind], self._observed[stage, kind], self._rotated[stage, kind]
        all_bases, all_boundaries = self._totals[stage]
        others, other_boundaries = all_bases - bases, all_boundaries - observed
        odds = (observed + 0.5) * (others - other_boundaries + 0.5)
        odds /= (bases - observed + 0.5) * (other_boundaries + 0.5)
        mean, spread = float(rotated.mean()), float(rotated.std())
        low, high = np.quantile(rotated, [0.025, 0.975])
        tails = min(int((rotated >= observed).sum()), int((rotated <= observed).sum()))
        return Enrichment(
            stage,
            kind,
            bases,
            observed,
            observed / bases,
            other_boundaries / others if others else float("nan"),
            odds if all_boundaries else float("nan"),
            observed / mean if mean else None,
            float(low) / mean if mean else None,
            float(high) / mean if mean else None,
            (observed - mean) / spread if spread else None,
            min(1.0, 2 * (1 + tails) / (1 + self.rotations)),
        )

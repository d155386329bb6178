"""Seqlets: short stretches whose bases contribute more than bases that stand in any order would.

The name and the idea are of TF-MoDISco (Shrikumar et al. 2018, arXiv:1811.00416). Here windows of all lengths between
two bounds are compared with the same windows in shuffled contributions, or in those of control sequences, and the
threshold is set by the share of false ones that the control promises (Benjamini and Hochberg's rate, estimated from
decoys as mass spectrometry does).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

from genotok.interpret.contributions import Contributions

_NEVER = -1e30  # stands for a window that holds an unknown letter, or ends behind the stretch


@dataclass(frozen=True)
class Seqlet:
    """A stretch that stands out.

    Attributes:
        region: index of the stretch that it lies on.
        start, end: 0-based and half-open, within the stretch.
        sign: +1 where its bases raise the output, -1 where they lower it.
        strength: sum of the contributions over the median, times the sign, over the square root of the length.
        contribution: sum of the contributions of its bases.
        q_value: the share of false ones among all seqlets of this strength and more, as estimated.
    """

    region: int
    start: int
    end: int
    sign: int
    strength: float
    contribution: float
    q_value: float


@dataclass(frozen=True)
class SeqletSettings:
    """How seqlets are found.

    Attributes:
        min_length, max_length: of a seqlet, in bases.
        false_share: highest share of false seqlets that is taken, estimated from the control.
        shuffles: copies of the contributions, in drawn order within each stretch, that are the control where
            there is no other.
        most: the strongest so many seqlets are kept, in both signs together.
        seed: of the shuffles.
    """

    min_length: int = 5
    max_length: int = 20
    false_share: float = 0.05
    shuffles: int = 20
    most: int = 2000
    seed: int = 0


def find_seqlets(
    regions: Sequence[Contributions],
    settings: SeqletSettings | None = None,
    control: Sequence[Contributions] = (),
) -> list[Seqlet]:
    """Find the seqlets of some stretches.

    Args:
        regions: the stretches; where two of them overlap on a contig, the stronger seqlet of two counts.
        settings: see there.
        control: contributions, by the same method, of sequences that hold no motif, as shuffled ones. Without them
            the values themselves are shuffled, which tells single high bases from neighbours that are high
            together, whatever their letters.

    Returns:
        The seqlets, none overlapping another of its sign, by stretch and start.
    """
    settings = settings or SeqletSettings()
    values = [region.per_base for region in regions]
    known = np.concatenate([value[~np.isnan(value)] for value in values]) if values else np.zeros(0)
    if not known.size or np.ptp(known) == 0:
        return []
    middle = float(np.median(known))
    controls = [region.per_base for region in control]
    found = [seqlet for sign in (1, -1) for seqlet in _of_sign(values, controls, sign, middle, settings)]
    found.sort(key=lambda seqlet: (-seqlet.strength, seqlet.region, seqlet.start, seqlet.sign))
    kept = _without_overlap(found, regions)[: settings.most]
    return sorted(kept, key=lambda seqlet: (seqlet.region, seqlet.start, -seqlet.sign))


def _of_sign(
    values: list[np.ndarray],
    controls: list[np.ndarray],
    sign: int,
    middle: float,
    settings: SeqletSettings,
) -> Iterator[Seqlet]:
    """All peaks of one sign whose estimated share of false ones is low enough; they may overlap."""
    peaks = [_peaks(sign * (value - middle), settings) for value in values]
    strength = np.concatenate([found[2] for found in peaks])
    if controls:
        copies = sum(map(len, controls)) / sum(map(len, values))
        null = np.concatenate([_peaks(sign * (value - middle), settings)[2] for value in controls])
    else:
        copies = float(settings.shuffles)
        null = np.concatenate([_peaks(sign * (v - middle), settings)[2] for v in _shuffled(values, settings)])
    q_values = np.split(_false_shares(strength, null, copies), np.cumsum([len(p[0]) for p in peaks])[:-1])
    for region, ((starts, lengths, strengths), shares) in enumerate(zip(peaks, q_values, strict=True)):
        for place in np.flatnonzero(shares <= settings.false_share):
            start, end = int(starts[place]), int(starts[place] + lengths[place])
            total = float(values[region][start:end].sum())
            yield Seqlet(region, start, end, sign, float(strengths[place]), total, float(shares[place]))


def _shuffled(values: list[np.ndarray], settings: SeqletSettings) -> Iterator[np.ndarray]:
    """Each stretch so many times with its known bases in drawn order."""
    draw = np.random.default_rng(settings.seed)
    for _ in range(settings.shuffles):
        for value in values:
            copy, known = value.copy(), ~np.isnan(value)
            copy[known] = draw.permutation(value[known])
            yield copy


def _peaks(values: np.ndarray, settings: SeqletSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows that are the best of those that begin close by.

    Args:
        values: (L,) contributions over the median; NaN where the letter is unknown.

    Returns:
        start, length and strength of each, with a strength above zero.
    """
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    unknown = np.concatenate([[0], np.cumsum(np.isnan(values))])
    best, length = np.full(len(values), _NEVER), np.zeros(len(values), dtype=np.int64)
    for width in range(settings.min_length, min(settings.max_length, len(values)) + 1):
        strength = (sums[width:] - sums[:-width]) / np.sqrt(width)
        strength[unknown[width:] > unknown[:-width]] = _NEVER
        better = np.flatnonzero(strength > best[: len(strength)])
        best[better], length[better] = strength[better], width
    padded = np.concatenate([[_NEVER], best, [_NEVER]])
    starts = find_peaks(padded, height=1e-30, distance=settings.min_length)[0] - 1
    return starts, length[starts], best[starts]


def _false_shares(strength: np.ndarray, null: np.ndarray, copies: float) -> np.ndarray:
    """Of each peak, how many peaks of the control are as strong, per peak of the data that is.

    One is added to the count of the control, so that a strength which the control did not reach by chance is not
    taken for free of error.

    Args:
        strength: (N,) of the data.
        null: of the control.
        copies: how many times as many bases the control has.
    """
    order = np.argsort(-strength, kind="stable")
    falsely = len(null) - np.searchsorted(np.sort(null), strength[order], side="left")
    shares = (falsely + 1) / copies / np.arange(1, len(order) + 1)
    result = np.empty(len(order))
    result[order] = np.minimum.accumulate(shares[::-1])[::-1]
    return np.minimum(result, 1.0)


def _without_overlap(found: list[Seqlet], regions: Sequence[Contributions]) -> list[Seqlet]:
    """The first of those that overlap on a contig with the same sign."""
    taken: dict[tuple[str, int], set[int]] = {}
    kept = []
    for seqlet in found:
        region = regions[seqlet.region]
        bases = set(range(region.start + seqlet.start, region.start + seqlet.end))
        before = taken.setdefault((region.contig, seqlet.sign), set())
        if before.isdisjoint(bases):
            before |= bases
            kept.append(seqlet)
    return kept

"""Seqlets: short stretches whose bases contribute more than bases that stand in any order would.

The name and the idea are of TF-MoDISco (Shrikumar et al. 2018, arXiv:1811.00416). Here windows of all lengths between
two bounds are compared with the same windows in shuffled contributions, or in those of control sequences, and the
threshold is set by the share of false ones that the control promises (Benjamini and Hochberg's rate, estimated from
decoys as mass spectrometry does).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import find_peaks

from genotok.interpret.contributions import Contributions

_CAPPED_SHARES = (1.0, 0.99, 0.95)  # of the bases that are below the cap
_NEVER = -1e30  # stands for a window that holds an unknown letter, or ends behind the stretch


@dataclass(frozen=True)
class Seqlet:
    """A stretch that stands out.

    Attributes:
        region: index of the stretch that it lies on.
        start, end: 0-based and half-open, within the stretch.
        sign: +1 where its bases raise the output, -1 where they lower it.
        strength: sum of the contributions over the median, up to a cap, times the sign, over the square root of the
            length.
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
    row = _Row.of(regions, settings.max_length)
    known = row.values[row.known]
    if not known.size or np.ptp(known) == 0:
        return []
    middle = np.median(known)
    raised, control_row = row.minus(middle), _Row.of(control, settings.max_length).minus(middle)
    found = [seqlet for sign in (1, -1) for seqlet in _of_sign(raised, control_row, sign, settings)]
    found.sort(key=lambda seqlet: (-seqlet.strength, seqlet.region, seqlet.start, seqlet.sign))
    kept = sorted(
        _without_overlap(found, regions)[: settings.most],
        key=lambda seqlet: (seqlet.region, seqlet.start, -seqlet.sign),
    )
    return [replace(s, contribution=row.sum_of(s)) for s in kept]


@dataclass(frozen=True, eq=False)
class _Row:
    """The stretches one behind the other, with gaps of NaN so wide that no window reaches from one to the next.

    Attributes:
        values: (T,) contributions; NaN in gaps and where the letter is unknown.
        known: indices of those that are not NaN.
        stretch: of each known one, the index of its stretch.
        starts: index of each stretch's first base.
    """

    values: np.ndarray
    known: np.ndarray
    stretch: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, regions: Sequence[Contributions], gap: int) -> "_Row":
        lengths = np.array([len(region.one_hot) for region in regions], dtype=np.int64)
        starts = np.cumsum(lengths + gap) - lengths
        values = np.full(int((lengths + gap).sum()) + gap, np.nan)
        for region, start in zip(regions, starts, strict=True):
            values[start : start + len(region.one_hot)] = region.per_base
        known = np.flatnonzero(~np.isnan(values))
        return cls(values, known, np.searchsorted(starts, known, side="right") - 1, starts)

    def minus(self, middle: float) -> "_Row":
        return replace(self, values=self.values - middle)

    def sum_of(self, seqlet: Seqlet) -> float:
        start = self.starts[seqlet.region]
        return float(self.values[start + seqlet.start : start + seqlet.end].sum())


def _of_sign(row: _Row, control: _Row, sign: int, settings: SeqletSettings) -> list[Seqlet]:
    """All peaks of one sign whose estimated share of false ones is low enough; they may overlap.

    A few bases may contribute so much that a window with one of them beats a motif. So contributions count up to a
    cap only, and of some caps the one counts that gives most peaks.

    Args:
        row: contributions over the median.
        control: likewise.
    """
    sizes = np.abs(row.values[row.known])
    caps = {float(np.quantile(sizes, share)) for share in _CAPPED_SHARES}
    tries = [_of_cap(row, control, sign, cap, settings) for cap in sorted(caps, reverse=True) if cap > 0]
    return max(tries, key=len)


def _of_cap(row: _Row, control: _Row, sign: int, cap: float, settings: SeqletSettings) -> list[Seqlet]:
    """As `_of_sign`, with contributions up to a cap."""
    capped = replace(row, values=np.clip(sign * row.values, -cap, cap))
    places, lengths, strengths = _peaks(capped.values, settings)
    if len(control.known):
        copies, others = len(control.known) / len(row.known), [np.clip(sign * control.values, -cap, cap)]
    else:
        copies, others = float(settings.shuffles), _shuffled(capped, settings)
    null = np.concatenate([_peaks(values, settings)[2] for values in others])
    shares = _false_shares(strengths, null, copies)
    stretches = np.searchsorted(row.starts, places, side="right") - 1
    found = []
    for peak in np.flatnonzero(shares <= settings.false_share):
        region = int(stretches[peak])
        start = int(places[peak] - row.starts[region])
        end = start + int(lengths[peak])
        found.append(Seqlet(region, start, end, sign, float(strengths[peak]), 0.0, float(shares[peak])))
    return found


def _shuffled(row: _Row, settings: SeqletSettings) -> Iterator[np.ndarray]:
    """The row so many times with the known bases of each stretch in drawn order."""
    draw = np.random.default_rng(settings.seed)
    for _ in range(settings.shuffles):
        values = row.values.copy()
        values[row.known] = row.values[row.known][np.argsort(row.stretch + draw.random(len(row.known)))]
        yield values


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

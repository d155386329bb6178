"""Motifs: seqlets that show the same letters, on either strand, laid over each other.

Seqlets are compared by the cosine of their contributions at the best of all offsets on both strands, joined by
average linkage, and then, as in k-means, given in turn to the profile that they fit best while the profiles are
made anew; profiles that have become alike are joined.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from genotok.interpret.contributions import Contributions
from genotok.interpret.seqlets import Seqlet

_MARGIN = 3  # bases on both sides of a seqlet that are compared as well
_LEAST_OVERLAP = 5  # bases of two windows that lie over each other
_ROUNDS = 4
_PSEUDOCOUNT = 0.5  # spread over the four letters by the background
# Cavener 1987 (doi:10.1093/nar/15.4.1353): a letter at half the sites and twice the next, else two at three fourths.
_PAIRS = {"AG": "R", "CT": "Y", "CG": "S", "AT": "W", "GT": "K", "AC": "M"}


# index in the pile, where the profile begins in the stretch, whether on the reverse strand
Member = tuple[int, int, bool]


@dataclass(frozen=True)
class MotifSettings:
    """How seqlets become motifs.

    Attributes:
        min_seqlets: a motif of fewer is dropped.
        likeness: least cosine between a seqlet and the profile of its motif.
        same: profiles this much alike are one motif.
        min_information: least bits of a motif, less what so few sites have by chance (Schneider et al. 1986,
            doi:10.1016/0022-2836(86)90165-8).
        trim: columns at both ends whose mean contribution is below this share of the highest are cut off.
    """

    min_seqlets: int = 10
    likeness: float = 0.6
    same: float = 0.75
    min_information: float = 4.0
    trim: float = 0.2


@dataclass(frozen=True)
class Site:
    """Where a motif lies.

    Attributes:
        seqlet: index of the seqlet.
        start: of the motif's first column within the stretch, 0-based; on the reverse strand of its last.
        strand: `+` or `-`.
    """

    seqlet: int
    start: int
    strand: str


@dataclass(frozen=True, eq=False)
class Motif:
    """A motif.

    Attributes:
        name: `motif_1` and so on, by falling number of sites.
        sign: +1 where its sites raise the output, -1 where they lower it.
        counts: (W, 4) letters at its sites.
        probabilities: (W, 4) of the letters, with pseudocounts.
        contributions: (W, 4) mean contribution of each letter over the sites.
        information: (W,) bits of each column against the background.
        sites: by stretch and start.
    """

    name: str
    sign: int
    counts: np.ndarray
    probabilities: np.ndarray
    contributions: np.ndarray
    information: np.ndarray
    sites: tuple[Site, ...]

    @property
    def consensus(self) -> str:
        """The letters, or of two letters their IUPAC symbol, or N."""
        return "".join(_symbol(column) for column in self.probabilities)


def background_of(regions: Sequence[Contributions]) -> np.ndarray:
    """(4,) shares of A, C, G and T in the stretches, both strands together."""
    counts = 1.0 + sum((region.one_hot.sum(0, dtype=np.float64) for region in regions), np.zeros(4))
    both = counts + counts[::-1]
    return both / both.sum()


def cluster_seqlets(
    regions: Sequence[Contributions], seqlets: Sequence[Seqlet], settings: MotifSettings | None = None
) -> list[Motif]:
    """Make motifs of seqlets; those of each sign among themselves.

    Args:
        regions: the stretches.
        seqlets: found on them.
        settings: see there.

    Returns:
        Motifs by falling number of sites. A seqlet belongs to one motif at most.
    """
    settings = settings or MotifSettings()
    background = background_of(regions)
    found: list[Motif] = []
    for sign in (1, -1):
        mine = [index for index, seqlet in enumerate(seqlets) if seqlet.sign == sign]
        if len(mine) >= max(settings.min_seqlets, 2):
            pile = _Pile(regions, seqlets, mine)
            found += [
                _finished(pile, sign, group, background, settings) for group in _grouped(pile, settings)
            ]
    found = [motif for motif in found if _bits_over_chance(motif) >= settings.min_information]
    found.sort(key=lambda motif: (-len(motif.sites), -motif.sign, motif.consensus, motif.sites[0].seqlet))
    return [replace(motif, name=f"motif_{number}") for number, motif in enumerate(found, 1)]


class _Pile:
    """Windows of one width around the seqlets of one sign."""

    def __init__(
        self, regions: Sequence[Contributions], seqlets: Sequence[Seqlet], indices: list[int]
    ) -> None:
        chosen = [seqlets[index] for index in indices]
        self.regions, self.indices = regions, indices
        self.observed = {
            number: sign * regions[number].observed for number, sign in {(s.region, s.sign) for s in chosen}
        }
        self.width = max(s.end - s.start for s in chosen) + 2 * _MARGIN
        self.region = [seqlet.region for seqlet in chosen]
        self.start = [(seqlet.start + seqlet.end - self.width) // 2 for seqlet in chosen]
        windows = []
        for seqlet, start in zip(chosen, self.start, strict=True):
            window = _cut(self.observed[seqlet.region], start, self.width)
            window[: max(seqlet.start - _MARGIN - start, 0)] = 0
            window[seqlet.end + _MARGIN - start :] = 0
            windows.append(window)
        self.windows = _of_length_one(np.stack(windows).astype(np.float32))

    def profile(self, group: list[Member]) -> np.ndarray:
        """(width, 4) mean contribution of some members."""
        return np.mean([self._turned(self.observed[self.region[m]], p, r) for m, p, r in group], axis=0)

    def counts(self, group: list[Member]) -> np.ndarray:
        """(width, 4) letters of some members."""
        letters = [self._turned(self.regions[self.region[m]].one_hot, p, r) for m, p, r in group]
        return np.sum(letters, axis=0).round().astype(np.int64)

    def _turned(self, array: np.ndarray, place: int, reverse: bool) -> np.ndarray:
        window = _cut(array, place, self.width)
        return window[::-1, ::-1] if reverse else window


def _cut(array: np.ndarray, start: int, width: int) -> np.ndarray:
    """(width, 4) from a place that may lie beyond the ends, where there are zeros."""
    window = np.zeros((width, 4), dtype=np.float64)
    low, high = max(start, 0), min(start + width, len(array))
    if low < high:
        window[low - start : high - start] = array[low:high]
    return window


def _of_length_one(windows: np.ndarray) -> np.ndarray:
    """(N, W, 4) each divided by its root of summed squares."""
    return windows / np.maximum(np.sqrt((windows**2).sum((1, 2), keepdims=True)), 1e-12)


def _likeness(windows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines of windows and others at the best offset and strand.

    Args:
        windows: (N, W, 4) of length one.
        others: (M, W, 4) of length one.

    Returns:
        (N, M) the cosine; the offset d, so that column u of the window lies over column u + d of the other; and
        whether the window was turned to the other strand first.
    """
    width = windows.shape[1]
    best = np.full((len(windows), len(others)), -2.0, dtype=np.float32)
    offset, turned = np.zeros(best.shape, dtype=np.int16), np.zeros(best.shape, dtype=bool)
    for reverse in (False, True):
        mine = windows[:, ::-1, ::-1] if reverse else windows
        for d in sorted(range(_LEAST_OVERLAP - width, width - _LEAST_OVERLAP + 1), key=abs):
            left = mine[:, max(-d, 0) : width - max(d, 0)].reshape(len(windows), -1)
            right = others[:, max(d, 0) : width - max(-d, 0)].reshape(len(others), -1)
            cosine = left @ right.T
            better = cosine > best + 1e-6
            best[better], offset[better], turned[better] = cosine[better], d, reverse
    return best, offset, turned


def _grouped(pile: _Pile, settings: MotifSettings) -> list[list[Member]]:
    """Members, motif by motif."""
    cosine, _, _ = _likeness(pile.windows, pile.windows)
    distance = np.clip(1 - (cosine + cosine.T) / 2, 0, None).astype(np.float64)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    labels = fcluster(tree, 1 - settings.likeness, "distance")
    least = max(settings.min_seqlets // 2, 2)
    profiles = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) >= least:
            middle = members[np.argmax(cosine[np.ix_(members, members)].sum(0))]
            profiles.append(_centred(pile.windows[middle].astype(np.float64)))
    groups: list[list[Member]] = []
    for _ in range(_ROUNDS):
        groups = [group for group in _assigned(pile, profiles, settings) if len(group) >= least]
        profiles = _apart([_centred(pile.profile(group)) for group in groups], groups, settings)
    groups = _assigned(pile, profiles, settings)
    return [group for group in groups if len(group) >= settings.min_seqlets]


def _assigned(pile: _Pile, profiles: list[np.ndarray], settings: MotifSettings) -> list[list[Member]]:
    """Each member at the profile that it fits best, if it fits any; of two at one place the first."""
    if not profiles:
        return []
    cosine, offset, turned = _likeness(pile.windows, _of_length_one(np.stack(profiles)).astype(np.float32))
    groups: list[list[Member]] = [[] for _ in profiles]
    seen: set[tuple[int, int, int]] = set()
    for member, best in enumerate(cosine.argmax(1).tolist()):
        if cosine[member, best] < settings.likeness:
            continue
        reverse, shift = bool(turned[member, best]), int(offset[member, best])
        place = pile.start[member] + (shift if reverse else -shift)
        nearby = {(best, pile.region[member], place + step) for step in range(-2, 3)}
        if seen.isdisjoint(nearby):
            seen.add((best, pile.region[member], place))
            groups[best].append((member, place, reverse))
    return groups


def _centred(profile: np.ndarray) -> np.ndarray:
    """A profile moved so that the middle of its contributions is its middle."""
    weight = np.abs(profile).sum(1)
    shift = round((len(profile) - 1) / 2 - float(weight @ np.arange(len(profile)) / max(weight.sum(), 1e-12)))
    return _cut(profile, -shift, len(profile))


def _apart(
    profiles: list[np.ndarray], groups: list[list[Member]], settings: MotifSettings
) -> list[np.ndarray]:
    """Profiles without those that are like one of more members."""
    kept: list[np.ndarray] = []
    for place in sorted(range(len(profiles)), key=lambda place: (-len(groups[place]), place)):
        candidate = _of_length_one(profiles[place][None])
        if not kept or _likeness(candidate, _of_length_one(np.stack(kept)))[0].max() < settings.same:
            kept.append(profiles[place])
    return kept


def _finished(
    pile: _Pile,
    sign: int,
    group: list[Member],
    background: np.ndarray,
    settings: MotifSettings,
) -> Motif:
    """A motif of the members, cut to the columns that contribute, on the strand that most of them have."""
    if 2 * sum(reverse for _, _, reverse in group) > len(group):
        group = [(member, place, not reverse) for member, place, reverse in group]
    profile = pile.profile(group)
    first, last = _columns(profile.sum(1), settings)
    counts = pile.counts(group)[first:last]
    sites = sorted(
        (pile.region[member], place + (pile.width - last if reverse else first), member, reverse)
        for member, place, reverse in group
    )
    probabilities = counts + 4 * _PSEUDOCOUNT * background
    probabilities /= probabilities.sum(1, keepdims=True)
    return Motif(
        "",
        sign,
        counts,
        probabilities,
        sign * profile[first:last],
        (probabilities * np.log2(probabilities / background)).sum(1),
        tuple(
            Site(pile.indices[member], start, "-" if reverse else "+") for _, start, member, reverse in sites
        ),
    )


def _bits_over_chance(motif: Motif) -> float:
    return float(motif.information.sum() - len(motif.counts) * 3 / (2 * np.log(2) * len(motif.sites)))


def _columns(weight: np.ndarray, settings: MotifSettings) -> tuple[int, int]:
    """First column and the one behind the last that contribute."""
    if weight.max() <= 0:
        return 0, 0
    high = np.flatnonzero(weight >= settings.trim * weight.max())
    return int(high[0]), int(high[-1]) + 1


def _symbol(column: np.ndarray) -> str:
    order = np.argsort(-column, kind="stable")
    if column[order[0]] >= 0.5 and column[order[0]] >= 2 * column[order[1]]:
        return "ACGT"[order[0]]
    if column[order[:2]].sum() >= 0.75:
        return _PAIRS["".join(sorted("ACGT"[place] for place in order[:2]))]
    return "N"

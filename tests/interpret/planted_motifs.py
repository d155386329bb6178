"""Contributions with motifs planted in noise, on both strands."""

from dataclasses import dataclass

import numpy as np

from genotok.interpret.contributions import Contributions


@dataclass(frozen=True)
class Planted:
    """Where a motif was put: (stretch, start, end), which of the motifs, and whether on the reverse strand."""

    region: int
    start: int
    end: int
    motif: int
    reverse: bool


def motif_of(word, share=0.85):
    """(W, 4) probabilities in which each letter of a word has a share, and the others the rest."""
    return np.array([[share if letter == base else (1 - share) / 3 for base in "ACGT"] for letter in word])


def one_hot(codes):
    return np.eye(4, dtype=np.uint8)[codes]


def planted(motifs, *, stretches=40, length=300, each=2, noise=0.05, height=0.3, seed=0):
    """Stretches with sites drawn from the motifs; a site's letters contribute by their log-odds.

    Returns:
        The stretches, and where the sites are.
    """
    draw, regions, places = np.random.default_rng(seed), [], []
    for number in range(stretches):
        codes, values = draw.integers(0, 4, length), draw.normal(0, noise, length)
        for start in draw.permutation(np.arange(15, length - 40, 30))[:each] if motifs else ():
            which, reverse = int(draw.integers(len(motifs))), bool(draw.random() < 0.5)
            shares = motifs[which]
            site = np.array([draw.choice(4, p=column) for column in shares])
            odds = np.log(4 * shares[np.arange(len(site)), site]) / np.log(4 * shares.max())
            if reverse:
                site, odds = 3 - site[::-1], odds[::-1]
            end = int(start) + len(site)
            codes[start:end] = site
            values[start:end] += height * odds
            places.append(Planted(number, int(start), end, which, reverse))
        letters = one_hot(codes)
        regions.append(Contributions(f"c{number}", 1000 * number, letters, letters * values[:, None]))
    return regions, places


def smooth_noise(seed, *, stretches=40, length=300, memory=0.8):
    """Stretches whose contributions are alike from base to base and have nothing to do with the letters."""
    draw, regions = np.random.default_rng(seed), []
    for number in range(stretches):
        values = draw.normal(0, 0.1, length)
        for place in range(1, length):
            values[place] += memory * values[place - 1]
        letters = one_hot(draw.integers(0, 4, length))
        regions.append(Contributions(f"c{number}", 0, letters, letters * values[:, None]))
    return regions


def turned(regions):
    """The other strand of each stretch."""
    return [
        Contributions(r.contig, r.start, r.one_hot[::-1, ::-1], r.contributions[::-1, ::-1]) for r in regions
    ]


def turned_word(word):
    return word[::-1].translate(str.maketrans("ACGT", "TGCA"))

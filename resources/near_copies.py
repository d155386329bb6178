"""Leaving out sequences that are copies of each other, by the k-mers that they share."""

from collections.abc import Sequence

import numpy as np

K = 21
CODE_OF_LETTER = np.full(256, 4, dtype=np.int64)
CODE_OF_LETTER[np.frombuffer(b"ACGT", dtype=np.uint8)] = range(4)


def kmers(sequence: str) -> np.ndarray:
    """The distinct K-mers of both strands, each as the smaller of itself and its reverse complement.

    Returns:
        int64, sorted; K-mers with a letter other than A, C, G and T are left out.
    """
    codes = CODE_OF_LETTER[np.frombuffer(sequence.upper().encode(), dtype=np.uint8)]
    count = max(len(codes) - K + 1, 0)
    forward, reverse = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    whole = np.ones(count, dtype=bool)
    for offset in range(K):
        letter = codes[offset : offset + count]
        whole &= letter < 4
        forward = forward << 2 | letter
        reverse |= (3 - letter) << (2 * offset)
    return np.unique(np.minimum(forward, reverse)[whole])


def containment(one: np.ndarray, other: np.ndarray) -> float:
    """The part of the smaller set of K-mers that stands in the larger one, 0 to 1."""
    smaller = min(len(one), len(other))
    return len(np.intersect1d(one, other, assume_unique=True)) / smaller if smaller else 0.0


def nearest_kept(sequences: Sequence[str], threshold: float) -> list[tuple[int, float] | None]:
    """Which sequences to leave out so that no two of the others are near copies.

    Sequences are taken longest first, equally long ones in their order; each is kept when no kept one
    contains more than `threshold` of its K-mers (or it of theirs).

    Returns:
        For each sequence None when it is kept, else the index of the kept sequence nearest to it and the
        containment.
    """
    sets = [kmers(sequence) for sequence in sequences]
    verdicts: list[tuple[int, float] | None] = [None] * len(sequences)
    kept: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
        near = [(containment(sets[index], sets[other]), other) for other in kept]
        share, other = max(near, key=lambda pair: pair[0], default=(0.0, -1))
        if share > threshold:
            verdicts[index] = (other, share)
        else:
            kept.append(index)
    return verdicts

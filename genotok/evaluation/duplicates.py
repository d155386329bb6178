"""Sequences that stand in a data set more than once, as they are or as the opposite strand."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genotok.genomes.alphabets import DNA, Alphabet, reverse_complement


def either_strand(sequence: str) -> bytes:
    """The same letters for a sequence and its reverse complement: the smaller of the two, U read as T."""
    letters = sequence.upper().encode().replace(b"U", b"T")
    return min(letters, reverse_complement(letters))


def duplicate_groups(
    sequences: Sequence[str], known: Sequence[str] = (), alphabet: Alphabet = DNA
) -> tuple[np.ndarray, np.ndarray]:
    """Number the sequences so that copies and, where there are any, reverse complements have one number.

    Args:
        sequences: R of them.
        known: others to look for among them.
        alphabet: of all.

    Returns:
        (R,) int64 numbers from 0 in the order of appearance, and (R,) bool, which stand among `known`.
    """
    numbers: dict[bytes | str, int] = {}
    key_of = either_strand if alphabet.has_strands else str.upper
    elsewhere = {key_of(sequence) for sequence in known}
    keys = [key_of(sequence) for sequence in sequences]
    groups = [numbers.setdefault(key, len(numbers)) for key in keys]
    return np.array(groups, np.int64), np.array([key in elsewhere for key in keys], bool)


def describe_duplicates(
    sequences: Sequence[str], groups: np.ndarray, labels: np.ndarray, alphabet: Alphabet = DNA
) -> dict[str, Any]:
    """Counts of what stands there more than once.

    Returns:
        `rows`, `different` sequences up to the strand, `copies` (rows whose letters stand in a row before),
        `reverse_complements` (further rows of which a row before holds the opposite strand alone), and
        `contradictory` (rows of sequences whose rows have different labels).
    """
    seen = {letters.upper().replace(*alphabet.same or ("", "")) for letters in sequences}
    different = int(groups.max()) + 1 if len(groups) else 0
    copies = len(sequences) - len(seen)
    flat = labels.reshape(len(labels), -1)
    first = np.zeros((different, flat.shape[1]), flat.dtype)
    first[groups[::-1]] = flat[::-1]
    torn = np.zeros(different, bool)
    torn[groups[(flat != first[groups]).any(1)]] = True
    return {
        "rows": len(sequences),
        "different": different,
        "copies": copies,
        "reverse_complements": len(sequences) - copies - different,
        "contradictory": int(torn[groups].sum()),
    }

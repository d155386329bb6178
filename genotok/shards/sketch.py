"""Sketches of windows: some of the k-mers of each, chosen by their hash and so the same ones in every window.

FracMinHash (Irber et al. 2022, doi:10.1101/2022.01.11.475838): of all canonical k-mers, those with a hash in the
lowest 1/`scale`. The share of a window's chosen k-mers that stand in something else estimates the share of all its
k-mers that do, its containment C there; letters that differ independently at a rate d leave C = (1 - d)^k.
"""

from dataclasses import dataclass

import numpy as np

LETTERS_AT_ONCE = 1 << 16  # whose packed k-mers stay in a core's own memory
LONGEST_K = 31
_MULTIPLIERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))
_HALF = np.uint64(32)


@dataclass
class Sketches:
    """Of some windows: `values` (n,) uint64, canonical k-mers; `rows` (n,) int64, the window of each."""

    values: np.ndarray
    rows: np.ndarray


def sketch_windows(letters: np.ndarray, offsets: np.ndarray, k: int, scale: int) -> Sketches:
    """Sketches of windows that lie one behind the other.

    Args:
        letters: (letters,) uint8, A C G T as 0 to 3, everything else above.
        offsets: (windows + 1,) where each begins, from 0, and the end of the last.
        k: letters a k-mer, 2 to 31. A k-mer that holds another letter, or reaches over a window's end, is none.
        scale: one of so many k-mers is chosen.
    """
    values, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    end = len(letters)
    for begin in range(0, end, LETTERS_AT_ONCE):
        part = letters[begin : begin + LETTERS_AT_ONCE + k - 1]
        if len(part) < k:
            break
        kmers = canonical_kmers(part & 3, k)
        chosen = _scattered(kmers) <= np.uint64((2**64 - 1) // scale)
        if (part > 3).any():
            chosen &= _all_certain(part, k)
        at = np.flatnonzero(chosen)
        values.append(kmers[at])
        places.append(at + begin)
    values, places = np.concatenate(values), np.concatenate(places)
    rows = np.searchsorted(offsets, places, side="right") - 1
    within = places + k <= offsets[rows + 1]
    return Sketches(values[within], rows[within])


def canonical_kmers(codes: np.ndarray, k: int) -> np.ndarray:
    """(L - k + 1,) uint64: the k-mer that begins at each of (L,) codes 0 to 3, or its opposite strand if less.

    The first letter of a k-mer is its highest digit to base four.
    """
    return np.minimum(_packed(codes, k, False), _packed(3 - codes, k, True)).astype(np.uint64, copy=False)


def _packed(codes: np.ndarray, k: int, reverse: bool) -> np.ndarray:
    """k-mers as numbers in as few bytes as hold them, each of two shorter ones; from the last letter on request."""
    if k == 1:
        return codes
    left = 1 << ((k - 1).bit_length() - 1)
    kind = np.dtype(f"u{max(1, 1 << (2 * k - 1).bit_length() >> 3)}")
    first = _packed(codes, left, reverse)
    second = first if 2 * left == k else _packed(codes, k - left, reverse)
    count = len(codes) - k + 1
    first, second = first[:count].astype(kind), second[left : left + count].astype(kind)
    higher, lower, digits = (second, first, left) if reverse else (first, second, k - left)
    higher *= kind.type(4**digits)  # several times as fast as to shift, in NumPy
    higher += lower
    return higher


def _scattered(numbers: np.ndarray) -> np.ndarray:
    """Numbers as evenly spread over all uint64 as if drawn by chance, each the same every time."""
    scattered = numbers * _MULTIPLIERS[0]
    scattered ^= scattered >> _HALF
    scattered *= _MULTIPLIERS[1]
    return scattered


def _all_certain(letters: np.ndarray, k: int) -> np.ndarray:
    """(L - k + 1,) bool: whether the k letters from each one on are certain."""
    others = np.append(0, np.cumsum(letters > 3, dtype=np.int32))
    return others[k:] == others[:-k]

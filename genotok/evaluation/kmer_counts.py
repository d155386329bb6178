"""How often each word of k letters stands in sequences: what a simple classifier can go by."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

LONGEST_WORD = 8
_CODES = np.full(256, 4, np.uint8)
for _code, _letters in enumerate((b"Aa", b"Cc", b"Gg", b"TtUu")):
    _CODES[np.frombuffer(_letters, np.uint8)] = _code


def kmer_frequencies(sequences: Sequence[str], k: int, both_strands: bool = False) -> csr_matrix:
    """The share of each word among a sequence's words of k certain nucleotides.

    Args:
        sequences: R of them; U is read as T.
        k: letters a word, from 1 to 8.
        both_strands: whether a word and its reverse complement are one.

    Returns:
        (R, W) float64, sparse, the words in the order of the alphabet; W is 4^k, or the number of classes of words
        and their reverse complements. A sequence without such a word has zeros.
    """
    column, width = _columns(k, both_strands)
    data, places, ends = [], [], [0]
    for sequence in sequences:
        words = column[_words(sequence, k)]
        found, counts = np.unique(words, return_counts=True)
        data.append(counts / max(len(words), 1))
        places.append(found)
        ends.append(ends[-1] + len(found))
    shape = (len(sequences), width)
    return csr_matrix(
        (np.concatenate([[], *data]), np.concatenate([[], *places]).astype(np.int32), ends), shape
    )


def _words(sequence: str, k: int) -> np.ndarray:
    """The numbers of a sequence's words that hold certain nucleotides alone."""
    codes = _CODES[np.frombuffer(sequence.encode(), np.uint8)]
    if len(codes) < k:
        return np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, k)
    certain = (windows < 4).all(1)
    return windows[certain].astype(np.int64) @ (4 ** np.arange(k - 1, -1, -1))


def _columns(k: int, both_strands: bool) -> tuple[np.ndarray, int]:
    """(4^k,) the column of each word, and how many columns there are."""
    words = np.arange(4**k)
    if not both_strands:
        return words, len(words)
    opposite = np.zeros_like(words)
    rest = words.copy()
    for _ in range(k):
        opposite = 4 * opposite + 3 - rest % 4
        rest //= 4
    _, column = np.unique(np.minimum(words, opposite), return_inverse=True)
    return column, int(column.max()) + 1

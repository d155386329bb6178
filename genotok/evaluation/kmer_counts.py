"""How often each word of k letters stands in sequences: what a simple classifier can go by."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from genotok.genomes.alphabets import DNA, Alphabet

LONGEST_WORD = 8
MOST_WORDS = 4**LONGEST_WORD


def longest_word(alphabet: Alphabet = DNA) -> int:
    """Letters of the longest words that are counted: 8 of nucleotides, 3 of amino acids."""
    return int(math.log(MOST_WORDS) / math.log(len(alphabet.certain)) + 1e-9)


def kmer_frequencies(
    sequences: Sequence[str], k: int, both_strands: bool = False, alphabet: Alphabet = DNA
) -> csr_matrix:
    """The share of each word among a sequence's words of k certain letters.

    Args:
        sequences: R of them; in DNA U is read as T.
        k: letters a word, from 1 to `longest_word`.
        both_strands: whether a word and its reverse complement are one.
        alphabet: of the sequences.

    Returns:
        (R, W) float64, sparse, the words in the order of the alphabet; W is N^k for N certain letters, or the
        number of classes of words and their reverse complements. A sequence without such a word has zeros.
    """
    column, width = _columns(len(alphabet.certain), k, both_strands)
    codes = _codes(alphabet)
    data, places, ends = [], [], [0]
    for sequence in sequences:
        words = column[_words(sequence, codes, k)]
        found, counts = np.unique(words, return_counts=True)
        data.append(counts / max(len(words), 1))
        places.append(found)
        ends.append(ends[-1] + len(found))
    shape = (len(sequences), width)
    return csr_matrix(
        (np.concatenate([[], *data]), np.concatenate([[], *places]).astype(np.int32), ends), shape
    )


def _codes(alphabet: Alphabet) -> np.ndarray:
    """(256,) the code of each byte; one behind the last where it is no certain letter."""
    codes = np.full(256, len(alphabet.certain), np.uint8)
    for code, letter in enumerate(alphabet.certain):
        same = alphabet.same[0] if alphabet.same and letter == alphabet.same[1] else ""
        codes[[ord(one) for one in {letter, letter.lower(), *same, *same.lower()}]] = code
    return codes


def _words(sequence: str, codes: np.ndarray, k: int) -> np.ndarray:
    """The numbers of a sequence's words that hold certain letters alone."""
    letters, codes = int(codes.max()), codes[np.frombuffer(sequence.encode(), np.uint8)]
    if len(codes) < k:
        return np.zeros(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, k)
    certain = (windows < letters).all(1)
    return windows[certain].astype(np.int64) @ (letters ** np.arange(k - 1, -1, -1))


def _columns(letters: int, k: int, both_strands: bool) -> tuple[np.ndarray, int]:
    """(letters^k,) the column of each word, and how many columns there are; both strands of four letters alone."""
    words = np.arange(letters**k)
    if not both_strands:
        return words, len(words)
    opposite = np.zeros_like(words)
    rest = words.copy()
    for _ in range(k):
        opposite = 4 * opposite + 3 - rest % 4
        rest //= 4
    _, column = np.unique(np.minimum(words, opposite), return_inverse=True)
    return column, int(column.max()) + 1

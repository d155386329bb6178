"""Shares of words against counting them one by one."""

from itertools import product

import numpy as np
import pytest

from genotok.evaluation.kmer_counts import kmer_frequencies

SEQUENCES = ["ACGTACGTTGCA", "AAAANAAAA", "UUGACC", "AC", "NNNNNN", "acgtacg"]
PAIRS = str.maketrans("ACGT", "TGCA")


def shares(sequence, words, k, key=lambda word: word):
    letters = sequence.upper().replace("U", "T")
    found = [letters[i : i + k] for i in range(len(letters) - k + 1)]
    found = [key(word) for word in found if set(word) <= set("ACGT")]
    return [found.count(word) / max(len(found), 1) for word in words]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_shares(k):
    words = ["".join(letters) for letters in product("ACGT", repeat=k)]
    expected = np.array([shares(sequence, words, k) for sequence in SEQUENCES])
    assert np.array_equal(kmer_frequencies(SEQUENCES, k).toarray(), expected)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_shares_on_both_strands(k):
    def either(word):
        return min(word, word.translate(PAIRS)[::-1])

    words = sorted({either("".join(letters)) for letters in product("ACGT", repeat=k)})
    assert len(words) == {1: 2, 2: 10, 3: 32, 4: 136}[k]
    expected = np.array([shares(sequence, words, k, either) for sequence in SEQUENCES])
    assert np.array_equal(kmer_frequencies(SEQUENCES, k, both_strands=True).toarray(), expected)


def test_no_sequences():
    assert kmer_frequencies([], 2).shape == (0, 16)

"""Which tokens stand for certain nucleotides and nothing else, whatever the tokenizer."""

from functools import cache

import numpy as np

from genotok.tokenizers.base import Tokenizer

NUCLEOTIDES = frozenset("ACGTU")


@cache
def certain_tokens(tokenizer: Tokenizer) -> np.ndarray:
    """(vocab_size,) bool: the ids that are written with A, C, G, T and U alone.

    Specials, which leave no letter, ambiguity codes and whatever else a vocabulary holds are not among them. For
    a tokenizer with one token a letter this is its `is_nucleotide`.
    """
    written = [tokenizer.decode([id_]) for id_ in range(tokenizer.vocab_size)]
    return np.array([bool(text) and NUCLEOTIDES.issuperset(text) for text in written])

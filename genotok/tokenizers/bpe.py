"""Byte-pair encoding of nucleotides (Sennrich et al., arXiv 1508.07909; DNABERT-2, arXiv 2306.15006).

The merging is that of Hugging Face's `tokenizers`, which is imported where letters are encoded or merges learned.
"""

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from genotok.errors import InputError
from genotok.tokenizers.base import LETTERS, SPECIALS, Tokenizer, as_letters

NUCLEOTIDES = "ACGT"
FIRST_MERGE = len(NUCLEOTIDES) + 1 + len(SPECIALS)
SMALLEST_VOCABULARY = 32
LONGEST_TOKEN = 64  # letters; else runs of one letter and satellites fill a vocabulary
PIECE = 256  # letters that merges are counted in at a time, since each merge reads the pieces that it is in
_UNKNOWN = "?"


def _written() -> bytes:
    """Every byte as the merges see it: A C G T, N for all other IUPAC letters, ? for the rest."""
    table = bytearray(_UNKNOWN.encode() * 256)
    for letter in LETTERS.decode():
        seen = {"U": "T"}.get(letter, letter if letter in NUCLEOTIDES else "N")
        table[ord(letter)] = table[ord(letter.lower())] = ord(seen)
    return bytes(table)


_WRITTEN = _written()


class BpeTokenizer(Tokenizer):
    """A C G T N and PAD UNK CLS SEP MASK START END as in the nucleotide tokenizer (0 to 11), then the merged tokens.

    A whole sequence is one word: there is no cutting in front. The earliest learned of all possible merges is made
    first, from the left, until none is possible. Case does not matter and U is read as T; every other IUPAC letter
    becomes N, a token of its own that is never merged, as is UNK, a byte that is no nucleotide letter. So ids depend
    on the whole stretch of certain nucleotides that they come from.

    Args:
        merges: pairs of tokens, each as `LEFT RIGHT`, in the order in which they were learned.

    Raises:
        InputError: a merge is no pair of tokens that are there before it.
    """

    name = "bpe"

    def __init__(self, merges: Iterable[str]):
        self.merges = list(merges)
        self.vocabulary = {letter: id_ for id_, letter in enumerate(NUCLEOTIDES)}
        for number, merge in enumerate(self.merges):
            pair = merge.split(" ") if isinstance(merge, str) else []
            if len(pair) != 2 or any(part not in self.vocabulary for part in pair):
                raise InputError(
                    f"tokenizer.merges: {merge!r}, number {number + 1}, should be two tokens that are there before "
                    "it, with a space between them"
                )
            joined = "".join(pair)
            self.vocabulary.setdefault(joined, FIRST_MERGE + len(self.vocabulary) - len(NUCLEOTIDES))
        self.vocab_size = FIRST_MERGE + len(self.vocabulary) - len(NUCLEOTIDES)
        specials = {special: len(NUCLEOTIDES) + 1 + i for i, special in enumerate(SPECIALS)}
        self.pad_id, self.mask_id, self.start_id = (specials[key] for key in ("PAD", "MASK", "START"))
        self.unknown_id = specials["UNK"]
        self.token_letters = [""] * self.vocab_size
        self.is_nucleotide = np.zeros(self.vocab_size, bool)
        for token, id_ in self.vocabulary.items():
            self.token_letters[id_], self.is_nucleotide[id_] = token, True
        self.token_letters[len(NUCLEOTIDES)] = "N"
        self.letter_counts = np.array([len(token) for token in self.token_letters])
        self.letter_counts[self.unknown_id] = 1
        self._dtype = np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    @property
    def description(self) -> dict[str, Any]:
        """The merges, as a JSON object."""
        return {"type": "bpe", "merges": self.merges}

    @cached_property
    def _model(self):
        from tokenizers.models import BPE

        vocabulary = self.vocabulary | {"N": len(NUCLEOTIDES), _UNKNOWN: self.unknown_id}
        pairs = [tuple(merge.split(" ")) for merge in self.merges]
        # A window comes but once, so that a cache of whole ones would only cost memory.
        return BPE(vocabulary, pairs, cache_capacity=0)

    def encode_letters(self, letters: bytes | bytearray | np.ndarray) -> np.ndarray:
        """Ids (tokens,) uint16, or uint32 where there are more, without a start token."""
        written = as_letters(letters).translate(_WRITTEN).decode("ascii")
        if not written:
            return np.empty(0, self._dtype)
        return np.array([token.id for token in self._model.tokenize(written)], self._dtype)


def train_bpe(sequences: Iterable[str | bytes], vocab_size: int) -> BpeTokenizer:
    """Learn merges: again and again the commonest pair of neighbouring tokens becomes one token.

    The same sequences give the same merges. Pairs are counted within pieces of 256 letters, tokens have at most 64
    letters, and a pair that comes once is no token.

    Args:
        sequences: letters; merges never reach over what is not A, C, G or T, nor from one sequence to the next.
        vocab_size: number of ids, the 12 of letters and special tokens included; at least 32.

    Raises:
        InputError: the vocabulary is too small, or the sequences too short to learn so many tokens from.
    """
    from tokenizers import Tokenizer as MergingTokenizer
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    if vocab_size < SMALLEST_VOCABULARY:
        raise InputError(f"vocab_size: {vocab_size} should be at least {SMALLEST_VOCABULARY}")
    letters_alone = vocab_size - FIRST_MERGE + len(NUCLEOTIDES)
    trainer = BpeTrainer(
        vocab_size=letters_alone,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=list(NUCLEOTIDES),
        max_token_length=LONGEST_TOKEN,
    )
    learner = MergingTokenizer(BPE())
    learner.train_from_iterator(_pieces(sequences), trainer)
    tokenizer = BpeTokenizer(_learned_merges(learner.to_str()))
    if tokenizer.vocab_size < vocab_size:
        raise InputError(
            f"vocab_size: the sequences hold pairs for {tokenizer.vocab_size} tokens only, not for {vocab_size}; "
            "give more sequence or ask for fewer tokens"
        )
    return tokenizer


def _pieces(sequences: Iterable[str | bytes]) -> Iterator[str]:
    for sequence in sequences:
        letters = sequence.encode() if isinstance(sequence, str) else sequence
        written = letters.translate(_WRITTEN).decode("ascii").replace(_UNKNOWN, "N")
        for run in written.split("N"):
            yield from (run[start : start + PIECE] for start in range(0, len(run), PIECE))


def _learned_merges(text: str) -> list[str]:
    return [
        merge if isinstance(merge, str) else " ".join(merge) for merge in json.loads(text)["model"]["merges"]
    ]

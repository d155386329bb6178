"""What every tokenizer offers."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from genotok.errors import InputError
from genotok.genomes.alphabets import DNA, LETTER_COMPLEMENT, Alphabet, checked_letters
from genotok.genomes.alphabets import NUCLEOTIDE_LETTERS as LETTERS

# The label of a place where nothing is to be predicted.
IGNORED_LABEL = -100
# In the vocabularies of this package they follow the letters, of which N (in proteins X) is one.
SPECIALS = ("PAD", "UNK", "CLS", "SEP", "MASK", "START", "END")


def nucleotide_table(nucleotides: str, ids: Sequence[int], ambiguous: int, unknown: int) -> np.ndarray:
    """(256,) uint8: the id of each byte where case does not matter and U and T are one letter.

    Args:
        nucleotides: A, C, G and T (or U) in some order.
        ids: their ids, in that order.
        ambiguous: the id of N and of every other IUPAC letter.
        unknown: the id of a byte that is no nucleotide letter.
    """
    table = np.full(256, unknown, np.uint8)
    table[np.frombuffer(LETTERS + LETTERS.lower(), np.uint8)] = ambiguous
    for letter, id_ in zip(nucleotides, ids, strict=True):
        written = "TU" if letter in "TU" else letter
        table[np.frombuffer((written + written.lower()).encode(), np.uint8)] = id_
    return table


def as_letters(letters: bytes | bytearray | np.ndarray) -> bytes:
    """Letters as `bytes`, whatever they were given as."""
    return letters.tobytes() if isinstance(letters, np.ndarray) else bytes(letters)


class Tokenizer(ABC):
    """What every tokenizer offers.

    Attributes:
        name: its kind.
        description: what `load_tokenizer` makes the same tokenizer of: a name, or a JSON object.
        alphabet: the certain letters.
        alphabets: what its sequences are of.
        vocab_size: number of ids.
        pad_id: fills a batch behind the end of a sequence.
        mask_id: stands for a hidden token; None where the vocabulary has none.
        start_id: the token that the caller puts in front of a sequence, so that its first nucleotide is
            predicted as well; None where the vocabulary has none in use.
        token_letters: what each id is written as; empty for special tokens.
        letter_counts: (vocab_size,) int64, how many letters of a sequence each id stands for; 0 for special tokens.
        is_nucleotide: (vocab_size,) bool, the ids of which every letter is a certain one. Only these count in
            likelihoods; ambiguity codes do not.
        overlap: how many of its letters a token shares with the one in front where both are k-mers; 0 as a rule.
    """

    name: str
    description: str | dict[str, Any]
    alphabet: str = "ACGT"
    alphabets: tuple[Alphabet, ...] = (DNA,)
    vocab_size: int
    pad_id: int
    mask_id: int | None = None
    start_id: int | None = None
    token_letters: list[str]
    letter_counts: np.ndarray
    is_nucleotide: np.ndarray
    overlap: int = 0

    @property
    def has_strands(self) -> bool:
        """Whether any of its sequences has an opposite strand."""
        return any(alphabet.has_strands for alphabet in self.alphabets)

    @abstractmethod
    def encode_letters(self, letters: bytes | bytearray | np.ndarray) -> np.ndarray:
        """Ids (tokens,), unsigned, without a start token, of letters given as bytes or as an array of uint8."""

    def encode(self, text: str) -> list[int]:
        """Ids of a sequence, without a start token."""
        return self.encode_letters(text.encode("utf-8")).tolist()

    def decode(self, ids: Iterable[int]) -> str:
        """The sequence that ids stand for; special tokens leave no letter.

        Raises:
            InputError: an id is none of the tokenizer's.
        """
        return "".join(map(self.token_letters.__getitem__, self.checked_ids(ids).tolist()))

    def checked_ids(self, ids: Iterable[int]) -> np.ndarray:
        """(tokens,) ids that are the tokenizer's.

        Raises:
            InputError: one is not.
        """
        found = np.asarray(ids) if hasattr(ids, "__array__") else np.fromiter(ids, np.int64)
        wrong = (found < 0) | (found >= self.vocab_size)
        if wrong.any():
            raise InputError(
                f"tokenizer {self.name!r}: {found[wrong][0]} is no token; its ids are 0 to {self.vocab_size - 1}"
            )
        return found

    def letters_added(self, ids: np.ndarray) -> np.ndarray:
        """(tokens,) int64: how many letters each of a sequence's tokens stands for that no token in front does."""
        return self.letter_counts[ids]

    def reverse_complement(self, ids: np.ndarray) -> np.ndarray:
        """Ids of the opposite strand, 5' to 3'; reverses the last axis.

        Raises:
            InputError: the ids do not tell how the opposite strand is cut into tokens; its letters do.
        """
        raise InputError(
            f"tokenizer {self.name!r}: the opposite strand is cut into other tokens; take that of the letters"
        )

    def to_json(self) -> str:
        """What `load_tokenizer` reads back from a file, the same bytes every time."""
        kind = self.description
        return json.dumps({"type": kind} if isinstance(kind, str) else kind, indent=1) + "\n"


# One token a letter, by alphabet.
LETTER_TOKENIZERS = {"dna": "nucleotide", "rna": "rna", "protein": "protein"}


class LetterTokenizer(Tokenizer):
    """A tokenizer that gives each letter one id, by table.

    Attributes:
        table: (256,) uint8, the id of each byte.
        letters: what each id is written as.
        nucleotide_code: (vocab_size,) uint8, A C G T as 0 1 2 3 and everything else as 4, whatever the ids.
        complement: (vocab_size,) uint8, the id of the complementary letter; ids of no letter map to themselves.
    """

    def __init__(self, name: str, table: np.ndarray, letters: list[str], start_id: int | None):
        self.name = self.description = name
        self.table, self._table_text = table, table.tobytes()
        self.letters = self.token_letters = letters
        self._letter_bytes = np.array([ord(letter or "\0") for letter in letters], np.uint8)
        self.vocab_size = len(letters)
        self.start_id = start_id
        self.letter_counts = np.ones(self.vocab_size, np.int64)
        self.letter_counts[np.setdiff1d(np.arange(self.vocab_size), table)] = 0
        certain = np.frombuffer(self.alphabets[0].certain_bytes.upper(), np.uint8)
        self.is_nucleotide = np.isin(np.arange(self.vocab_size), table[certain])
        self.nucleotide_code = np.full(self.vocab_size, 4, np.uint8)
        for code, letters in enumerate((b"A", b"C", b"G", b"TU")):
            self.nucleotide_code[table[np.frombuffer(letters, np.uint8)]] = code
        self.complement = self._complement_ids()

    def _complement_ids(self) -> np.ndarray:
        complement = np.arange(self.vocab_size, dtype=np.uint8)
        # Case by case from the last letter to the first, so that A and T win over U where they share an id.
        for letter in reversed(LETTERS + LETTERS.lower()):
            complement[self.table[letter]] = self.table[LETTER_COMPLEMENT[letter]]
        return complement

    def reading(self, alphabet: Alphabet) -> "LetterTokenizer":
        """This tokenizer, for letters that are known to be of one alphabet.

        Raises:
            InputError: it does not read that alphabet.
        """
        if alphabet not in self.alphabets:
            raise InputError(
                f"tokenizer {self.name!r} reads {' and '.join(one.name for one in self.alphabets)}, and these are "
                f"{alphabet.name} sequences; take {LETTER_TOKENIZERS[alphabet.name]!r}, or 'biological' for "
                "mixtures"
            )
        return self

    def encode_letters(self, letters: bytes | np.ndarray) -> np.ndarray:
        """Ids (L,) uint8 of L letters given as bytes or as an array of uint8."""
        if isinstance(letters, (bytes, bytearray)):  # faster than indexing by far
            return np.frombuffer(letters.translate(self._table_text), np.uint8)
        return self.table[letters]

    def decode(self, ids: Iterable[int]) -> str:
        """The sequence that ids stand for; special tokens leave no letter."""
        return self._letter_bytes[self.checked_ids(ids)].tobytes().replace(b"\0", b"").decode("ascii")

    def reverse_complement(self, ids: np.ndarray) -> np.ndarray:
        """Ids of the opposite strand, 5' to 3'; reverses the last axis."""
        return self.complement[ids][..., ::-1]


__all__ = [
    "IGNORED_LABEL",
    "LETTERS",
    "LETTER_TOKENIZERS",
    "SPECIALS",
    "LetterTokenizer",
    "Tokenizer",
    "as_letters",
    "checked_letters",
    "nucleotide_table",
]

"""What every tokenizer offers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from genotok.errors import InputError

# The label of a place where nothing is to be predicted.
IGNORED_LABEL = -100

LETTERS = b"ACGTURYSWKMBDHVN"
_COMPLEMENTS = b"TGCAAYRSWMKVHDBN"
LETTER_COMPLEMENT = bytes.maketrans(LETTERS + LETTERS.lower(), _COMPLEMENTS + _COMPLEMENTS.lower())


def checked_letters(text: str, what: str) -> str:
    """A sequence that a person typed, in upper case.

    Raises:
        InputError: it holds what is no IUPAC nucleotide letter; the sentence begins with `what`.
    """
    text = text.upper()
    wrong = sorted(set(text) - set(LETTERS.decode()))
    if wrong:
        raise InputError(f"{what}: {wrong[0]!r} is no nucleotide letter")
    return text


def nucleotide_table(nucleotides: str, ids: Sequence[int], ambiguous: int, unknown: int) -> np.ndarray:
    """(256,) uint8: the id of each byte where case does not matter and U is read as T.

    Args:
        nucleotides: A, C, G and T in some order.
        ids: their ids, in that order.
        ambiguous: the id of N and of every other IUPAC letter.
        unknown: the id of a byte that is no nucleotide letter.
    """
    table = np.full(256, unknown, np.uint8)
    table[np.frombuffer(LETTERS + LETTERS.lower(), np.uint8)] = ambiguous
    for letter, id_ in zip(nucleotides, ids, strict=True):
        written = "TU" if letter == "T" else letter
        table[np.frombuffer((written + written.lower()).encode(), np.uint8)] = id_
    return table


class Tokenizer(ABC):
    """What every tokenizer offers.

    Attributes:
        name: how `load_tokenizer` finds it.
        vocab_size: number of ids.
        pad_id: fills a batch behind the end of a sequence.
        mask_id: stands for a hidden token; None where the vocabulary has none.
        start_id: the token that the caller puts in front of a sequence, so that its first nucleotide is
            predicted as well; None where the vocabulary has none in use.
    """

    name: str
    vocab_size: int
    pad_id: int
    mask_id: int | None = None
    start_id: int | None = None

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a sequence."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The sequence that ids stand for; special tokens leave no letter."""


class LetterTokenizer(Tokenizer):
    """A tokenizer that gives each letter one id, by table.

    Attributes:
        table: (256,) uint8, the id of each byte.
        letters: what each id is written as.
        is_nucleotide: (vocab_size,) bool, the ids that stand for one certain nucleotide. Only these count
            in likelihoods; ambiguity codes do not.
        nucleotide_code: (vocab_size,) uint8, A C G T as 0 1 2 3 and everything else as 4, whatever the ids.
        complement: (vocab_size,) uint8, the id of the complementary letter; ids of no letter map to themselves.
    """

    def __init__(self, name: str, table: np.ndarray, letters: list[str], start_id: int | None):
        self.name = name
        self.table = table
        self.letters = letters
        self.vocab_size = len(letters)
        self.start_id = start_id
        self.is_nucleotide = np.isin(np.arange(self.vocab_size), table[np.frombuffer(b"ACGTU", np.uint8)])
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

    def encode_letters(self, letters: bytes | np.ndarray) -> np.ndarray:
        """Ids (L,) uint8 of L letters given as bytes or as an array of uint8."""
        if isinstance(letters, (bytes, bytearray)):
            letters = np.frombuffer(letters, np.uint8)
        return self.table[letters]

    def encode(self, text: str) -> list[int]:
        """Ids of a sequence, without a start token."""
        return self.encode_letters(text.encode("utf-8")).tolist()

    def decode(self, ids: Iterable[int]) -> str:
        """The sequence that ids stand for; special tokens leave no letter."""
        return "".join(self.letters[i] for i in ids)

    def reverse_complement(self, ids: np.ndarray) -> np.ndarray:
        """Ids of the opposite strand, 5' to 3'; reverses the last axis."""
        return self.complement[ids][..., ::-1]

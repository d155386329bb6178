"""The letters of DNA, RNA and proteins (IUPAC-IUB: Cornish-Bowden 1985; IUPAC-IUBMB 1984)."""

from dataclasses import dataclass
from functools import cached_property

from genotok.errors import InputError

NUCLEOTIDE_LETTERS = b"ACGTURYSWKMBDHVN"
_COMPLEMENTS = b"TGCAAYRSWMKVHDBN"
LETTER_COMPLEMENT = bytes.maketrans(
    NUCLEOTIDE_LETTERS + NUCLEOTIDE_LETTERS.lower(), _COMPLEMENTS + _COMPLEMENTS.lower()
)
BASE_COMPLEMENT = str.maketrans("ACGT", "TGCA")


@dataclass(frozen=True)
class Alphabet:
    """Letters that a sequence may have; case does not matter.

    Attributes:
        name: `dna`, `rna` or `protein`.
        certain: the letters that stand for one thing, in the order of their codes.
        ambiguous: the letter that stands for anything.
        several: all letters that stand for more than one thing, or for what has no code of its own.
        same: pairs of letters, of which the first is read as the second.
        one: what a letter is called in a sentence.
    """

    name: str
    certain: str
    ambiguous: str
    several: str
    same: tuple[str, str] | None
    one: str

    @property
    def letters(self) -> str:
        """All letters, in upper case."""
        return self.certain + (self.same[0] if self.same else "") + self.several

    @cached_property
    def checked(self) -> bytes:
        """(256,) each byte as it is where it is a letter of either case, else zero, so that one search finds it.

        The stop of a protein, which has no case, becomes the ambiguous letter.
        """
        known = (self.letters + self.letters.lower()).encode()
        table = bytearray(byte if byte in known else 0 for byte in range(256))
        table[ord("*")] = ord(self.ambiguous) if "*" in self.letters else 0
        return bytes(table)

    @cached_property
    def certain_bytes(self) -> bytes:
        """The bytes of certain letters, in either case."""
        letters = self.certain + (self.same[0] if self.same else "")
        return (letters + letters.lower()).encode()

    def read(self, letters: bytes, place: str) -> bytes:
        """Letters as `checked` has them.

        Raises:
            InputError: one of them is none; the sentence begins with `place`.
        """
        found = letters.translate(self.checked)
        if 0 in found:
            at = found.index(0)
            raise InputError(f"{place}, position {at + 1}: {self.complaint(letters[at])}")
        return found

    def complaint(self, byte: int) -> str:
        """What is wrong with a byte that is no letter."""
        advice = "correct the file"
        if self.has_strands and chr(byte).upper() in PROTEIN.letters:
            advice += ", or read proteins with `genotok tokenize --alphabet protein` and a model of proteins"
        return f"{chr(byte)!r} is no {self.one} ({self.letters}); {advice}"

    @property
    def has_strands(self) -> bool:
        """Whether a sequence has an opposite strand."""
        return len(self.certain) == 4


DNA = Alphabet("dna", "ACGT", "N", "RYSWKMBDHVN", ("U", "T"), "nucleotide letter")
RNA = Alphabet("rna", "ACGU", "N", "RYSWKMBDHVN", ("T", "U"), "nucleotide letter")
PROTEIN = Alphabet("protein", "ACDEFGHIKLMNPQRSTVWY", "X", "BJOUXZ*", None, "amino-acid letter")
ALPHABETS = {alphabet.name: alphabet for alphabet in (DNA, RNA, PROTEIN)}


def load_alphabet(name: str) -> Alphabet:
    """The alphabet of a name.

    Raises:
        InputError: there is none.
    """
    if name not in ALPHABETS:
        raise InputError(f"alphabet {name!r} is unknown; there are {', '.join(ALPHABETS)}")
    return ALPHABETS[name]


def checked_letters(text: str, what: str, alphabet: Alphabet = DNA) -> str:
    """A sequence that a person typed, in upper case.

    Raises:
        InputError: it holds what is no letter of the alphabet; the sentence begins with `what`.
    """
    text = text.upper()
    wrong = sorted(set(text) - set(alphabet.letters))
    if wrong:
        raise InputError(f"{what}: {wrong[0]!r} is no {alphabet.one}")
    return text


def reverse_complement(letters: bytes) -> bytes:
    """The opposite strand, 5' to 3'; case is kept."""
    return letters.translate(LETTER_COMPLEMENT)[::-1]

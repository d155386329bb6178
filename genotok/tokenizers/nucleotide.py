"""One token a nucleotide, in a vocabulary of twelve."""

import numpy as np

from genotok.tokenizers.base import LETTERS, LetterTokenizer

SPECIALS = ("PAD", "UNK", "CLS", "SEP", "MASK", "START", "END")


class NucleotideTokenizer(LetterTokenizer):
    """A C G T are 0 to 3 (so that 3 - id is the complement), N is 4, then PAD UNK CLS SEP MASK START END.

    Case does not matter and U is read as T. Every other IUPAC letter is ambiguous and becomes N; a byte that
    is no nucleotide letter becomes UNK.
    """

    def __init__(self) -> None:
        unknown = 5 + SPECIALS.index("UNK")
        table = np.full(256, unknown, np.uint8)
        for letters in (LETTERS, LETTERS.lower()):
            table[np.frombuffer(letters, np.uint8)] = 4
        for i, letters in enumerate((b"Aa", b"Cc", b"Gg", b"TtUu")):
            table[np.frombuffer(letters, np.uint8)] = i
        super().__init__("nucleotide", table, [*"ACGTN", *[""] * len(SPECIALS)], 5 + SPECIALS.index("START"))
        self.pad_id = 5 + SPECIALS.index("PAD")
        self.mask_id = 5 + SPECIALS.index("MASK")

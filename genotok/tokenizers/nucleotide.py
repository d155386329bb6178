"""One token a nucleotide, in a vocabulary of twelve."""

from genotok.tokenizers.base import LetterTokenizer, nucleotide_table

SPECIALS = ("PAD", "UNK", "CLS", "SEP", "MASK", "START", "END")


class NucleotideTokenizer(LetterTokenizer):
    """A C G T are 0 to 3 (so that 3 - id is the complement), N is 4, then PAD UNK CLS SEP MASK START END.

    Case does not matter and U is read as T. Every other IUPAC letter is ambiguous and becomes N; a byte that
    is no nucleotide letter becomes UNK.
    """

    def __init__(self) -> None:
        unknown = 5 + SPECIALS.index("UNK")
        table = nucleotide_table("ACGT", range(4), ambiguous=4, unknown=unknown)
        super().__init__("nucleotide", table, [*"ACGTN", *[""] * len(SPECIALS)], 5 + SPECIALS.index("START"))
        self.pad_id = 5 + SPECIALS.index("PAD")
        self.mask_id = 5 + SPECIALS.index("MASK")

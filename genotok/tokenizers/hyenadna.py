"""One token a nucleotide with the ids of HyenaDNA's checkpoints (arXiv 2306.15794)."""

from genotok.tokenizers.base import LetterTokenizer, nucleotide_table

SPECIALS = ("CLS", "SEP", "BOS", "MASK", "PAD", "RESERVED", "UNK")


class HyenaDnaTokenizer(LetterTokenizer):
    """CLS SEP BOS MASK PAD RESERVED UNK are 0 to 6, A C G T N are 7 to 11.

    Case does not matter and U is read as T. Every other IUPAC letter becomes N; a byte that is no nucleotide
    letter becomes UNK. The checkpoints were trained without a token in front of a sequence, so a likelihood
    begins at the second nucleotide.
    """

    def __init__(self) -> None:
        table = nucleotide_table("ACGT", range(7, 11), ambiguous=11, unknown=SPECIALS.index("UNK"))
        super().__init__("hyenadna", table, [*[""] * len(SPECIALS), *"ACGTN"], None)
        self.pad_id, self.mask_id = SPECIALS.index("PAD"), SPECIALS.index("MASK")

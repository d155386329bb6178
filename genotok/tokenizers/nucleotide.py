"""One token a nucleotide, in a vocabulary of twelve."""

from genotok.genomes.alphabets import DNA, RNA, Alphabet
from genotok.tokenizers.base import SPECIALS, LetterTokenizer, nucleotide_table


class NucleotideTokenizer(LetterTokenizer):
    """A C G T are 0 to 3 (so that 3 - id is the complement), N is 4, then PAD UNK CLS SEP MASK START END.

    Case does not matter. T and U are one letter: it is written T in `nucleotide`, and U in `rna`, which has U in the
    place of T. Every other IUPAC letter is ambiguous and becomes N; a byte that is no nucleotide letter becomes UNK.

    Args:
        alphabet: of DNA or of RNA.
    """

    def __init__(self, alphabet: Alphabet = DNA) -> None:
        self.alphabets, self.alphabet = (alphabet,), alphabet.certain
        unknown = 5 + SPECIALS.index("UNK")
        table = nucleotide_table(alphabet.certain, range(4), ambiguous=4, unknown=unknown)
        letters = [*alphabet.certain, alphabet.ambiguous, *[""] * len(SPECIALS)]
        name = "rna" if alphabet is RNA else "nucleotide"
        super().__init__(name, table, letters, 5 + SPECIALS.index("START"))
        self.pad_id = 5 + SPECIALS.index("PAD")
        self.mask_id = 5 + SPECIALS.index("MASK")

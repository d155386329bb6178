"""One token an amino acid, in a vocabulary of 28."""

import numpy as np

from genotok.errors import InputError
from genotok.genomes.alphabets import PROTEIN
from genotok.tokenizers.base import SPECIALS, LetterTokenizer

NO_STRAND = "proteins have no opposite strand"


def residue_table(first: int, unknown: int) -> np.ndarray:
    """(256,) uint8: the id of each byte, from `first` the 20 amino acids in the order of their letters, then X.

    Args:
        first: the id of A.
        unknown: the id of a byte that is no letter of a protein.
    """
    table = np.full(256, unknown, np.uint8)
    ids = dict.fromkeys(PROTEIN.several, first + len(PROTEIN.certain))
    ids |= {letter: first + code for code, letter in enumerate(PROTEIN.certain)}
    for letter, id_ in ids.items():
        table[[ord(letter), ord(letter.lower())]] = id_
    return table


class ProteinTokenizer(LetterTokenizer):
    """A C D E F G H I K L M N P Q R S T V W Y are 0 to 19, X is 20, then PAD UNK CLS SEP MASK START END.

    Case does not matter. B, J and Z, which stand for two amino acids, the rare O (pyrrolysine) and U
    (selenocysteine), and the stop * become X; a byte that is no letter of a protein becomes UNK. There is no
    opposite strand.
    """

    def __init__(self) -> None:
        self.alphabets, self.alphabet = (PROTEIN,), PROTEIN.certain
        specials = {special: len(PROTEIN.certain) + 1 + i for i, special in enumerate(SPECIALS)}
        letters = [*PROTEIN.certain, PROTEIN.ambiguous, *[""] * len(SPECIALS)]
        super().__init__("protein", residue_table(0, specials["UNK"]), letters, specials["START"])
        self.pad_id, self.mask_id = specials["PAD"], specials["MASK"]
        self.nucleotide_code[:] = 4

    def _complement_ids(self) -> np.ndarray:
        return np.arange(self.vocab_size, dtype=np.uint8)

    def reverse_complement(self, ids: np.ndarray) -> np.ndarray:
        """Never returns.

        Raises:
            InputError: always.
        """
        raise InputError(f"tokenizer {self.name!r}: {NO_STRAND}")

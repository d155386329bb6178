"""One token a letter of DNA, RNA and proteins, in one vocabulary of 38."""

import copy

import numpy as np

from genotok.genomes.alphabets import DNA, PROTEIN, RNA, Alphabet
from genotok.tokenizers.base import SPECIALS, LetterTokenizer, nucleotide_table
from genotok.tokenizers.protein import residue_table

FIRST = {DNA.name: 0, RNA.name: 5, PROTEIN.name: 10}
_FIRST_SPECIAL = FIRST[PROTEIN.name] + len(PROTEIN.certain) + 1


class BiologicalTokenizer(LetterTokenizer):
    """DNA is A C G T N 0 to 4, RNA A C G U N 5 to 9, proteins the 20 amino acids 10 to 29 and X 30.

    Behind them come PAD UNK CLS SEP MASK START END. Each kind of sequence has ids of its own, so that a model knows
    the adenine of DNA from that of RNA and from alanine; the letters become ids as in the tokenizers `nucleotide`,
    `rna` and `protein`. A sequence is read as DNA unless `reading` says what it is.

    The opposite strand of a protein is the protein itself, so that mixtures can be read from both strands.
    """

    def __init__(self) -> None:
        self.alphabets, self.alphabet = (DNA, RNA, PROTEIN), DNA.certain + "U" + _only_in_proteins()
        specials = {special: _FIRST_SPECIAL + i for i, special in enumerate(SPECIALS)}
        unknown = specials["UNK"]
        self._tables = {
            alphabet.name: nucleotide_table(
                alphabet.certain,
                range(FIRST[alphabet.name], FIRST[alphabet.name] + 4),
                ambiguous=FIRST[alphabet.name] + 4,
                unknown=unknown,
            )
            for alphabet in (DNA, RNA)
        } | {PROTEIN.name: residue_table(FIRST[PROTEIN.name], unknown)}
        letters = [letter for one in self.alphabets for letter in one.certain + one.ambiguous]
        super().__init__(
            "biological", self._tables["dna"], [*letters, *[""] * len(SPECIALS)], specials["START"]
        )
        self.pad_id, self.mask_id = specials["PAD"], specials["MASK"]
        self.letter_counts = np.array([int(bool(letter)) for letter in self.letters])
        self.letter_counts[unknown] = 1
        ambiguous = [FIRST[one.name] + len(one.certain) for one in self.alphabets]
        self.is_nucleotide = np.arange(self.vocab_size) < _FIRST_SPECIAL
        self.is_nucleotide[ambiguous] = False
        rna = slice(FIRST["rna"], FIRST["rna"] + 4)
        self.nucleotide_code[rna] = np.arange(4)
        self.complement[rna] = np.arange(4)[::-1] + FIRST["rna"]

    def reading(self, alphabet: Alphabet) -> LetterTokenizer:
        """This tokenizer, for letters that are known to be of one alphabet."""
        view = copy.copy(self)
        view.table = self._tables[alphabet.name]
        view._table_text = view.table.tobytes()
        return view

    def reverse_complement(self, ids: np.ndarray) -> np.ndarray:
        """Ids of the opposite strand, 5' to 3'; reverses the last axis of sequences that are no proteins."""
        is_protein = ((ids >= FIRST["protein"]) & (ids < _FIRST_SPECIAL)).any(-1, keepdims=True)
        return np.where(is_protein, ids, self.complement[ids][..., ::-1])


def _only_in_proteins() -> str:
    return "".join(letter for letter in PROTEIN.certain if letter not in DNA.certain)

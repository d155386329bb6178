"""The 6-mers of Nucleotide Transformer v2 (Dalla-Torre et al., Nature Methods 2025)."""

import numpy as np

from genotok.tokenizers.kmer import CutTokenizer

ALPHABET = "ATCG"
SPECIALS = ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>")
K = 6
_FIRST_KMER = len(SPECIALS)
_FIRST_LETTER = _FIRST_KMER + len(ALPHABET) ** K


class NucleotideTransformerTokenizer(CutTokenizer):
    """4,107 tokens: six specials, the 6-mers over A T C G in that order, then A T C G N alone.

    A sequence is cut from left to right into 6-mers that do not overlap. Every N is a token of its own and the
    cutting begins anew behind it; the up to five nucleotides left in front of an N or at the end are one token
    each. `encode` puts `<cls>` in front, as the published models expect; `encode_letters` leaves it to the caller,
    as with the start token of the other tokenizers.

    Case does not matter, U is read as T, and every other IUPAC letter is ambiguous and becomes N. A byte that is
    no nucleotide letter becomes `<unk>` and interrupts the cutting as N does.

    Attributes:
        tokens: what each id is called; the specials in angle brackets.
        unknown_id, cls_id, eos_id, bos_id: ids of the other specials.
    """

    def __init__(self) -> None:
        self.name = self.description = "ntv2"
        unknown, self.pad_id, self.mask_id, self.cls_id, self.eos_id, self.bos_id = range(len(SPECIALS))
        super().__init__(
            ALPHABET,
            "N",
            K,
            K,
            first_kmer=_FIRST_KMER,
            first_letter=_FIRST_LETTER,
            unknown=unknown,
            vocab_size=_FIRST_LETTER + len(ALPHABET) + 1,
        )
        self.start_id = self.cls_id
        self.tokens = [*SPECIALS, *self.token_letters[len(SPECIALS) :]]

    def encode(self, text: str) -> list[int]:
        """Ids of a sequence, `<cls>` in front."""
        return self.encode_to_array(text.encode("utf-8")).tolist()

    def encode_to_array(self, letters: bytes | np.ndarray) -> np.ndarray:
        """Ids (tokens,) uint16, `<cls>` in front, of letters given as bytes or as an array of uint8."""
        return np.concatenate([np.array([self.cls_id], np.uint16), self.encode_letters(letters)])

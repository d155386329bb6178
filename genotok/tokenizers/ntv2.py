"""The 6-mers of Nucleotide Transformer v2 (Dalla-Torre et al., Nature Methods 2025)."""

from collections.abc import Iterable
from itertools import product

import numpy as np

from genotok.tokenizers.base import Tokenizer, nucleotide_table

ALPHABET = "ATCG"
SPECIALS = ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>")
K = 6
_KMERS = len(ALPHABET) ** K
_FIRST_KMER = len(SPECIALS)
_FIRST_LETTER = _FIRST_KMER + _KMERS
_N, _UNKNOWN = 4, 5


class NucleotideTransformerTokenizer(Tokenizer):
    """4,107 tokens: six specials, the 6-mers over A T C G in that order, then A T C G N alone.

    A sequence is cut from left to right into 6-mers that do not overlap. Every N is a token of its own and the
    cutting begins anew behind it; the up to five nucleotides left in front of an N or at the end are one token
    each. `encode` puts `<cls>` in front, as the published models expect.

    Case does not matter, U is read as T, and every other IUPAC letter is ambiguous and becomes N. A byte that is
    no nucleotide letter becomes `<unk>` and interrupts the cutting as N does.

    Attributes:
        tokens: what each id is called; the specials in angle brackets.
        unknown_id, cls_id, eos_id, bos_id: ids of the other specials.
    """

    def __init__(self) -> None:
        self.name = "ntv2"
        self.tokens = [
            *SPECIALS,
            *("".join(letters) for letters in product(ALPHABET, repeat=K)),
            *ALPHABET,
            "N",
        ]
        self.vocab_size = len(self.tokens)
        self.unknown_id, self.pad_id, self.mask_id, self.cls_id, self.eos_id, self.bos_id = range(
            len(SPECIALS)
        )
        self._written = [*[""] * len(SPECIALS), *self.tokens[len(SPECIALS) :]]
        self._codes = nucleotide_table(ALPHABET, range(4), ambiguous=_N, unknown=_UNKNOWN)

    def encode(self, text: str) -> list[int]:
        """Ids of a sequence, `<cls>` in front."""
        return self.encode_to_array(text.encode("utf-8")).tolist()

    def encode_to_array(self, letters: bytes | np.ndarray) -> np.ndarray:
        """Ids (tokens,) uint16, `<cls>` in front, of letters given as bytes or as an array of uint8."""
        if isinstance(letters, (bytes, bytearray)):
            letters = np.frombuffer(letters, np.uint8)
        codes = self._codes[letters]
        begins, inside_kmer = _kmer_places(codes < _N)
        ids = np.where(codes == _UNKNOWN, self.unknown_id, _FIRST_LETTER + codes.astype(np.uint16))
        ids[begins] = (
            _FIRST_KMER + codes[begins[:, None] + np.arange(K)] @ len(ALPHABET) ** np.arange(K)[::-1]
        )
        inside_kmer[begins] = False
        return np.concatenate([[self.cls_id], ids[~inside_kmer]]).astype(np.uint16)

    def decode(self, ids: Iterable[int]) -> str:
        """The sequence that ids stand for; special tokens leave no letter."""
        return "".join(self._written[i] for i in ids)


def _kmer_places(certain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where 6-mers lie in runs of certain nucleotides.

    Args:
        certain: (L,) bool.

    Returns:
        The 0-based places where 6-mers begin, and (L,) bool, whether each letter is covered by one.
    """
    edges = np.flatnonzero(np.diff(certain, prepend=False, append=False))
    run_begins, kmers = edges[::2], (edges[1::2] - edges[::2]) // K
    first_kmers = np.repeat(np.cumsum(kmers) - kmers, kmers)
    begins = np.repeat(run_begins, kmers) + K * (np.arange(kmers.sum()) - first_kmers)
    covered = np.zeros(len(certain), bool)
    covered[begins[:, None] + np.arange(K)] = True
    return begins, covered

"""Tokens of k letters, cut from left to right at a fixed stride."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np

from genotok.errors import InputError
from genotok.genomes import alphabets
from genotok.tokenizers.base import LETTERS, SPECIALS, Tokenizer, as_letters
from genotok.tokenizers.protein import NO_STRAND

LONGEST_K = 8
MOST_KMERS = 1 << 22
LETTERS_A_RUN = 2048  # from which on runs of certain letters are faster one by one than all at once
_PAIRS = dict(zip("ACGT", "TGCA", strict=True))


class CutTokenizer(Tokenizer):
    """k-mers over an alphabet, and the single letters that no k-mer covers.

    A run of certain letters is cut from its left: a k-mer begins every `stride` letters as long as there are k
    letters left. The letters behind the last k-mer, fewer than `stride` as a rule and the whole run where it is
    shorter than k, become one token each. A letter that is not certain ends a run and is a token of its own; the
    cutting begins anew behind it.

    Two k-mers that follow one another hence always belong to one run and share k - stride letters, so that ids
    tell the letters.

    Case does not matter, U and T are the same letter, and every other letter of the alphabet that stands for more
    than one becomes N (X in proteins). Any other byte is unknown, and ends a run as well.

    The opposite strand in ids is exact where no certain letter is left as a single token, since the run is then
    cut at the same places from both its ends; other ids are refused.

    Args:
        alphabet: the certain letters, in the order of their digits in a k-mer's number; k-mers are in the order
            of these numbers.
        ambiguous: the letter for all that are not certain.
        first_kmer: id of the first k-mer.
        first_letter: id of the first of the single letters, behind which comes the ambiguous one; for k = 1 the
            letters are the k-mers, and this is the ambiguous one's.
        unknown: id of what is no letter.
        vocab_size: number of ids.
    """

    def __init__(
        self,
        alphabet: str,
        ambiguous: str,
        k: int,
        stride: int,
        *,
        first_kmer: int,
        first_letter: int,
        unknown: int,
        vocab_size: int,
    ):
        self.alphabet, self.k, self.stride, self.overlap = alphabet, k, stride, k - stride
        self.vocab_size, self.unknown_id = vocab_size, unknown
        self._first_kmer, self._kmers = first_kmer, len(alphabet) ** k
        self._n, self._unknown = len(alphabet), len(alphabet) + 1  # codes
        singles = first_kmer if k == 1 else first_letter
        ambiguous_id = first_letter if k == 1 else first_letter + len(alphabet)
        dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
        self._single_ids = np.array([*range(singles, singles + self._n), ambiguous_id, unknown], dtype)
        self._codes = self._code_table(ambiguous)
        self.token_letters = [""] * vocab_size
        self.token_letters[first_kmer : first_kmer + self._kmers] = map("".join, product(alphabet, repeat=k))
        for code, letter in enumerate(alphabet + ambiguous):
            self.token_letters[self._single_ids[code]] = letter
        self.letter_counts = np.zeros(vocab_size, np.int64)
        self.letter_counts[self._single_ids] = 1
        self.letter_counts[first_kmer : first_kmer + self._kmers] = k
        self.is_nucleotide = np.isin(np.arange(vocab_size), self._single_ids[: self._n])
        self.is_nucleotide |= self._is_kmer(np.arange(vocab_size))
        self._complement = self._complement_ids()

    def _code_table(self, ambiguous: str) -> bytes:
        """The code of each byte: the place in the alphabet, then ambiguous, then unknown."""
        table = np.full(256, self._unknown, np.uint8)
        several = alphabets.PROTEIN.several if ambiguous == "X" else LETTERS.decode()
        codes = dict.fromkeys(several, self._n) | {letter: i for i, letter in enumerate(self.alphabet)}
        if ambiguous == "N":
            codes["T"] = codes["U"] = codes["T" if "T" in self.alphabet else "U"]
        for letter, code in codes.items():
            table[[ord(letter), ord(letter.lower())]] = code
        return table.tobytes()

    def _complement_ids(self) -> np.ndarray | None:
        """(vocab_size,) the id of the opposite strand of a token; None where the alphabet has none."""
        if len(self.alphabet) != 4:
            return None
        codes = {letter: code for code, letter in enumerate(self.alphabet.replace("U", "T"))}
        opposite = np.array([codes[_PAIRS[letter]] for letter in codes])
        numbers, turned = np.arange(self._kmers), np.zeros(self._kmers, np.int64)
        for _ in range(self.k):
            turned = turned * 4 + opposite[numbers % 4]
            numbers = numbers // 4
        ids = np.arange(self.vocab_size, dtype=self._single_ids.dtype)
        ids[self._first_kmer : self._first_kmer + self._kmers] = self._first_kmer + turned
        return ids

    def _is_kmer(self, ids: np.ndarray) -> np.ndarray:
        return (ids >= self._first_kmer) & (ids < self._first_kmer + self._kmers)

    def encode_letters(self, letters: bytes | bytearray | np.ndarray) -> np.ndarray:
        """Ids (tokens,) uint16, or uint32 where there are more, without a start token.

        Args:
            letters: bytes or an array of uint8.
        """
        codes = np.frombuffer(as_letters(letters).translate(self._codes), np.uint8)
        if len(codes) == 0 or codes.max() < self._n:
            return self._ids_of_run(codes)
        certain = codes < self._n
        edges = np.flatnonzero(np.diff(certain, prepend=False, append=False))
        if len(edges) * LETTERS_A_RUN < 2 * len(codes):
            return self._ids_of_runs(codes, edges.reshape(-1, 2))
        begins, covered = kmer_places(certain, self.k, self.stride)
        ids = self._single_ids[codes]
        if len(begins):
            ids[begins] = self._kmer_ids(codes, 1)[begins]
        covered[begins] = False
        return ids[~covered]

    def _ids_of_runs(self, codes: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """Ids where (n, 2) runs of certain letters are long, as they are between the gaps of an assembly."""
        ids, end = [], 0
        for begin, run_end in runs.tolist():
            ids += [self._single_ids[codes[end:begin]], self._ids_of_run(codes[begin:run_end])]
            end = run_end
        return np.concatenate([*ids, self._single_ids[codes[end:]]])

    def _ids_of_run(self, codes: np.ndarray) -> np.ndarray:
        """Ids of certain letters."""
        if len(codes) < self.k:
            return self._single_ids[codes]
        ids = self._kmer_ids(codes, self.stride)
        covered = (len(ids) - 1) * self.stride + self.k
        return np.append(ids, self._single_ids[codes[covered:]]) if covered < len(codes) else ids

    def _kmer_ids(self, codes: np.ndarray, stride: int) -> np.ndarray:
        """Ids of the k-mers that begin at every `stride`-th of at least k codes."""
        ids = kmer_numbers(codes, self.k, len(self.alphabet), self._single_ids.dtype, stride)
        if self._first_kmer:
            ids += ids.dtype.type(self._first_kmer)
        return ids

    def letters_added(self, ids: np.ndarray) -> np.ndarray:
        """(tokens,) int64: the letters of each token, without those that a k-mer shares with one before it."""
        added = self.letter_counts[ids]
        if self.overlap:
            kmer = self._is_kmer(np.asarray(ids))
            added[1:][kmer[1:] & kmer[:-1]] = self.stride
        return added

    def decode(self, ids: Iterable[int]) -> str:
        """The sequence that ids stand for; special tokens leave no letter."""
        ids = self.checked_ids(ids)
        written = [self.token_letters[i] for i in ids.tolist()]
        if not self.overlap:
            return "".join(written)
        new = self.letters_added(ids).tolist()
        return "".join(text[max(len(text) - count, 0) :] for text, count in zip(written, new, strict=True))

    def reverse_complement(self, ids: np.ndarray) -> np.ndarray:
        """Ids of the opposite strand, 5' to 3'; reverses the last axis.

        Raises:
            InputError: the alphabet has no complement, or a certain letter stands alone, so that the opposite
                strand is cut at other places.
        """
        if self._complement is None:
            raise InputError(f"tokenizer {self.name!r}: {NO_STRAND}")
        if self.k > 1 and np.isin(ids, self._single_ids[: self._n]).any():
            raise InputError(
                f"tokenizer {self.name!r}: letters are left beside the {self.k}-mers, so the opposite strand is "
                "cut at other places; take that of the letters"
            )
        return self._complement[ids][..., ::-1]


class KmerTokenizer(CutTokenizer):
    """k-mers in alphabetical order from id 0, then the letters alone, N, and PAD UNK CLS SEP MASK START END.

    For k = 1 the k-mers are the letters. In proteins X takes the place of N.

    Args:
        k: letters a token, 1 to 8.
        stride: letters from one k-mer's begin to the next, 1 to k; None for k, which makes no overlap.
        alphabet: `dna`, `rna` or `protein`.
        name: `kmer`, or what a certain choice is called.

    Raises:
        InputError: a value is out of range, or makes more than 4 million k-mers.
    """

    def __init__(self, k: int = 6, stride: int | None = None, alphabet: str = "dna", name: str = "kmer"):
        stride = k if stride is None else stride
        _check(k, stride, alphabet)
        self.alphabets = (alphabets.ALPHABETS[alphabet],)
        letters, ambiguous = self.alphabets[0].certain, self.alphabets[0].ambiguous
        kmers = len(letters) ** k
        ambiguous_id = kmers if k == 1 else kmers + len(letters)
        specials = {special: ambiguous_id + 1 + i for i, special in enumerate(SPECIALS)}
        self.name = name
        super().__init__(
            letters,
            ambiguous,
            k,
            stride,
            first_kmer=0,
            first_letter=kmers,
            unknown=specials["UNK"],
            vocab_size=ambiguous_id + 1 + len(SPECIALS),
        )
        self.pad_id, self.mask_id, self.start_id = (specials[name] for name in ("PAD", "MASK", "START"))
        self.description = {"type": "kmer", "k": k, "stride": stride, "alphabet": alphabet}
        if BY_NAME.get(name) == (k, stride, alphabet):
            self.description = name


# What `kmer` and `codon` alone stand for: k, stride, alphabet.
BY_NAME = {"kmer": (6, 6, "dna"), "codon": (3, 3, "dna")}


def _check(k: Any, stride: Any, alphabet: Any) -> None:
    if type(k) is not int or not 1 <= k <= LONGEST_K:
        raise InputError(f"tokenizer.k: {k!r} should be a whole number from 1 to {LONGEST_K}")
    if type(stride) is not int or not 1 <= stride <= k:
        raise InputError(f"tokenizer.stride: {stride!r} should be a whole number from 1 to k, which is {k}")
    if not isinstance(alphabet, str) or alphabet not in alphabets.ALPHABETS:
        raise InputError(
            f"tokenizer.alphabet: {alphabet!r} should be one of {', '.join(alphabets.ALPHABETS)}"
        )
    if len(alphabets.ALPHABETS[alphabet].certain) ** k > MOST_KMERS:
        raise InputError(f"tokenizer.k: {k} makes more than {MOST_KMERS:,} k-mers of a {alphabet} alphabet")


def kmer_numbers(codes: np.ndarray, k: int, base: int, dtype: np.dtype, stride: int = 1) -> np.ndarray:
    """Numbers of k-mers, of which the first letter is the highest digit.

    Each is made of two shorter ones, in as few bytes as hold them, so that the work grows with the logarithm of k.

    Args:
        codes: (L,) uint8, at least k of them. Where one is not below `base`, the numbers of its k-mers mean nothing.
        k: letters a k-mer.
        base: letters of the alphabet.
        dtype: of the numbers.
        stride: codes from one k-mer's begin to the next.
    """
    if k == 1:
        return codes[::stride].astype(dtype)
    left = 1 << ((k - 1).bit_length() - 1)  # the highest power of two below k
    first = kmer_numbers(codes, left, base, np.min_scalar_type(base**left - 1))
    right = k - left
    second = first if right == left else kmer_numbers(codes, right, base, np.min_scalar_type(base**right - 1))
    count = len(codes) - k + 1
    numbers = first[:count:stride].astype(dtype)
    numbers *= dtype.type(base**right)
    numbers += second[left : left + count : stride]
    return numbers


def kmer_places(certain: np.ndarray, k: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Where k-mers lie in runs of certain letters.

    Args:
        certain: (L,) bool.
        k: letters a k-mer.
        stride: letters from one k-mer of a run to the next.

    Returns:
        The 0-based places where k-mers begin, and (L,) bool, whether each letter is covered by one.
    """
    edges = np.flatnonzero(np.diff(certain, prepend=False, append=False))
    run_begins, run_ends = edges[::2], edges[1::2]
    kmers = np.maximum((run_ends - run_begins - k) // stride + 1, 0)
    first_kmers = np.repeat(np.cumsum(kmers) - kmers, kmers)
    begins = np.repeat(run_begins, kmers) + stride * (np.arange(kmers.sum()) - first_kmers)
    # Each run's k-mers cover it without a gap from its begin.
    some = kmers > 0
    change = np.zeros(len(certain) + 1, np.int8)
    change[run_begins[some]] = 1
    change[run_begins[some] + (kmers[some] - 1) * stride + k] -= 1
    return begins, np.cumsum(change[:-1], dtype=np.int8).astype(bool)

"""Letters to ids and back, and the opposite strand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.tokenizers import load_tokenizer

IUPAC = "ACGTURYSWKMBDHVN"
# The bases that each letter stands for, from the IUPAC-IUB table (Cornish-Bowden 1985).
BASES = dict(
    zip(
        IUPAC,
        ["A", "C", "G", "T", "T", "AG", "CT", "CG", "AT", "GT", "AC", "CGT", "AGT", "ACT", "ACG", "ACGT"],
        strict=True,
    )
)
NUCLEOTIDE, BYTE, HYENADNA = (load_tokenizer(name) for name in ("nucleotide", "byte", "hyenadna"))
every = pytest.mark.parametrize(
    "tokenizer", [NUCLEOTIDE, BYTE, HYENADNA], ids=lambda tokenizer: tokenizer.name
)
quick = settings(max_examples=100, deadline=None)


def complement_letter(letter):
    """By the bases that the letter stands for; U is not written back."""
    opposite = {"A": "T", "C": "G", "G": "C", "T": "A"}
    bases = {opposite[base] for base in BASES[letter.upper()]}
    found = next(other for other in IUPAC if set(BASES[other]) == bases)
    return found if letter.isupper() else found.lower()


def reverse_complement(text):
    return "".join(complement_letter(letter) for letter in reversed(text))


def test_ids_of_nucleotides():
    assert NUCLEOTIDE.encode("ACGTN") == [0, 1, 2, 3, 4]
    assert NUCLEOTIDE.vocab_size == 12
    assert (NUCLEOTIDE.pad_id, NUCLEOTIDE.mask_id, NUCLEOTIDE.start_id) == (5, 9, 10)
    assert NUCLEOTIDE.decode(range(12)) == "ACGTN"
    assert NUCLEOTIDE.encode("") == []


def test_ids_of_bytes():
    assert BYTE.encode("ACGT") == [65, 67, 71, 84]
    assert (BYTE.vocab_size, BYTE.start_id) == (256, None)
    assert BYTE.decode([0xC3]) == "\ufffd"


def test_ids_of_hyenadna():
    assert HYENADNA.encode("ACGTNacgturyX-") == [7, 8, 9, 10, 11, 7, 8, 9, 10, 10, 11, 11, 6, 6]
    assert HYENADNA.vocab_size == 12
    assert (HYENADNA.mask_id, HYENADNA.pad_id, HYENADNA.start_id) == (3, 4, None)
    assert HYENADNA.decode(range(12)) == "ACGTN"


@every
@quick
@given(text=st.text("ACGTN", max_size=60))
def test_nucleotides_come_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@quick
@given(st.text(max_size=60))
def test_any_text_comes_back_from_bytes(text):
    assert BYTE.encode(text) == list(text.encode())
    assert BYTE.decode(BYTE.encode(text)) == text


@quick
@given(st.text(IUPAC + IUPAC.lower(), max_size=60))
def test_case_u_and_ambiguity_codes(text):
    wanted = "".join(BASES[letter] if len(BASES[letter]) == 1 else "N" for letter in text.upper())
    assert NUCLEOTIDE.decode(NUCLEOTIDE.encode(text)) == wanted
    assert NUCLEOTIDE.encode(text.lower()) == NUCLEOTIDE.encode(text)


def test_a_byte_that_is_no_letter_is_unknown():
    unknown = 6
    letters = set((IUPAC + IUPAC.lower()).encode())
    for byte in range(256):
        (found,) = NUCLEOTIDE.encode_letters(bytes([byte]))
        assert (found == unknown) == (byte not in letters)
    assert NUCLEOTIDE.encode("A-é") == [0, unknown, unknown, unknown]


@every
def test_encode_letters_takes_bytes_and_arrays(tokenizer):
    letters = b"ACGTNacgtRuX\n"
    wanted = tokenizer.encode(letters.decode())
    for given_as in (letters, bytearray(letters), np.frombuffer(letters, np.uint8)):
        found = tokenizer.encode_letters(given_as)
        assert found.dtype == np.uint8
        assert found.tolist() == wanted


@every
def test_which_ids_are_certain_nucleotides(tokenizer):
    certain = {tokenizer.encode(letter)[0] for letter in "ACGTU"}
    assert set(np.flatnonzero(tokenizer.is_nucleotide).tolist()) == certain
    for letter in IUPAC:
        code = tokenizer.nucleotide_code[tokenizer.encode(letter)[0]]
        assert code == ("ACGT".index(BASES[letter]) if len(BASES[letter]) == 1 else 4)


@every
@quick
@given(text=st.text("ACGTRYSWKMBDHVN", max_size=60))
def test_reverse_complement_of_ids_is_that_of_letters(tokenizer, text):
    ids = tokenizer.encode_letters(text.encode())
    opposite = tokenizer.reverse_complement(ids)
    assert opposite.tolist() == tokenizer.encode(reverse_complement(text))
    assert tokenizer.reverse_complement(opposite).tolist() == ids.tolist()


@quick
@given(st.text("ACGTRYSWKMBDHVNacgtryswkmbdhvn", max_size=60))
def test_the_opposite_strand_of_bytes_keeps_the_case(text):
    opposite = BYTE.reverse_complement(BYTE.encode_letters(text.encode()))
    assert BYTE.decode(opposite.tolist()) == reverse_complement(text)


@every
def test_u_pairs_with_a(tokenizer):
    (opposite,) = tokenizer.reverse_complement(tokenizer.encode_letters(b"U"))
    assert tokenizer.decode([opposite]) == "A"
    (opposite,) = tokenizer.reverse_complement(tokenizer.encode_letters(b"A"))
    assert tokenizer.decode([opposite]) == "T"


@every
def test_other_ids_are_their_own_complement(tokenizer):
    of_letters = {id_ for letter in IUPAC + IUPAC.lower() for id_ in tokenizer.encode(letter)}
    for id_ in set(range(tokenizer.vocab_size)) - of_letters:
        assert tokenizer.complement[id_] == id_


def test_a_batch_is_reversed_row_by_row():
    rows = np.array([[0, 1, 4], [2, 2, 3]], np.uint8)
    assert NUCLEOTIDE.reverse_complement(rows).tolist() == [[4, 2, 3], [0, 1, 1]]


def test_an_unknown_name_is_said():
    with pytest.raises(
        InputError,
        match="'words' is unknown; there are biological, bpe, byte, codon, hyenadna, kmer, ntv2, nucleotide, "
        "protein, rna, and JSON",
    ):
        load_tokenizer("words")

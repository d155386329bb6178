"""Tokenizers of RNA, of proteins, and of all three kinds of sequences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.genomes.alphabets import ALPHABETS, DNA, PROTEIN, RNA, load_alphabet
from genotok.tokenizers import from_json, load_tokenizer

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
NUCLEOTIDE, RNA_LETTERS, RESIDUE, ALL = (
    load_tokenizer(name) for name in ("nucleotide", "rna", "protein", "biological")
)
SPECIALS = 7
quick = settings(max_examples=50, deadline=None)


def test_ids_of_rna():
    assert RNA_LETTERS.encode("ACGUNacguTtR") == [0, 1, 2, 3, 4, 0, 1, 2, 3, 3, 3, 4]
    assert RNA_LETTERS.decode(range(12)) == "ACGUN"
    for key in ("vocab_size", "pad_id", "mask_id", "start_id"):
        assert getattr(RNA_LETTERS, key) == getattr(NUCLEOTIDE, key)


def test_ids_of_proteins():
    assert RESIDUE.encode(RESIDUES) == RESIDUE.encode(RESIDUES.lower()) == list(range(20))
    assert RESIDUE.encode("XBJZOU*") == [20] * 7
    assert (RESIDUE.vocab_size, RESIDUE.decode(range(28))) == (28, RESIDUES + "X")
    assert (RESIDUE.pad_id, RESIDUE.mask_id, RESIDUE.start_id) == (21, 25, 26)
    assert RESIDUE.encode("-.1") == [22] * 3
    assert np.flatnonzero(RESIDUE.is_nucleotide).tolist() == list(range(20))
    assert RESIDUE.letter_counts.tolist() == [1] * 21 + [0, 1, 0, 0, 0, 0, 0]


def test_the_codes_are_those_of_single_residue_kmers():
    """So that a k-mer model of proteins and one of letters agree on what is certain."""
    kmers = load_tokenizer({"type": "kmer", "k": 1, "alphabet": "protein"})
    text = RESIDUES + "BJOUXZ*" + RESIDUES.lower()
    assert RESIDUE.encode(text) == kmers.encode(text)


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_each_alphabet_has_ids_of_its_own(alphabet):
    one = {"dna": NUCLEOTIDE, "rna": RNA_LETTERS, "protein": RESIDUE}[alphabet.name]
    first = {"dna": 0, "rna": 5, "protein": 10}[alphabet.name]
    letters = bytes(range(256))
    known = np.array([byte in (alphabet.letters + alphabet.letters.lower()).encode() for byte in letters])
    mine, single = ALL.reading(alphabet).encode_letters(letters), one.encode_letters(letters)
    assert (mine[known] == single[known] + first).all()
    assert set(mine[~known].tolist()) == {32}
    ids = ALL.reading(alphabet).encode_letters((alphabet.certain + alphabet.ambiguous).encode())
    assert ALL.decode(ids) == alphabet.certain + alphabet.ambiguous
    assert ALL.is_nucleotide[ids].tolist() == [True] * len(alphabet.certain) + [False]


def test_the_common_vocabulary():
    assert ALL.vocab_size == 10 + 21 + SPECIALS
    assert (ALL.pad_id, ALL.mask_id, ALL.start_id) == (31, 35, 36)
    assert ALL.is_nucleotide.sum() == 28
    assert ALL.nucleotide_code[:10].tolist() == [0, 1, 2, 3, 4] * 2
    assert set(ALL.nucleotide_code[10:].tolist()) == {4}
    assert ALL.encode("ACGTN") == NUCLEOTIDE.encode("ACGTN")


@quick
@given(st.text("ACGUN", max_size=40))
def test_the_opposite_strand_of_rna(text):
    opposite = "".join({"A": "U", "U": "A", "C": "G", "G": "C", "N": "N"}[letter] for letter in text[::-1])
    for tokenizer in (RNA_LETTERS, ALL.reading(RNA)):
        ids = tokenizer.encode_letters(text.encode())
        assert tokenizer.decode(tokenizer.reverse_complement(ids)) == opposite


@quick
@given(st.text(RESIDUES + "X", max_size=40))
def test_proteins_have_no_opposite_strand(text):
    ids = RESIDUE.encode_letters(text.encode())
    assert RESIDUE.decode(ids) == text
    with pytest.raises(InputError, match="tokenizer 'protein': proteins have no opposite strand"):
        RESIDUE.reverse_complement(ids)
    ids = ALL.reading(PROTEIN).encode_letters(text.encode())
    assert ALL.reverse_complement(ids).tolist() == ids.tolist()


def test_only_the_rows_without_proteins_are_turned():
    rows = np.array([[0, 1, 4], [10, 11, 12], [5, 6, 30]], np.uint8)
    assert ALL.reverse_complement(rows).tolist() == [[4, 2, 3], [10, 11, 12], [5, 6, 30]]


def test_which_have_strands():
    found = {
        name: load_tokenizer(name).has_strands for name in ("nucleotide", "rna", "protein", "biological")
    }
    assert found == {"nucleotide": True, "rna": True, "protein": False, "biological": True}
    assert not load_tokenizer({"type": "kmer", "k": 2, "alphabet": "protein"}).has_strands


@pytest.mark.parametrize("name", ["nucleotide", "byte", "hyenadna"])
def test_other_alphabets_are_refused(name):
    tokenizer = load_tokenizer(name)
    assert tokenizer.reading(DNA) is tokenizer
    with pytest.raises(InputError, match=f"'{name}' reads dna, and these are protein .* take 'protein'"):
        tokenizer.reading(PROTEIN)
    with pytest.raises(InputError, match="take 'rna', or 'biological' for mixtures"):
        tokenizer.reading(RNA)
    with pytest.raises(InputError, match="alphabet 'xna' is unknown; there are dna, rna, protein"):
        load_alphabet("xna")


@pytest.mark.parametrize("name", ["rna", "protein", "biological"])
def test_they_are_saved_by_name(name):
    tokenizer = load_tokenizer(name)
    assert from_json(tokenizer.to_json()) is tokenizer

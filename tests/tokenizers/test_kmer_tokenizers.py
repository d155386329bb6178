"""k-mers of every length and stride against cutting letter by letter."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.tokenizers import KmerTokenizer, from_json, load_tokenizer

ALPHABETS = {"dna": ("ACGT", "N"), "rna": ("ACGU", "N"), "protein": ("ACDEFGHIKLMNPQRSTVWY", "X")}
quick = settings(max_examples=60, deadline=None)
cuts = st.integers(1, 5).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, k)))


def runs(alphabet="ACGT", ambiguous="N"):
    """Runs of certain letters of many lengths, with others between them."""
    parts = st.text(alphabet, max_size=14) | st.text(ambiguous, max_size=2)
    return st.lists(parts, max_size=6).map("".join)


def one_by_one(text, k, stride, alphabet):
    """The tokens by the rule: from the left of each run, and singly what is left."""
    tokens, at, in_run = [], 0, False
    while at < len(text):
        begin = at - (k - stride) if in_run else at
        kmer = text[begin : begin + k]
        if len(kmer) == k and set(kmer) <= set(alphabet):
            tokens.append(kmer)
            at, in_run = begin + k, True
        else:
            # What is left of a run stays single until the run ends.
            while at < len(text) and text[at] in alphabet:
                tokens.append(text[at])
                at += 1
            if at < len(text):
                tokens.append(text[at])
                at += 1
            in_run = False
    return tokens


@quick
@given(cuts, runs())
def test_equals_cutting_one_by_one(cut, text):
    tokenizer = KmerTokenizer(*cut)
    ids = tokenizer.encode(text)
    assert [tokenizer.token_letters[i] for i in ids] == one_by_one(text, *cut, "ACGT")


@pytest.mark.parametrize("alphabet", ALPHABETS)
@quick
@given(data=st.data(), cut=cuts)
def test_sequences_come_back(alphabet, data, cut):
    k = min(cut[0], 3) if alphabet == "protein" else cut[0]
    text = data.draw(runs(*ALPHABETS[alphabet]))
    tokenizer = KmerTokenizer(k, min(cut[1], k), alphabet)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.letters_added(np.array(ids, np.int64)).sum() == len(text)


@quick
@given(cuts, runs())
def test_the_opposite_strand_is_exact_or_refused(cut, text):
    tokenizer = KmerTokenizer(*cut)
    ids = tokenizer.encode_letters(text.encode())
    opposite = "".join(dict(zip("ACGTN", "TGCAN", strict=True))[letter] for letter in reversed(text))
    if cut[0] > 1 and any(tokenizer.token_letters[i] in tuple("ACGT") for i in ids):
        with pytest.raises(InputError, match="letters are left beside"):
            tokenizer.reverse_complement(ids)
    else:
        assert tokenizer.reverse_complement(ids).tolist() == tokenizer.encode(opposite)


def test_proteins_have_no_opposite_strand():
    tokenizer = KmerTokenizer(2, alphabet="protein")
    with pytest.raises(InputError, match="proteins have no opposite strand"):
        tokenizer.reverse_complement(tokenizer.encode_letters(b"MKVL"))


def test_ids_of_3_mers():
    codon = load_tokenizer("codon")
    assert codon.token_letters[:64] == ["".join(letters) for letters in product("ACGT", repeat=3)]
    assert codon.token_letters[64:69] == list("ACGTN")
    assert (codon.pad_id, codon.unknown_id, codon.mask_id, codon.start_id) == (69, 70, 73, 74)
    assert (codon.vocab_size, codon.encode("")) == (76, [])
    assert codon.encode("atguAx!NACC") == [14, 67, 64, 70, 70, 68, 5]
    assert codon.decode(codon.encode("ACGTAxTTT")) == "ACGTATTT"


def test_1_mers_have_no_letters_beside_them():
    tokenizer = KmerTokenizer(1)
    assert tokenizer.token_letters[:6] == [*"ACGTN", ""]
    assert tokenizer.vocab_size == 12


def test_rna_and_proteins_read_what_they_write():
    rna, protein = KmerTokenizer(2, alphabet="rna"), KmerTokenizer(2, alphabet="protein")
    assert rna.decode(rna.encode("acgtRn")) == "ACGUNN"
    assert protein.decode(protein.encode("mkBNu*")) == "MKXNXX"


def test_long_k_needs_wider_ids():
    ids = KmerTokenizer(8).encode_letters(b"T" * 8 + b"ACN")
    assert ids.dtype == np.uint32
    assert ids.tolist() == [4**8 - 1, 4**8, 4**8 + 1, 4**8 + 4]


@quick
@given(cuts)
def test_a_description_makes_the_same_tokenizer(cut):
    tokenizer = KmerTokenizer(*cut)
    again = from_json(tokenizer.to_json())
    assert (again.description, again.token_letters) == (tokenizer.description, tokenizer.token_letters)
    assert again.encode("ACGTTGCANAC") == tokenizer.encode("ACGTTGCANAC")


def test_names_and_files(tmp_path):
    path = tmp_path / "two.json"
    path.write_text(KmerTokenizer(2, 1).to_json())
    assert load_tokenizer(path).description == {"type": "kmer", "k": 2, "stride": 1, "alphabet": "dna"}
    assert load_tokenizer(str(path)) is load_tokenizer(path)
    for name in ("kmer", "codon", "byte", "ntv2", "hyenadna", "nucleotide"):
        assert load_tokenizer(name).description == name
        assert from_json(load_tokenizer(name).to_json()) is load_tokenizer(name)
    assert (load_tokenizer("kmer").k, load_tokenizer("kmer").overlap) == (6, 0)


BAD = [
    ({"type": "kmer", "k": 9}, "tokenizer.k: 9 should be a whole number from 1 to 8"),
    (
        {"type": "kmer", "k": 3, "stride": 4},
        "tokenizer.stride: 4 should be a whole number from 1 to k, which is 3",
    ),
    ({"type": "kmer", "alphabet": "xna"}, "tokenizer.alphabet: 'xna' should be one of dna, rna, protein"),
    ({"type": "kmer", "k": 6, "alphabet": "protein"}, "tokenizer.k: 6 makes more than 4,194,304 k-mers"),
    ({"type": "kmer", "size": 3}, "tokenizer.size: unknown key; known are type, alphabet, k, stride"),
    ({"type": "words"}, "tokenizer.type: 'words' should be one of biological, bpe, byte, codon"),
    ({"k": 3}, "tokenizer.type: None should be one of"),
    ({"type": "ntv2", "k": 3}, "tokenizer.k: unknown key"),
    ("absent.json", "absent.json: cannot be read as a tokenizer"),
]


@pytest.mark.parametrize(("source", "sentence"), BAD)
def test_bad_descriptions(source, sentence):
    with pytest.raises(InputError) as error:
        load_tokenizer(source)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"type":', "t.json: tokenizer: line 1 is not JSON"),
        ("[1]", "t.json: tokenizer: should be a JSON object"),
    ],
)
def test_bad_files(tmp_path, text, sentence):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_tokenizer(path)
    assert sentence in str(error.value)

"""Byte-pair encoding against a slow one by the definition."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.shards.reader import training_letters
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import BpeTokenizer, from_json, load_tokenizer, train_bpe

random = np.random.default_rng(1)
GENOME = "".join(
    part for _ in range(60) for part in ("GATTACA", "".join(random.choice(list("ACGT"), 9)), "CGCGCG")
)
TRAINED = train_bpe([GENOME], 48)
quick = settings(max_examples=100, deadline=None)
sequences = st.lists(
    st.text("ACGT", max_size=12) | st.sampled_from(["GATTACA", "CGCGCG", "N", "NN", "TTACAGAT"]), max_size=8
).map("".join)


def merged_by_rank(text, merges):
    """The earliest learned merge that is possible anywhere, at its leftmost place, again and again."""
    tokens, pairs = list(text), [tuple(merge.split()) for merge in merges]
    while True:
        places = [(pairs.index(pair), i) for i, pair in enumerate(pairwise(tokens)) if pair in pairs]
        if not places:
            return tokens
        _, i = min(places)
        tokens[i : i + 2] = ["".join(tokens[i : i + 2])]


@quick
@given(sequences)
def test_equals_merging_by_rank(text):
    found = [TRAINED.token_letters[i] for i in TRAINED.encode(text)]
    assert found == merged_by_rank(text, TRAINED.merges)


@quick
@given(sequences)
def test_sequences_come_back(text):
    ids = TRAINED.encode_letters(text.encode())
    assert TRAINED.decode(ids) == text
    assert TRAINED.letters_added(ids).sum() == len(text)


@quick
@given(st.text("ACGTUNRYSWKMBDHVacgtunryswkmbdhv-", max_size=40))
def test_case_u_ambiguity_codes_and_what_is_no_letter(text):
    plain = "".join(letter if letter in "ACGT-" else "N" for letter in text.upper().replace("U", "T"))
    ids = TRAINED.encode(text)
    assert ids == TRAINED.encode(plain)
    assert (ids.count(4), ids.count(6)) == (plain.count("N"), plain.count("-"))


def test_ids_of_letters_are_the_nucleotide_tokenizers():
    nucleotide = load_tokenizer("nucleotide")
    assert TRAINED.token_letters[:12] == nucleotide.letters
    for key in ("pad_id", "mask_id", "start_id"):
        assert getattr(TRAINED, key) == getattr(nucleotide, key)
    assert (TRAINED.vocab_size, TRAINED.encode("")) == (48, [])
    assert TRAINED.is_nucleotide.sum() == 4 + 36


def test_the_first_merges_are_of_the_commonest_pairs():
    """CGCGCG and GATTACA come 60 times each among random letters; pairs are counted where they may overlap."""
    first = Counter(a + b for a, b in pairwise(GENOME)).most_common(1)[0][0]
    assert TRAINED.token_letters[12] == first == "CG"
    assert "CGCGCG" in TRAINED.token_letters


def test_training_is_deterministic_and_stops_at_ambiguous_letters():
    assert train_bpe([GENOME.encode()], 48).to_json() == TRAINED.to_json()
    apart = train_bpe([GENOME.replace("CG", "CNG")], 48)
    assert not any("CG" in token for token in apart.token_letters)
    assert max(map(len, apart.token_letters)) > 3


def test_a_description_makes_the_same_tokenizer(tmp_path):
    (tmp_path / "t.json").write_text(TRAINED.to_json())
    for again in (load_tokenizer(tmp_path / "t.json"), from_json(TRAINED.to_json())):
        assert again.merges == TRAINED.merges
        assert again.encode(GENOME[:200]) == TRAINED.encode(GENOME[:200])


def test_two_ways_to_one_token():
    tokenizer = BpeTokenizer(["A A", "A AA", "AA A", "AA AA"])
    assert tokenizer.token_letters[12:] == ["AA", "AAA", "AAAA"]
    assert tokenizer.decode(tokenizer.encode("A" * 11)) == "A" * 11


def test_the_opposite_strand_is_that_of_the_letters():
    with pytest.raises(
        InputError, match="the opposite strand is cut into other tokens; take that of the letters"
    ):
        TRAINED.reverse_complement(TRAINED.encode_letters(b"GATTACA"))


@pytest.mark.parametrize("merges", [["A"], ["AC G"], ["A C", "A  G"], [3], ["A N"], "AC"])
def test_bad_merges(merges):
    with pytest.raises(InputError, match=r"tokenizer\.merges: "):
        load_tokenizer({"type": "bpe", "merges": merges})


def test_what_cannot_be_learned():
    with pytest.raises(InputError, match="vocab_size: 31 should be at least 32"):
        train_bpe([GENOME], 31)
    with pytest.raises(InputError, match="the sequences hold pairs for 13 tokens only, not for 40"):
        train_bpe(["ACNACNAC"], 40)
    with pytest.raises(InputError, match=r"tokenizer\.merges: this key is needed"):
        load_tokenizer({"type": "bpe"})


def test_the_one_that_comes_with_the_package():
    tokenizer = load_tokenizer("bpe")
    assert tokenizer.vocab_size == 512
    assert tokenizer.decode(tokenizer.encode("GATTACANNACGTACGT")) == "GATTACANNACGTACGT"
    assert load_tokenizer(tokenizer.description).encode("ACGT" * 9) == tokenizer.encode("ACGT" * 9)


def test_shards_of_proteins_have_no_byte_pairs(tmp_path):
    (tmp_path / "p.faa").write_text(">p\n" + "MACGTACGTNACGTW" * 20 + "\n")
    tokenize_genomes([tmp_path / "p.faa"], tmp_path / "shards", tokenizer="protein", window=50)
    with pytest.raises(
        InputError, match=r"shards: holds proteins, and byte pairs are learned of nucleotides"
    ):
        next(training_letters(tmp_path / "shards"))

"""The 6-mers of Nucleotide Transformer v2 against the authors' tokenizer and a slow one."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.tokenizers import load_letter_tokenizer, load_tokenizer

OFFICIAL = json.loads((Path(__file__).parents[1] / "data" / "ntv2" / "ntv2_tokenizer.json").read_text())
NTV2 = load_tokenizer("ntv2")
quick = settings(max_examples=200, deadline=None)


def one_by_one(text):
    """Token by token from the left, by the definition."""
    ids, at = [OFFICIAL["vocabulary"].index("<cls>")], 0
    while at < len(text):
        kmer = text[at : at + 6]
        token = kmer if len(kmer) == 6 and "N" not in kmer else text[at]
        ids.append(OFFICIAL["vocabulary"].index(token))
        at += len(token)
    return ids


def test_the_vocabulary_is_the_official_one():
    assert OFFICIAL["vocabulary"] == NTV2.tokens
    assert NTV2.vocab_size == 4107
    specials = (NTV2.unknown_id, NTV2.pad_id, NTV2.mask_id, NTV2.cls_id, NTV2.eos_id, NTV2.bos_id)
    names = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"]
    assert [NTV2.tokens[id_] for id_ in specials] == names


@pytest.mark.parametrize("case", OFFICIAL["cases"], ids=lambda case: case["sequence"])
def test_official_cases(case):
    assert NTV2.encode(case["sequence"]) == case["ids"]


# Runs of one length and another, so that N stands at every place of a 6-mer.
sequences = st.lists(st.text("ACGT", max_size=14) | st.text("N", max_size=3), max_size=6).map("".join)


@quick
@given(sequences)
def test_equals_cutting_one_by_one(text):
    assert NTV2.encode(text) == one_by_one(text)


@quick
@given(sequences)
def test_sequences_come_back(text):
    assert NTV2.decode(NTV2.encode(text)) == text


@quick
@given(st.text("ACGTUNRYSWKMBDHVacgtunryswkmbdhv", max_size=40))
def test_case_u_and_ambiguity_codes(text):
    plain = "".join(letter if letter in "ACGT" else "N" for letter in text.upper().replace("U", "T"))
    assert NTV2.encode(text) == NTV2.encode(plain)


def test_what_is_no_letter_is_unknown_and_interrupts():
    unknown, cls = 0, 3
    (aaaaaa,) = NTV2.encode("AAAAAA")[1:]
    assert NTV2.encode("AAAAAA-AAAAAA") == [cls, aaaaaa, unknown, aaaaaa]
    assert NTV2.encode("AA é") == [cls, *NTV2.encode("AA")[1:], unknown, unknown, unknown]
    assert NTV2.decode([aaaaaa, unknown, cls, aaaaaa]) == "A" * 12


def test_arrays_of_letters():
    assert NTV2.encode("") == [3]
    letters = b"ACGTNACGTACGTA"
    for given_as in (letters, bytearray(letters), np.frombuffer(letters, np.uint8)):
        found = NTV2.encode_to_array(given_as)
        assert found.dtype == np.uint16
        assert found.tolist() == NTV2.encode(letters.decode())


def test_work_that_needs_one_token_a_letter_refuses_it():
    with pytest.raises(InputError, match="'ntv2' has tokens of several letters"):
        load_letter_tokenizer("ntv2")
    assert load_letter_tokenizer("nucleotide") is load_tokenizer("nucleotide")

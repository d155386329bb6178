"""Every tokenizer gives back what it was given, however the letters lie."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.tokenizers import KmerTokenizer, kmer, load_tokenizer

NAMES = ["bpe", "byte", "codon", "hyenadna", "kmer", "ntv2", "nucleotide"]
CUTS = [(k, stride) for k in range(1, 9) for stride in {1, 2, k - 1, k} if 1 <= stride <= k]
TOKENIZERS = {name: (load_tokenizer(name), "ACGT", "N") for name in NAMES}
TOKENIZERS |= {f"{k} by {stride}": (KmerTokenizer(k, stride), "ACGT", "N") for k, stride in CUTS}
TOKENIZERS |= {f"rna {k}": (KmerTokenizer(k, 1, "rna"), "ACGU", "N") for k in (1, 2, 5, 8)}
TOKENIZERS |= {
    f"protein {k}": (KmerTokenizer(k, 1, "protein"), "ACDEFGHIKLMNPQRSTVWY", "X") for k in (1, 2, 3)
}


def texts(certain, ambiguous):
    """Runs of certain letters, short and long, with others between them."""
    runs = st.text(certain, max_size=30) | st.integers(0, 99).map(lambda seed: drawn(certain, seed))
    return st.lists(runs | st.text(ambiguous, max_size=3), max_size=6).map("".join)


def drawn(certain, seed):
    return "".join(np.random.default_rng(seed).choice(list(certain), 40 + seed))


@pytest.mark.parametrize("letters_a_run", [1, 20, 10_000])
@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_sequences_come_back(name, letters_a_run, data):
    """With runs of certain letters encoded one by one, and all at once."""
    tokenizer, certain, ambiguous = TOKENIZERS[name]
    text = data.draw(texts(certain, ambiguous))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmer, "LETTERS_A_RUN", letters_a_run)
        ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.letters_added(np.array(ids, np.int64)).sum() == len(text)


@pytest.mark.parametrize("cut", CUTS)
def test_runs_one_by_one_are_the_same_as_all_at_once(cut, monkeypatch):
    tokenizer = KmerTokenizer(*cut)
    text = "".join(
        f"{drawn('ACGT', seed)}{'N' * (seed % 3)}{'acg'[: seed % 4]}R" for seed in range(30)
    ).encode()
    found = []
    for letters_a_run in (1, 10_000):
        monkeypatch.setattr(kmer, "LETTERS_A_RUN", letters_a_run)
        found.append(tokenizer.encode_letters(text))
    assert found[0].dtype == found[1].dtype
    assert found[0].tolist() == found[1].tolist()


@pytest.mark.parametrize("name", [*NAMES, "rna", "protein", "biological"])
def test_ids_that_are_no_tokens(name):
    tokenizer = load_tokenizer(name)
    for wrong in (-1, tokenizer.vocab_size, 10**9):
        with pytest.raises(
            InputError, match=f"{wrong} is no token; its ids are 0 to {tokenizer.vocab_size - 1}"
        ):
            tokenizer.decode([1, wrong])


@pytest.mark.parametrize("name", [*NAMES, "rna", "protein", "biological"])
def test_ids_may_come_in_any_form(name):
    tokenizer = load_tokenizer(name)
    ids = tokenizer.encode("ACGTACGTNA")
    wanted = "".join(tokenizer.token_letters[i] for i in ids)
    assert tokenizer.overlap or tokenizer.decode(ids) == wanted
    for form in (tuple(ids), iter(ids), np.array(ids), np.array(ids, np.uint16), torch.tensor(ids)):
        assert tokenizer.decode(form) == tokenizer.decode(ids)
    assert tokenizer.decode([]) == ""

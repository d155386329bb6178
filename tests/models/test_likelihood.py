"""Likelihoods of nucleotides of every tokenizer against sums over the whole vocabulary, by the definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model

from genotok.errors import InputError
from genotok.models.likelihood import (
    next_token_log_likelihood,
    nucleotide_log_likelihood,
    token_log_likelihood,
)
from genotok.models.token_tree import TokenTree
from genotok.shards.sampler import collate
from genotok.tokenizers import load_tokenizer

BPE = {"type": "bpe", "merges": ["A A", "AA A", "C G", "AAA A", "CG A", "CGA AAA", "T T", "TT CGA", "TT TT"]}
DESCRIPTIONS = {
    "nucleotide": "nucleotide",
    "byte": "byte",
    "3-mers": "codon",
    "ntv2": "ntv2",
    "bpe": BPE,
    "3-mers, stride 1": {"type": "kmer", "k": 3, "stride": 1},
    "4-mers, stride 3": {"type": "kmer", "k": 4, "stride": 3},
    "2-mers, stride 1": {"type": "kmer", "k": 2, "stride": 1},
}
OVERLAPPING = [name for name in DESCRIPTIONS if "stride" in name]
EXACT = [name for name in DESCRIPTIONS if name not in OVERLAPPING]
WINDOWS = [b"ACGATTAACGAAAATNACGTACTTCGA", b"AA", b"NACGN-ACGAAAACG", b"G"]
quick = settings(max_examples=25, deadline=None)


@pytest.fixture(params=DESCRIPTIONS, scope="module")
def model(request):
    return tiny_model("transformer", tokenizer=DESCRIPTIONS[request.param], vocab_size=0)


def probabilities(tokenizer, seed=0, rows=1, spread=3.0):
    logits = spread * torch.randn(
        rows, tokenizer.vocab_size + 3, generator=torch.Generator().manual_seed(seed)
    )
    return logits.log_softmax(-1)


def begins_with(tokenizer, p, prefix):
    """The sum over all tokens of certain letters that begin so; where k-mers overlap, over k-mers alone."""
    k = int(tokenizer.letter_counts.max())
    return math.fsum(
        p[i]
        for i, text in enumerate(tokenizer.token_letters)
        if tokenizer.is_nucleotide[i]
        and text.startswith(prefix)
        and (not tokenizer.overlap or len(text) == k or prefix == "")
    )


def by_the_definition(tokenizer, p, token, added):
    """log p of the last `added` letters of a token, letter by letter."""
    text, found = tokenizer.token_letters[token], []
    if tokenizer.overlap and len(text) == 1:
        return [math.log(p[token])]
    for j in range(len(text) - added, len(text)):
        ends = j + 1 == len(text)
        joint = p[token] if ends else begins_with(tokenizer, p, text[: j + 1])
        found.append(math.log(joint / (begins_with(tokenizer, p, text[:j]) if j else 1.0)))
    return found


@pytest.mark.parametrize("name", DESCRIPTIONS)
@quick
@given(data=st.data())
def test_letters_of_a_token_are_as_defined(name, data):
    tokenizer = load_tokenizer(DESCRIPTIONS[name])
    ids = [i for i in range(tokenizer.vocab_size) if tokenizer.is_nucleotide[i]]
    token = data.draw(st.sampled_from(ids))
    count = int(tokenizer.letter_counts[token])
    shared = tokenizer.overlap if count > 1 else 0
    added = data.draw(st.sampled_from(sorted({count, count - shared})))
    log_p = probabilities(tokenizer, data.draw(st.integers(0, 99)))
    found = TokenTree(tokenizer).letter_log_likelihood(log_p, torch.tensor([token]), torch.tensor([added]))
    wanted = by_the_definition(tokenizer, log_p[0].double().exp().tolist(), token, added)
    torch.testing.assert_close(found[0, :added], torch.tensor(wanted), atol=1e-4, rtol=1e-4)
    assert (found[0, added:] == 0).all()


@pytest.mark.parametrize("name", EXACT)
def test_letters_sum_to_the_token(name):
    """Also where the token is all but impossible."""
    tokenizer = load_tokenizer(DESCRIPTIONS[name])
    ids = torch.tensor([i for i in range(tokenizer.vocab_size) if tokenizer.is_nucleotide[i]])
    added = torch.from_numpy(tokenizer.letter_counts)[ids]
    for spread in (1.0, 100.0):
        log_p = probabilities(tokenizer, 3, spread=spread)
        found = TokenTree(tokenizer).letter_log_likelihood(log_p.expand(len(ids), -1), ids, added)
        torch.testing.assert_close(found.sum(1), log_p[0, ids], atol=1e-5, rtol=1e-5)
        assert found.max() <= 1e-4


@pytest.mark.parametrize("name", ["bpe", "3-mers"])
def test_what_may_follow_a_prefix_sums_to_1(name):
    """A, C, G, T and the end of the token; in front of the first letter the special tokens and N as well."""
    tokenizer = load_tokenizer(DESCRIPTIONS[name])
    log_p = probabilities(tokenizer, 5)
    p, tree = log_p[0].double().exp(), TokenTree(tokenizer)
    tokens = {text: i for i, text in enumerate(tokenizer.token_letters) if tokenizer.is_nucleotide[i]}
    prefixes = {text[:j] for text in tokens for j in range(len(text))}

    def conditional(prefix, letter):
        """p(letter | prefix), read off a token that goes on behind it, or by the token's own end."""
        longer = [text for text in tokens if text.startswith(prefix + letter)]
        if not longer:
            return 0.0
        text = max(longer, key=len)
        letters = tree.letter_log_likelihood(log_p, torch.tensor([tokens[text]]), torch.tensor([len(text)]))
        if len(text) > len(prefix) + 1:
            return letters[0, len(prefix)].double().exp().item()
        return (letters[0, : len(prefix) + 1].sum() - letters[0, : len(prefix)].sum()).double().exp().item()

    for prefix in prefixes:
        follow = sum(conditional(prefix, letter) for letter in "ACGT")
        whole = begins_with(tokenizer, p.tolist(), prefix) if prefix else 1.0
        other = p[tokens[prefix]].item() / whole if prefix in tokens else 0.0
        if not prefix:
            other = p.sum().item() - sum(p[i].item() for i in tokens.values())
        assert follow + other == pytest.approx(1.0, abs=1e-5), prefix


def test_windows_are_read_token_by_token(model):
    """Every letter of every window, by one run of the model on each window alone."""
    tokenizer = model.tokenizer
    found, _ = nucleotide_log_likelihood(model, WINDOWS)
    assert found.shape == (len(WINDOWS), max(map(len, WINDOWS)))
    for row, window in enumerate(WINDOWS):
        start = [] if tokenizer.start_id is None else [tokenizer.start_id]
        ids = tokenizer.encode_letters(window).astype(int)
        added = tokenizer.letters_added(ids).tolist()
        with torch.no_grad():
            p = model(torch.tensor([[*start, *ids]])).logits[0].double().softmax(-1).tolist()
        wanted = []
        for t, (token, count) in enumerate(zip(ids.tolist(), added, strict=True)):
            predicted = tokenizer.is_nucleotide[token] and t + len(start) > 0
            part = (
                by_the_definition(tokenizer, p[t + len(start) - 1], token, count)[-count:]
                if predicted
                else []
            )
            wanted += part or [0.0] * count
        torch.testing.assert_close(found[row, : len(window)], torch.tensor(wanted), atol=2e-4, rtol=1e-4)
        assert (found[row, len(window) :] == 0).all()


def test_tokens_and_nucleotides_agree(model):
    batch = collate([model.tokenizer.encode_letters(window) for window in WINDOWS], model.tokenizer)
    letters, _ = nucleotide_log_likelihood(model, batch)
    tokens, _ = token_log_likelihood(model, batch)
    torch.testing.assert_close(letters.sum(1), tokens.sum(1), atol=1e-4, rtol=1e-5)
    if not model.tokenizer.overlap:
        plain, _ = next_token_log_likelihood(model, batch.input_ids, batch.labels, batch.lengths)
        assert torch.equal(tokens, plain)
    certain = sum(letter in b"ACGT" for window in WINDOWS for letter in window)
    unpredicted = (
        3 if model.tokenizer.start_id is None else 0
    )  # first letters that nothing precedes; one is N
    assert batch.nucleotides == certain - unpredicted
    assert batch.bases == sum(map(len, WINDOWS))


MASKED = ["nucleotide", "3-mers", "bpe"]


@pytest.mark.parametrize("name", MASKED)
def test_masked_tokens_one_by_one(name, monkeypatch):
    monkeypatch.setattr("genotok.models.likelihood._MOST_TOKENS", 70)  # blocks end within windows
    model = tiny_model(
        "transformer with biases", tokenizer=DESCRIPTIONS[name], vocab_size=0, tasks=["mlm", "lm"]
    )
    tokenizer = model.tokenizer
    found, output = nucleotide_log_likelihood(model, WINDOWS)
    assert output is None
    for row, window in enumerate(WINDOWS):
        ids = tokenizer.encode_letters(window).astype(int).tolist()
        wanted = []
        for t, token in enumerate(ids):
            masked = [tokenizer.start_id, *ids]
            masked[t + 1] = tokenizer.mask_id
            count = int(tokenizer.letter_counts[token])
            if not tokenizer.is_nucleotide[token]:
                wanted += [0.0] * count
                continue
            with torch.no_grad():
                p = model(torch.tensor([masked]), task="mlm").logits[0, t + 1].double().softmax(-1).tolist()
            wanted += by_the_definition(tokenizer, p, token, count)
        torch.testing.assert_close(found[row, : len(window)], torch.tensor(wanted), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("tokenizer", "sentence"),
    [
        ("byte", "the tokenizer 'byte' has no mask token"),
        (DESCRIPTIONS["2-mers, stride 1"], "no likelihood where k-mers overlap"),
    ],
)
def test_masked_models_without_a_likelihood(tokenizer, sentence):
    model = tiny_model("transformer with biases", tokenizer=tokenizer, vocab_size=0, tasks=["mlm"])
    with pytest.raises(InputError, match=sentence):
        nucleotide_log_likelihood(model, [b"ACGT"])

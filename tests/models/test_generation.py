"""Generation with a cache, held against the whole model run anew for every token."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import STEPPED, tiny_model

from genotok.errors import InputError
from genotok.models import fixed_generation, generation
from genotok.models.generation import Sampling, added_letters, allowed_ids, choose, generate, prompt_ids
from genotok.tokenizers import load_tokenizer

RAGGED = ["A", "AC", "GATTACAGATTACA", "ttt", "ACGNNRY", ""]
GREEDY = {"temperature": 0.0}
every_kind = pytest.mark.parametrize("kind", STEPPED)


@torch.no_grad()
def recomputed(model, prompts, length, seed=0, **how):
    """The definition: the whole prefix of each prompt alone, for each token."""
    uniform = torch.rand(
        len(prompts), length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    allowed, rows = allowed_ids(model.tokenizer, True), []
    for prompt, numbers in zip(prompts, uniform, strict=True):
        ids = prompt_ids(model, prompt).tolist()
        begin = len(ids)
        for number in numbers:
            logits = model(torch.tensor([ids])).logits[:, -1, allowed]
            ids.append(int(allowed[choose(logits, number[None], Sampling(**how))]))
        rows.append(ids[begin:])
    return torch.tensor(rows)


@every_kind
@pytest.mark.parametrize("how", [GREEDY, {}, {"temperature": 0.7, "top_k": 3, "top_p": 0.9}], ids=str)
def test_equals_recomputation(kind, how):
    """Ragged prompts, the empty one (start token alone) among them."""
    model = tiny_model(kind, seed=69)
    found = generate(model, RAGGED, 20, seed=5, **how)
    assert torch.equal(found, recomputed(model, RAGGED, 20, seed=5, **how))
    assert len(found.unique()) > 1


@every_kind
def test_steps_of_fixed_shapes_and_memory(kind, monkeypatch):
    """The same letters, over several reservations of memory, and no tensor of the cache moves between them."""
    monkeypatch.setattr(fixed_generation, "SEGMENT", 6)
    model, moved = tiny_model(kind, seed=69), []

    class Watched(fixed_generation.FixedContinuation):
        def advance(self):
            before = [getattr(holder, name).data_ptr() for holder, name in self.cache.tensors()]
            super().advance()
            moved.append(
                before != [getattr(holder, name).data_ptr() for holder, name in self.cache.tensors()]
            )

    monkeypatch.setattr(generation, "FixedContinuation", Watched)
    how = {"seed": 5, "temperature": 0.7, "batch_size": 4}
    found = generate(model, RAGGED, 25, way="fixed", **how)
    assert torch.equal(found, generate(model, RAGGED, 25, way="plain", **how))
    assert len(moved) == 48
    assert not any(moved)


@pytest.mark.parametrize("prompts", [["G"], ["CA"], ["T", "GC"]])
@pytest.mark.parametrize("kind", ["one stage", "two stages that widen", "mamba"])
def test_short_prompts_without_a_start_token(kind, prompts):
    """The byte tokenizer has none, so that prompts have 1 and 2 tokens."""
    model = tiny_model(kind, tokenizer="byte", vocab_size=256)
    found = generate(model, prompts, 12)
    assert torch.equal(found, recomputed(model, prompts, 12))
    assert set(found.flatten().tolist()) <= set(b"ACGT")


def test_the_model_method():
    model = tiny_model("one stage")
    assert torch.equal(model.generate(["ACGT"], 9, seed=3), generate(model, ["ACGT"], 9, seed=3))


def test_seeds():
    model = tiny_model("one stage")
    found = [generate(model, ["ACGT"] * 3, 30, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0][0], found[0][1])


def test_batches_do_not_matter():
    """Neither how many prompts run at once nor prompts behind one change it."""
    model = tiny_model("two stages that widen")
    whole = generate(model, RAGGED, 10)
    assert torch.equal(generate(model, RAGGED, 10, batch_size=4), whole)
    assert torch.equal(generate(model, RAGGED[:2], 10), whole[:2])


def test_the_global_generator_is_left_alone():
    model = tiny_model("mamba")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    generate(model, ["A"], 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_special_tokens_only_when_asked():
    model = tiny_model("one stage")
    with torch.no_grad():
        model.head.weight[model.tokenizer.mask_id] *= 50
        model.head.weight[4] *= 50  # N
    assert generate(model, ["ACGT"] * 8, 20).max() <= 3
    anything = generate(model, ["ACGT"] * 8, 20, nucleotides_only=False)
    assert anything.max() > 3
    assert anything.max() < model.tokenizer.vocab_size


def test_tensor_prompts():
    """Ids are taken as they are; a start token is put in front once."""
    model = tiny_model("one stage")
    start = model.tokenizer.start_id
    bare, started = torch.tensor([0, 1, 2, 3]), torch.tensor([start, 0, 1, 2, 3])
    found = generate(model, [bare, started, "ACGT"], 10, temperature=0)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_nothing_to_do():
    model = tiny_model("one stage")
    assert generate(model, ["ACGT"], 0).shape == (1, 0)
    assert generate(model, [], 5).shape == (0, 5)


def test_steps_are_reported():
    model, seen = tiny_model("one stage"), []
    generate(model, RAGGED, 3, batch_size=4, on_step=seen.append)
    assert seen == [4, 4, 4, 2, 2, 2]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"length": -1}, "length"),
        ({"batch_size": 0}, "batch_size"),
        ({"way": "fast"}, "way: 'fast' is unknown"),
        ({"way": "graph"}, "needs a CUDA device"),
        ({"prompts": ["ACGT", "AXC"]}, "prompt 2: 'X'"),
        ({"prompts": [torch.tensor([[1]])]}, "prompt 1"),
        ({"prompts": [torch.tensor([1, 99])]}, "prompt 1"),
    ],
    ids=str,
)
def test_bad_input(wrong, named):
    with pytest.raises(InputError, match=named):
        generate(tiny_model("mamba"), **{"prompts": ["A"], "length": 2, **wrong})


def test_longer_than_the_filters():
    """A start token, two letters and all added tokens but the last are read: 60 rows, what the filters cover."""
    model = tiny_model("hyena")
    assert generate(model, ["A", "AC"], 58).shape == (2, 58)
    with pytest.raises(InputError, match="a sequence of 61 tokens is longer than the 60"):
        generate(model, ["A", "AC"], 59)


def test_an_empty_prompt_without_a_start_token():
    model = tiny_model("mamba", tokenizer="byte", vocab_size=256)
    with pytest.raises(InputError, match="no start token"):
        generate(model, [""], 2)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (("one stage", {"chunkers": {"kind": "given"}}), "GivenChunker"),
        (("transformer with biases", {"tasks": ["mlm"]}), "next token"),
    ],
    ids=str,
)
def test_models_that_cannot_generate(model, named):
    kind, changes = model
    with pytest.raises(InputError, match=named):
        generate(tiny_model(kind, **changes), ["ACGT"], 3)


@pytest.mark.parametrize("name", ["nucleotide", "byte"])
def test_allowed_ids(name):
    tokenizer = load_tokenizer(name)
    assert sorted(tokenizer.decode(allowed_ids(tokenizer, True).tolist())) == list("ACGT")
    assert len(allowed_ids(tokenizer, False)) == tokenizer.vocab_size


LOGITS = torch.tensor([0.5, 2.0, -1.0, 1.5]).log_softmax(-1)


def frequencies(**how):
    """How often each token is taken, over evenly spaced random numbers."""
    uniform = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    taken = choose(LOGITS.expand(len(uniform), -1), uniform, Sampling(**how))
    return torch.bincount(taken, minlength=4) / len(uniform)


def renormalised(kept):
    weights = LOGITS.exp() * torch.tensor(kept)
    return weights / weights.sum()


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, LOGITS.exp()),
        ({"temperature": 2.0}, (LOGITS / 2).softmax(-1)),
        ({"temperature": 0.0}, torch.tensor([0.0, 1, 0, 0])),
        ({"temperature": 1e-30}, torch.tensor([0.0, 1, 0, 0])),
        ({"top_k": 1}, torch.tensor([0.0, 1, 0, 0])),
        ({"top_k": 2}, renormalised([0, 1, 0, 1])),
        ({"top_k": 9}, LOGITS.exp()),
        ({"top_p": 1e-9}, torch.tensor([0.0, 1, 0, 0])),
        ({"top_p": 0.6}, renormalised([0, 1, 0, 1])),
        ({"top_p": 0.95}, renormalised([1, 1, 0, 1])),
        ({"top_p": 1.0}, LOGITS.exp()),
        ({"top_k": 3, "top_p": 0.6}, renormalised([0, 1, 0, 1])),
    ],
    ids=str,
)
def test_frequencies(how, wanted):
    torch.testing.assert_close(frequencies(**how), wanted.float(), atol=2e-4, rtol=0)


@settings(max_examples=50, deadline=None)
@given(
    logits=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6),
    number=st.floats(0, 1, exclude_max=True),
    top_k=st.none() | st.integers(1, 7),
    top_p=st.none() | st.floats(1e-12, 1),
)
def test_what_is_chosen_is_possible(logits, number, top_k, top_p):
    logits = torch.tensor([logits])
    taken = choose(logits, torch.tensor([number]).double(), Sampling(1.0, top_k, top_p))
    assert logits.double().softmax(-1)[0, taken] > 0
    if top_k is not None:
        assert (logits > logits[0, taken]).sum() < top_k


BPE = {"type": "bpe", "merges": ["A C", "G T", "AC GT", "T A", "C C"]}


@pytest.mark.parametrize("tokenizer", ["codon", BPE], ids=["codon", "bpe"])
def test_tokens_of_several_letters(tokenizer):
    model = tiny_model("one stage", tokenizer=tokenizer, vocab_size=0)
    prompts = ["ACGTTA", "GATTACAGAT", ""]
    found = generate(model, prompts, 12, seed=2)
    assert torch.equal(found, recomputed(model, prompts, 12, seed=2))
    for prompt, ids in zip(prompts, found, strict=True):
        letters = added_letters(model.tokenizer, prompt_ids(model, prompt), ids)
        assert letters == "".join(model.tokenizer.token_letters[i] for i in ids)
        assert set(letters) <= set("ACGT")
        assert len(letters) > 12


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (4, 3)])
def test_overlapping_k_mers_agree_in_what_they_share(k, stride):
    model = tiny_model("mamba", tokenizer={"type": "kmer", "k": k, "stride": stride}, vocab_size=0)
    tokenizer, prompt = model.tokenizer, "ACGTACGTAC"
    begun = prompt_ids(model, prompt)
    for seed in range(3):
        (ids,) = generate(model, [prompt], 30, seed=seed)
        kmers = [tokenizer.token_letters[i] for i in [*begun.tolist(), *ids.tolist()]]
        pairs = [(a, b) for a, b in pairwise(kmers) if len(a) == len(b) == k]
        assert len(pairs) > 10
        assert all(a[stride:] == b[: k - stride] for a, b in pairs)
        assert tokenizer.decode(begun.tolist()) + added_letters(tokenizer, begun, ids) == tokenizer.decode(
            [*begun.tolist(), *ids.tolist()]
        )


def test_rna_is_written_in_its_own_letters():
    tokenizer = load_tokenizer({"type": "kmer", "k": 2, "alphabet": "rna"})
    written = {tokenizer.token_letters[i] for i in allowed_ids(tokenizer, True).tolist()}
    assert len(written) == 20
    assert "UU" in written

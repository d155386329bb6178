"""Models that cut by the entropies of a small model of their own."""

import itertools
import math

import pytest
import torch
from tiny_models import ISOTROPIC, ONE_STAGE, tiny_config, tiny_model

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models import GenomicLM, ModelConfig, entropies
from genotok.models.chunkers.entropy import EntropyChunker, entropy_starts
from genotok.models.entropies import entropy, next_token_entropies

KINDS = ("entropy chunks", "entropy chunks that rise")
LENGTHS = torch.tensor([23, 1, 40, 2, 7])
RULES = [
    {"threshold": threshold, "threshold_add": add, "monotonicity": monotonicity, "max_length": longest}
    for (threshold, add, monotonicity), longest in itertools.product(
        [(1.27, None, False), (1.2, 0.03, False), (0.01, None, True), (99.0, None, False)], [None, 1, 4]
    )
]


def some_ids(lengths=LENGTHS, seed=1):
    return torch.randint(
        0, 5, (len(lengths), int(lengths.max())), generator=torch.Generator().manual_seed(seed)
    )


def entropies_of(model, ids, lengths=LENGTHS):
    """One tensor a sequence."""
    ragged = Ragged.from_lengths(lengths)
    found = next_token_entropies(model, ragged.to_packed(ids), ragged)
    assert found.dtype == torch.float32
    return found.split(lengths.tolist())


def test_entropy_by_hand():
    assert entropy(torch.zeros(3, 4)).tolist() == pytest.approx([math.log(4)] * 3)
    assert entropy(torch.tensor([0.0, -math.inf, 200.0])).item() == 0.0
    half = torch.tensor([[math.log(0.5), math.log(0.25), math.log(0.25)]])
    assert entropy(half).item() == pytest.approx(1.5 * math.log(2))
    assert entropy(half, torch.tensor([2, 1])).item() == pytest.approx(math.log(2))
    assert entropy(half.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_entropies_are_those_of_the_next_nucleotide(kind):
    """Prefix by prefix, over A, C, G and T alone, in plain Python."""
    model, ids = tiny_model(kind).entropy_model, some_ids()
    for row, found in enumerate(entropies_of(model, ids)):
        for t in range(len(found)):
            with torch.no_grad():
                logits = model(ids[row : row + 1, : t + 1]).logits[0, -1, :4].double().tolist()
            total = sum(math.exp(value) for value in logits)
            shares = [math.exp(value) / total for value in logits]
            wanted = -sum(share * math.log(share) for share in shares)
            assert found[t].item() == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_of_the_batch_changes_no_bit(kind):
    model, ids = tiny_model(kind).entropy_model, some_ids()
    for row, found in enumerate(entropies_of(model, ids)):
        alone = next_token_entropies(model, ids[row, : len(found)], Ragged.uniform(1, len(found)))
        assert torch.equal(found, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_later_tokens_do_not_matter(kind):
    model, ids = tiny_model(kind).entropy_model, some_ids()
    changed = ids.clone()
    changed[2, 20:] = (ids[2, 20:] + 1) % 4
    before, after = entropies_of(model, ids)[2], entropies_of(model, changed)[2]
    torch.testing.assert_close(after[:20], before[:20])
    assert not torch.allclose(after[20:], before[20:], atol=1e-4)


def test_long_sequences_are_read_in_blocks(monkeypatch):
    """Of a model with windows; the memory does not grow, and the numbers stay."""
    model, ids = tiny_model("entropy chunks").entropy_model, some_ids(torch.tensor([301]))
    whole = entropies_of(model, ids, torch.tensor([301]))[0]
    seen, run = [], model.backbone.forward
    monkeypatch.setattr(entropies, "BLOCK", 20)
    monkeypatch.setattr(model.backbone, "forward", lambda x, ragged: seen.append(len(x)) or run(x, ragged))
    found = entropies_of(model, ids, torch.tensor([301]))[0]
    assert max(seen) == 20 + 3 * 4
    assert len(seen) == 16
    torch.testing.assert_close(found, whole)


def test_states_are_carried_over_long_sequences(monkeypatch):
    """Of a model of Mamba-2 blocks, segment by segment."""
    model, ids = tiny_model("entropy chunks that rise").entropy_model, some_ids(torch.tensor([101]))
    whole = entropies_of(model, ids, torch.tensor([101]))[0]
    seen, run = [], model.backbone.encoder.prefill

    def watched(x, ragged, **more):
        seen.append(len(x))
        return run(x, ragged, **more)

    monkeypatch.setattr(entropies, "SEGMENT", 25)
    monkeypatch.setattr(model.backbone.encoder, "prefill", watched)
    found = entropies_of(model, ids, torch.tensor([101]))[0]
    assert seen == [25, 25, 25, 25, 1]
    torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("layout", ["t1", "m1"])
def test_models_that_know_places_read_a_sequence_as_a_whole(layout, monkeypatch):
    attention = {**ISOTROPIC["attention"], "window": 2}
    settings = {"layout": [layout], "attention": attention, "positions": {"periods": "fixed"}}
    model, ids = tiny_model("transformer", **settings), some_ids(torch.tensor([90]))
    whole = entropies_of(model, ids, torch.tensor([90]))[0]
    monkeypatch.setattr(entropies, "SEGMENT", 20)
    monkeypatch.setattr(entropies, "BLOCK", 20)
    assert torch.equal(entropies_of(model, ids, torch.tensor([90]))[0], whole)


@pytest.mark.parametrize("kind", KINDS)
def test_several_sequences_a_pass_give_the_same(kind, monkeypatch):
    """What a GPU does: pieces of several sequences in one pass, blocks with the rows in front of them among them."""
    model, ids = tiny_model(kind).entropy_model, some_ids()
    alone = entropies_of(model, ids)
    monkeypatch.setattr(entropies, "BLOCK", 10)
    monkeypatch.setattr(entropies, "_passes", lambda pieces, device: [pieces[:2], pieces[2:]])
    for found, wanted in zip(entropies_of(model, ids), alone, strict=True):
        torch.testing.assert_close(found, wanted)


def test_pieces_fill_a_pass_of_a_gpu():
    pieces = [(0, 0, 100_000), (100_000, 100_000, 130_000), (130_000, 130_000, 140_000)]
    assert entropies._passes(pieces, torch.device("cuda")) == [pieces[:2], pieces[2:]]
    assert entropies._passes(pieces, torch.device("cpu")) == [[piece] for piece in pieces]


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_cuts_by_them(kind):
    model, ids = tiny_model(kind), some_ids()
    found = entropies_of(model.entropy_model, ids)
    ragged = Ragged.from_lengths(LENGTHS)
    chunker = model.backbone.chunker
    wanted = entropy_starts(torch.cat(found), ragged, *chunker.rule, chunker.max_length)
    output = model(ids, lengths=LENGTHS)
    assert torch.equal(output.packed_boundaries[0].mask, wanted)
    assert 0.2 < wanted.float().mean() < 0.8
    padded = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
    given = model(ids, lengths=LENGTHS, boundary_inputs=padded)
    assert torch.equal(given.logits, output.logits)


def test_given_entropies_win():
    model, ids = tiny_model("entropy chunks"), some_ids(torch.tensor([9]))
    inputs = torch.zeros(1, 9)
    inputs[0, 4] = 2.0
    mask = model(ids, boundary_inputs=inputs).boundaries[0].mask
    assert mask[0].tolist() == [True, True, False, False, False, True, False, False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_moves_no_boundary(kind):
    model, ids = tiny_model(kind), some_ids()
    exact = model(ids, lengths=LENGTHS).packed_boundaries[0].mask
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(ids, lengths=LENGTHS).packed_boundaries[0].mask, exact)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_steps_of_the_chunker(rule):
    """Ragged prompts, and steps of some of the sequences, held against the rule on the whole."""
    chunker, random = EntropyChunker(**rule), torch.Generator().manual_seed(2)
    values = 1.1 + 0.28 * torch.rand(5, 40, generator=random)
    wanted = torch.stack([chunker(None, Ragged.uniform(1, 40), row).mask for row in values])
    lengths = torch.tensor([1, 2, 3, 9, 4])
    ragged = Ragged.from_lengths(lengths)
    packed = ragged.to_packed(values)
    prefilled, cache = chunker.prefill(packed, ragged, packed)
    assert torch.equal(prefilled.mask, ragged.to_packed(wanted))
    for step in range(90):
        rows = torch.randperm(5, generator=random)[: 1 + step % 5]
        rows = rows[lengths[rows] < 40]
        part = cache.select(rows)
        found = chunker.step(torch.zeros(len(rows), 1), part)
        assert torch.equal(found.mask, wanted[rows, lengths[rows]])
        part.previous, part.entropy = part.entropy, values[rows, lengths[rows]]
        cache.put(rows, part)
        lengths[rows] += 1
    assert (lengths == 40).all()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_steps_of_the_model(rule):
    settings = {"kind": "entropy", **rule, "model": {**ISOTROPIC, "layout": ["m1t1"]}}
    model, ids = tiny_model("one stage", chunkers=[settings]), some_ids(torch.tensor([20, 20, 20]))
    whole, lengths = model(ids).logits, torch.tensor([1, 3, 7])
    logits, cache = model.prefill(ids[:, :7], lengths)
    torch.testing.assert_close(logits, whole[torch.arange(3), lengths - 1])
    for _ in range(13):
        found = model.step(ids[torch.arange(3), lengths], cache)
        torch.testing.assert_close(found, whole[torch.arange(3), lengths], atol=2e-5, rtol=1e-4)
        lengths += 1


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_frozen(kind, tmp_path):
    model, ids = tiny_model(kind), some_ids()
    model.save_pretrained(tmp_path)
    for one in (GenomicLM(model.config), GenomicLM.from_pretrained(tmp_path), model.requires_grad_()):
        one.train()
        assert one.training
        assert not one.entropy_model.training
        trained = {name for name, parameter in one.named_parameters() if parameter.requires_grad}
        assert trained == {
            name for name, _ in one.named_parameters() if not name.startswith("entropy_model.")
        }
        one(ids, labels=ids, lengths=LENGTHS).loss.backward()
        assert all(parameter.grad is None for parameter in one.entropy_model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_saved_with_the_model(kind, tmp_path):
    model, ids = tiny_model(kind), some_ids()
    model.save_pretrained(tmp_path / "model")
    model.entropy_model.save_pretrained(tmp_path / "entropy")
    again, alone = (GenomicLM.from_pretrained(tmp_path / name) for name in ("model", "entropy"))
    assert again.content_hash() == model.content_hash()
    assert torch.equal(again(ids, lengths=LENGTHS).logits, model(ids, lengths=LENGTHS).logits)
    assert again.entropy_model.content_hash() == alone.content_hash() == model.entropy_model.content_hash()
    with torch.no_grad():
        again.entropy_model.embedding.weight += 1
    assert again.content_hash() != model.content_hash()


def test_the_rest_is_drawn_as_without_it():
    torch.manual_seed(3)
    state = GenomicLM(tiny_config("entropy chunks")).state_dict()
    torch.manual_seed(3)
    without = GenomicLM(tiny_config("entropy chunks", chunkers=[{"kind": "entropy", "threshold": 1}]))
    assert all(torch.equal(state[key], value) for key, value in without.state_dict().items())


def test_the_threshold_takes_the_place_of_a_mean_length():
    settings = {"kind": "entropy", "mean_length": 4, "model": ISOTROPIC}
    model, ids = tiny_model("one stage", chunkers=settings), some_ids()
    assert "threshold" not in model.config.to_dict()["chunkers"][0]
    with pytest.raises(InputError, match=r"^chunkers\[0\].threshold: is not known yet"):
        model(ids, lengths=LENGTHS)
    model.set_entropy_threshold(1.25)
    model(ids, lengths=LENGTHS)
    (saved,) = model.config.to_dict()["chunkers"]
    assert list(saved) == ["kind", "threshold", "threshold_add", "monotonicity", "max_length", "model"]
    assert saved["threshold"] == 1.25
    again = ModelConfig.from_dict(model.config.to_dict())
    assert GenomicLM(again).backbone.chunker.threshold == 1.25


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "chunkers[0].threshold: this key is needed, or mean_length in its place"),
        (
            {"threshold": 1, "mean_length": 4},
            "chunkers[0].threshold: is given, or mean_length in its place; give exactly one",
        ),
        ({"mean_length": 0.5}, "chunkers[0].mean_length: 0.5 should be a number, at least 1"),
        ({"threshold": None}, "chunkers[0].threshold: None should be a number"),
        ({"threshold": 1, "model": "m2"}, "chunkers[0].model: 'm2' should be a model's configuration"),
        (
            {"threshold": 1, "model": {**ISOTROPIC, "d_model": 15}},
            "chunkers[0].model.attention.heads: 2 does not divide d_model 15",
        ),
        (
            {"threshold": 1, "model": {**ISOTROPIC, "tokenizer": "byte"}},
            "chunkers[0].model.tokenizer: is 'byte', and the model's is 'nucleotide'",
        ),
        (
            {"threshold": 1, "model": {**ISOTROPIC, "tasks": ["mlm"]}},
            "chunkers[0].model.tasks: an entropy model predicts the next token",
        ),
        ({"threshold": 1, "model": ONE_STAGE}, "chunkers[0].model.layout: an entropy model has one stage"),
    ],
)
def test_settings_that_do_not_fit_are_said(changes, sentence):
    with pytest.raises(InputError) as error:
        tiny_config("one stage", chunkers=[{"kind": "entropy", **changes}])
    assert str(error.value).startswith(sentence)


def test_without_an_entropy_model_there_are_no_steps():
    model = tiny_model("one stage", chunkers=[{"kind": "entropy", "threshold": 1}])
    with pytest.raises(
        InputError, match="EntropyChunker, and no entropy model of its own, cannot be run step"
    ):
        model.prefill(torch.tensor([[1, 2]]))
    with pytest.raises(
        InputError, match="boundary_inputs: the chunker 'entropy' of the outermost stage needs"
    ):
        model(torch.tensor([[1, 2]]))


def test_the_preset():
    model = GenomicLM(ModelConfig.preset("entropy_dna"))
    assert 100_000 < sum(parameter.numel() for parameter in model.parameters()) < 400_000
    settings = {"kind": "entropy", "threshold": 1.3, "model": model.config.to_dict()}
    assert tiny_config("one stage", chunkers=settings).entropy_model == model.config

"""Every preset, shrunk to a tiny width: what all models must bear."""

import copy
from importlib.resources import files

import pytest
import torch

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.layout import parse_layout

PRESETS = sorted(item.name.removesuffix(".json") for item in (files("genotok.models") / "presets").iterdir())
every_preset = pytest.mark.parametrize("name", PRESETS)
LENGTHS = torch.tensor([19, 1, 30, 0, 2])
MOST_BLOCKS = 2  # of one kind in a row


def shrunk_layout(layout):
    """The same letters, each at most twice in a row."""

    def shorter(blocks):
        letters = iter(blocks)
        return "".join(letter + str(min(int(count), MOST_BLOCKS)) for letter, count in runs(letters))

    def runs(letters):
        letter, digits = None, ""
        for sign in letters:
            if sign.isdigit():
                digits += sign
                continue
            if letter:
                yield letter, digits
            letter, digits = sign, ""
        yield letter, digits

    return [shrunk_layout(part) if isinstance(part, list) else shorter(part) for part in layout]


def shrunk(name, **changes):
    """A model of a preset's architecture with few features; its parameters moved, so that each matters."""
    config = ModelConfig.preset(name)
    values = copy.deepcopy(config.to_dict())
    stages = parse_layout(config.layout).depth
    values["layout"] = shrunk_layout(config.layout)
    values["d_model"] = [16 + 8 * (width > config.d_model[0]) for width in config.d_model]
    values["d_intermediate"] = [24 if width else 0 for width in config.d_intermediate]
    values["attention"] |= {
        "heads": [2] * stages,
        "rotary_dim": [4 if dim else 0 for dim in config.attention.rotary_dim],
        "window": [6 if window >= 0 else -1 for window in config.attention.window],
    }
    values["mamba2"] |= {"d_state": 4, "head_dim": 8, "chunk_size": 8}
    values["hyena"] |= {"max_length": 64, "d_filter": 8, "d_position": 3, "frequency": 1.0}
    torch.manual_seed(5)
    model = GenomicLM(ModelConfig.from_dict({**values, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def some_ids(model, lengths=LENGTHS, seed=1):
    """Nucleotides, or other tokens of sequence where the tokenizer has no single letters."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.tensor(
        sorted({i for word in ("ACGTAC", "TTGACA", "GGGCCC", "AN") for i in model.tokenizer.encode(word)})
    )
    return tokens[torch.randint(0, len(tokens), (len(lengths), int(lengths.max())), generator=random)]


def weighted(output):
    return (output.logits * torch.sin(1 + 7 * output.logits.detach())).sum()


@every_preset
def test_packed_equals_one_by_one(name):
    """Forward and gradients, in each of the preset's tasks, with an empty document in the batch."""
    model = shrunk(name)
    ids, parameters = some_ids(model), [p for p in model.parameters() if p.requires_grad]
    for task in model.config.tasks:
        packed = model(ids, task=task, lengths=LENGTHS)
        total = 0.0
        for row, length in enumerate(LENGTHS):
            if length:
                single = model(ids[row : row + 1, :length], task=task)
                torch.testing.assert_close(
                    packed.logits[row, :length], single.logits[0], atol=1e-5, rtol=1e-5
                )
                total = total + weighted(single)
            assert (packed.logits[row, length:] == 0).all()
        together = torch.autograd.grad(weighted(packed), parameters, allow_unused=True)
        apart = torch.autograd.grad(total, parameters, allow_unused=True)
        for found, wanted in zip(together, apart, strict=True):
            assert (found is None) == (wanted is None)
            if found is not None:
                assert (found - wanted).norm() <= 2e-5 * max(wanted.norm().item(), float(wanted.ndim == 0))


@every_preset
def test_causal_models_do_not_see_the_future(name):
    model = shrunk(name)
    if "lm" not in model.config.tasks:
        pytest.skip("predicts masked tokens from both sides")
    ids = some_ids(model, torch.tensor([30]))
    before = model(ids, task="lm").logits
    for place in (1, 13, 29):
        changed = ids.clone()
        changed[0, place] = ids[0, (ids[0] != ids[0, place]).nonzero()[0, 0]]
        after = model(changed, task="lm").logits
        torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(after[:, place:], before[:, place:], atol=1e-4)


@every_preset
@pytest.mark.parametrize("words", ["A", "AC", "N", "N" * 40])
def test_short_and_empty_handed_input(name, words):
    model = shrunk(name)
    ids = torch.tensor([model.tokenizer.encode(words)])
    for task in model.config.tasks:
        output = model(ids, task=task, labels=ids)
        assert output.logits.isfinite().all()
        output.loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)


CHUNKED = [name for name in PRESETS if ModelConfig.preset(name).chunkers]


@pytest.mark.parametrize("length", [1, 1000], ids=["one token a chunk", "one chunk a document"])
@pytest.mark.parametrize("name", CHUNKED)
def test_chunks_of_extreme_length(name, length):
    model = shrunk(name, chunkers={"kind": "static", "length": length})
    ids = some_ids(model)
    for task in model.config.tasks:
        output = model(ids, task=task, labels=ids, lengths=LENGTHS)
        chunks = output.boundaries[0].mask.sum(1)
        assert torch.equal(chunks, LENGTHS if length == 1 else LENGTHS.clamp(max=1))
        single = model(ids[2:3], task=task).logits
        torch.testing.assert_close(output.logits[2:3, :30], single, atol=1e-5, rtol=1e-5)
        output.loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_empty_documents_change_nothing_else():
    model = shrunk("hnet_2stage_dna")
    ids, kept = some_ids(model), LENGTHS > 0
    whole = model(ids, labels=ids, lengths=LENGTHS, output_hidden_states=True)
    without = model(ids[kept], labels=ids[kept], lengths=LENGTHS[kept], output_hidden_states=True)
    torch.testing.assert_close(whole.loss, without.loss)
    for stage, other in zip(whole.boundaries, without.boundaries, strict=True):
        assert torch.equal(stage.mask[kept], other.mask)
        assert not stage.mask[~kept].any()
    assert [x.shape[:2] for x in whole.hidden_states] == [ids.shape] * len(without.hidden_states)
    with pytest.raises(InputError, match="lengths must hold 2 values from 1 to 30"):
        model(ids[:2], lengths=torch.tensor([0, 0]))

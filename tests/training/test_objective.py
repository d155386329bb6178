"""The ratio loss and the objective."""

import pytest
import torch
from toy_runs import TOY_MODEL, losses_of

from genotok.models import GenomicLM, ModelConfig
from genotok.models.likelihood import next_token_log_likelihood
from genotok.shards.sampler import collate
from genotok.training.objective import ratio_loss, ratio_slope


@pytest.mark.parametrize("target", [2.0, 3.0, 4.0])
def test_ratio_loss_is_the_papers(target):
    prob = torch.tensor([1.0, 0.2, 0.9, 0.1, 0.4], requires_grad=True)
    chosen, likely = 2 / 5, 2.6 / 5
    wanted = target / (target - 1) * ((target - 1) * chosen * likely + (1 - chosen) * (1 - likely))
    loss = ratio_loss(torch.tensor(chosen), prob.mean(), target)
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    loss.backward()
    slope = ratio_slope(torch.tensor(chosen), target).item()
    assert slope == pytest.approx(target / (target - 1) * ((target - 1) * chosen - (1 - chosen)))
    torch.testing.assert_close(prob.grad, torch.full((5,), slope / 5))


def test_ratio_loss_is_1_on_target_and_pulls_towards_it():
    quarter = torch.tensor(0.25)
    assert ratio_loss(quarter, quarter, 4.0).item() == pytest.approx(1.0)
    assert ratio_slope(torch.tensor(0.9), 4.0) > 0 > ratio_slope(torch.tensor(0.05), 4.0)


def test_parts_of_the_objective():
    torch.manual_seed(0)
    layout = {"layout": ["m1", ["m1", ["T1"], "m1"], "m1"], "d_model": 16, "d_intermediate": 24}
    model = GenomicLM(ModelConfig.from_dict({**TOY_MODEL, **layout}))
    ids = [torch.randint(0, 5, (length,)).numpy().astype("uint8") for length in (30, 12)]
    batch = collate(ids, model.tokenizer)
    losses, _ = losses_of(model, batch, [3.0, 2.0], 0.25)
    output = model(batch.input_ids, labels=batch.labels, lengths=batch.lengths)
    ratios = []
    for stage, target in zip(output.boundaries, (3.0, 2.0), strict=True):
        rows = sum(batch.lengths).item() if not ratios else int(output.boundaries[0].mask.sum())
        chosen, likely = stage.mask.sum() / rows, stage.prob.sum() / rows
        ratios.append(target / (target - 1) * ((target - 1) * chosen * likely + (1 - chosen) * (1 - likely)))
    assert losses.nats == pytest.approx(output.loss.item(), rel=1e-6)
    assert losses.ratio == pytest.approx(sum(ratios).item(), rel=1e-6)
    assert losses.total == pytest.approx((output.loss + 0.25 * sum(ratios)).item(), rel=1e-6)
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    (output.loss + 0.25 * sum(ratios)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize(
    "learned", [{"kind": "routing"}, {"kind": "merge", "min_length": 1, "max_length": 6}]
)
def test_only_learned_boundaries_are_steered(learned):
    torch.manual_seed(0)
    layout = {"layout": ["m1", ["m1", ["T1"], "m1"], "m1"], "d_model": 16, "d_intermediate": 24}
    model = {**TOY_MODEL, **layout, "chunkers": [{"kind": "static", "length": 2}, learned]}
    model = GenomicLM(ModelConfig.from_dict(model))
    batch = collate([torch.randint(0, 5, (40,)).numpy().astype("uint8")], model.tokenizer)
    losses, output = losses_of(model, batch, [9.0, 2.0], 0.25)
    stages = output.packed_boundaries
    assert [stage.learned for stage in stages] == [False, True]
    ratio = ratio_loss(stages[1].mask.float().mean(), stages[1].prob.mean(), 2.0)
    assert losses.ratio == pytest.approx(ratio.item(), rel=1e-6)
    assert model.backbone.inner.chunker.key.weight.grad.norm() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk_states": ["mean"], "upsamplers": ["repeat"]},
        {"chunk_states": ["cross_attention"], "upsamplers": [{"kind": "cross_attention", "window": 2}]},
        {"chunkers": [{"kind": "merge", "min_length": 1, "max_length": 4}], "upsamplers": ["repeat"]},
        {"positions": [{"periods": "fixed"}, {"periods": "learned"}], "layout": ["h1", ["H1"], "t1"]},
        {"tie_embeddings": True, "norm": "layer", "mlp": "gelu"},
    ],
    ids=str,
)
def test_a_model_of_the_next_token_uses_all_its_weights(changes):
    """What ranks that each hold the whole model count on, even where the ratio loss weighs nothing."""
    model = GenomicLM(ModelConfig.from_dict({**TOY_MODEL, **changes}))
    ids = [torch.randint(0, 4, (length,)).numpy().astype("uint8") for length in (30, 12)]
    losses_of(model, collate(ids, model.tokenizer), [3.0], 0.0)
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_static_chunks_have_no_ratio_loss():
    model = GenomicLM(ModelConfig.from_dict({**TOY_MODEL, "chunkers": [{"kind": "static", "length": 4}]}))
    batch = collate([torch.arange(4).numpy().astype("uint8")], model.tokenizer)
    losses, _ = losses_of(model, batch, [3.0], 0.5)
    assert losses.ratio == 0
    assert not list(model.backbone.chunker.parameters())


def test_an_isotropic_model_has_no_ratio_loss():
    model = GenomicLM(
        ModelConfig.from_dict({**TOY_MODEL, "layout": ["m1"], "d_model": 16, "d_intermediate": 0})
    )
    batch = collate([torch.arange(4).numpy().astype("uint8")], model.tokenizer)
    losses, _ = losses_of(model, batch, [], 0.5)
    assert losses.ratio == 0
    assert losses.total == losses.nats


@pytest.mark.parametrize(
    "tokenizer", ["codon", {"type": "bpe", "merges": ["A C", "G T", "AC GT"]}, "nucleotide"], ids=str
)
def test_nats_are_a_nucleotides_and_the_loss_is_a_tokens(tokenizer):
    torch.manual_seed(0)
    model = GenomicLM(ModelConfig.from_dict({**TOY_MODEL, "tokenizer": tokenizer}))
    windows = [b"ACGTACGTTNAC", b"GGACGTAC"]
    batch = collate([model.tokenizer.encode_letters(window) for window in windows], model.tokenizer)
    losses, _ = losses_of(model, batch, [3.0], 0.0)
    tokens = next_token_log_likelihood(model, batch.input_ids, batch.labels, batch.lengths)[0]
    assert losses.nats == pytest.approx(-tokens.sum().item() / 19, rel=1e-5)
    counted = sum(
        model.tokenizer.is_nucleotide[model.tokenizer.encode(window.decode())].sum() for window in windows
    )
    assert losses.total == pytest.approx(-tokens.sum().item() / counted, rel=1e-5)

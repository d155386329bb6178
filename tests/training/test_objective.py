"""The ratio loss and the objective."""

import pytest
import torch
from toy_runs import TOY_MODEL

from genotok.kernels.ragged import Ragged
from genotok.models import GenomicLM, ModelConfig
from genotok.models.chunkers.routing import Boundaries
from genotok.models.likelihood import next_token_log_likelihood
from genotok.shards.sampler import collate
from genotok.training.objective import objective, ratio_loss


def boundaries(prob):
    prob = torch.tensor(prob, requires_grad=True)
    return Boundaries(prob, prob > 0.5, Ragged.uniform(1, len(prob)))


@pytest.mark.parametrize("target", [2.0, 3.0, 4.0])
def test_ratio_loss_is_the_papers(target):
    stage = boundaries([1.0, 0.2, 0.9, 0.1, 0.4])
    chosen, likely = 2 / 5, 2.6 / 5
    wanted = target / (target - 1) * ((target - 1) * chosen * likely + (1 - chosen) * (1 - likely))
    loss = ratio_loss(stage, target)
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    loss.backward()
    slope = target / (target - 1) * ((target - 1) * chosen - (1 - chosen)) / 5
    torch.testing.assert_close(stage.prob.grad, torch.full((5,), slope))


def test_ratio_loss_is_1_on_target_and_pulls_towards_it():
    assert ratio_loss(boundaries([1.0, 0.0, 0.0, 0.0] * 5), 4.0).item() == pytest.approx(1.0)
    often, seldom = boundaries([1.0, 0.9, 0.8, 0.9]), boundaries([1.0] + [0.1] * 19)
    for stage, sign in ((often, 1), (seldom, -1)):
        ratio_loss(stage, 4.0).backward()
        assert (sign * stage.prob.grad > 0).all()


def test_parts_of_the_objective():
    torch.manual_seed(0)
    layout = {"layout": ["m1", ["m1", ["T1"], "m1"], "m1"], "d_model": 16, "d_intermediate": 24}
    model = GenomicLM(ModelConfig.from_dict({**TOY_MODEL, **layout}))
    ids = [torch.randint(0, 5, (length,)).numpy().astype("uint8") for length in (30, 12)]
    batch = collate(ids, model.tokenizer)
    losses = objective(model, batch, [3.0, 2.0], 0.25)
    output = model(batch.input_ids, labels=batch.labels, lengths=batch.lengths)
    ratios = []
    for stage, target in zip(output.boundaries, (3.0, 2.0), strict=True):
        rows = sum(batch.lengths).item() if not ratios else int(output.boundaries[0].mask.sum())
        chosen, likely = stage.mask.sum() / rows, stage.prob.sum() / rows
        ratios.append(target / (target - 1) * ((target - 1) * chosen * likely + (1 - chosen) * (1 - likely)))
    torch.testing.assert_close(losses.nats, output.loss)
    torch.testing.assert_close(losses.ratio, sum(ratios))
    torch.testing.assert_close(losses.total, output.loss + 0.25 * sum(ratios))


@pytest.mark.parametrize(
    "learned", [{"kind": "routing"}, {"kind": "merge", "min_length": 1, "max_length": 6}]
)
def test_only_learned_boundaries_are_steered(learned):
    torch.manual_seed(0)
    layout = {"layout": ["m1", ["m1", ["T1"], "m1"], "m1"], "d_model": 16, "d_intermediate": 24}
    model = {**TOY_MODEL, **layout, "chunkers": [{"kind": "static", "length": 2}, learned]}
    model = GenomicLM(ModelConfig.from_dict(model))
    batch = collate([torch.randint(0, 5, (40,)).numpy().astype("uint8")], model.tokenizer)
    losses = objective(model, batch, [9.0, 2.0], 0.25)
    stages = losses.output.packed_boundaries
    assert [stage.learned for stage in stages] == [False, True]
    torch.testing.assert_close(losses.ratio, ratio_loss(stages[1], 2.0))
    (gradient,) = torch.autograd.grad(losses.ratio, model.backbone.inner.chunker.key.weight)
    assert gradient.norm() > 0


def test_static_chunks_have_no_ratio_loss():
    model = GenomicLM(ModelConfig.from_dict({**TOY_MODEL, "chunkers": [{"kind": "static", "length": 4}]}))
    batch = collate([torch.arange(4).numpy().astype("uint8")], model.tokenizer)
    losses = objective(model, batch, [3.0], 0.5)
    assert losses.ratio == 0
    losses.total.backward()
    assert not list(model.backbone.chunker.parameters())


def test_an_isotropic_model_has_no_ratio_loss():
    model = GenomicLM(
        ModelConfig.from_dict({**TOY_MODEL, "layout": ["m1"], "d_model": 16, "d_intermediate": 0})
    )
    batch = collate([torch.arange(4).numpy().astype("uint8")], model.tokenizer)
    losses = objective(model, batch, [], 0.5)
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
    losses = objective(model, batch, [3.0], 0.0)
    tokens = next_token_log_likelihood(model, batch.input_ids, batch.labels, batch.lengths)[0]
    assert losses.nats.item() == pytest.approx(-tokens.sum().item() / 19, rel=1e-5)
    counted = sum(
        model.tokenizer.is_nucleotide[model.tokenizer.encode(window.decode())].sum() for window in windows
    )
    assert losses.total.item() == pytest.approx(-tokens.sum().item() / counted, rel=1e-5)

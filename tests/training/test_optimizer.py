"""Who decays, and who learns how fast."""

import math

import pytest
import torch
from toy_runs import TOY_MODEL, toy_config

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.training.optimizer import make_optimizer, stage_factors
from genotok.training.schedule import warmup_stable_decay

THREE_STAGES = {
    **TOY_MODEL,
    "layout": ["m1", ["T1m1", ["M1T1"], "m1"], "T1"],
    "d_model": [16, 24, 32],
    "d_intermediate": 32,
}


def make(model=THREE_STAGES, **changes):
    model = GenomicLM(ModelConfig.from_dict(model))
    return model, toy_config("shards", target_chunk_length=[3.0, 2.0], **changes)


def groups_by_name(model, optimizer):
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[parameter] not in found
            found[names[parameter]] = group
    assert set(found) == set(names.values())
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_only_the_weights_of_linear_layers_decay(tied):
    model, config = make({**THREE_STAGES, "tie_embeddings": tied}, weight_decay=0.25)
    linear = (
        *("in_proj.weight", "mixer.out.weight", "qkv.weight", "value_gate.weight", "mlp.out.weight"),
        *("query.weight", "key.weight", "skip.weight", "head.weight"),
    )
    for name, group in groups_by_name(model, make_optimizer(model, config)).items():
        assert group["weight_decay"] == (0.25 if name.endswith(linear) else 0.0), name


@pytest.mark.parametrize("kind", [{}, {"mlp": "gelu", "layout": ["m1", ["H1m1", ["M1T1"], "h1"], "H1"]}])
def test_learning_rates_of_the_stages(kind):
    model, config = make({**THREE_STAGES, **kind}, learning_rate=0.5, stage_learning_rates=[3.0, 2.0, 1.0])
    for name, group in groups_by_name(model, make_optimizer(model, config)).items():
        stage = 2 if "inner.inner." in name else 1 if "inner." in name else 0
        assert group["lr"] == group["base_lr"] == 0.5 * [3.0, 2.0, 1.0][stage]


def test_factors_from_chunk_lengths_and_widths():
    """sqrt(tokens of the stage for each token of the innermost * innermost width / width)."""
    model, config = make()
    wanted = [math.sqrt(3 * 2 * 32 / 16), math.sqrt(2 * 32 / 24), 1.0]
    assert stage_factors(model, config) == pytest.approx(wanted)
    isotropic = GenomicLM(
        ModelConfig.from_dict({**TOY_MODEL, "layout": ["m1"], "d_model": 16, "d_intermediate": 0})
    )
    assert stage_factors(isotropic, toy_config("shards", target_chunk_length=[])) == [1.0]


def test_static_chunks_count_with_their_own_length():
    chunkers = [{"kind": "static", "length": 5}, {"kind": "merge", "min_length": 1, "max_length": 9}]
    model, config = make({**THREE_STAGES, "chunkers": chunkers})
    wanted = [math.sqrt(5 * 2 * 32 / 16), math.sqrt(2 * 32 / 24), 1.0]
    assert stage_factors(model, config) == pytest.approx(wanted)
    decays = {
        name: group["weight_decay"]
        for name, group in groups_by_name(model, make_optimizer(model, config)).items()
    }
    assert decays["backbone.inner.chunker.key.weight"] > 0
    assert all(
        decays[f"backbone.inner.chunker.{name}"] == 0 for name in ("memory", "log_sharpness", "offset")
    )


def test_decay_pulls_matrices_alone():
    """With zero gradients, one step of AdamW is the decay."""
    model, config = make(weight_decay=0.1, learning_rate=0.01, stage_learning_rates=[1.0, 1.0, 1.0])
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    for name in decayed:
        torch.testing.assert_close(model.get_parameter(name), before[name] * (1 - 0.01 * 0.1))
    assert "backbone.encoder.blocks.0.mixer.in_proj.weight" in decayed
    assert not any("norm" in name or "bias" in name or "a_log" in name for name in decayed)


def test_frozen_parameters_are_left_out():
    model, config = make(weight_decay=0.1)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("inner.inner." not in name)
    trained = {p for group in make_optimizer(model, config).param_groups for p in group["params"]}
    assert trained == {p for name, p in model.named_parameters() if "inner.inner." not in name}
    model.requires_grad_(False)
    with pytest.raises(InputError, match="every parameter of the model is frozen"):
        make_optimizer(model, config)


def test_schedule():
    rates = [warmup_stable_decay(step, 100, 0.1, 0.2) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == pytest.approx([1 - math.sqrt(i / 20) for i in range(20)])


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 999])
@pytest.mark.parametrize(("warmup", "decay"), [(0, 0), (0.5, 0.5), (0.99, 0), (0, 0.99), (0.3, 0.7)])
def test_every_step_learns(steps, warmup, decay):
    rates = [warmup_stable_decay(step, steps, warmup, decay) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)

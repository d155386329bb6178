"""`light` and `projections`: less is kept for the backward pass, and gradients are those of `none` bit by bit."""

import gc
import weakref

import pytest
import torch
from toy_runs import TOY_MODEL

from genotok.errors import InputError
from genotok.kernels import less_kept
from genotok.kernels.backend import reference_is_asked_for, reference_kernels
from genotok.kernels.less_kept import Level, cheap, product
from genotok.models import GenomicLM, ModelConfig
from genotok.training import block_execution
from genotok.training.block_execution import LESS_KEPT, run_blocks
from genotok.training.config import LoraConfig, TrainConfig
from genotok.training.float8 import put_float8_into_main_network
from genotok.training.lora import add_adapters

WIDE = {**TOY_MODEL, "layout": ["m1T1", ["T1M1"], "m1"], "d_intermediate": [32, 32], "d_model": [16, 32]}
MODELS = {
    "rms": WIDE,
    "layer": {**WIDE, "norm": "layer", "mlp": "gelu", "layout": ["h1", ["H1T1"], "h1"]},
    "shared keys": {**WIDE, "attention": {**WIDE["attention"], "heads": 4, "kv_heads": 2}},
    "cross": {
        **WIDE,
        "chunk_states": ["cross_attention"],
        "upsamplers": [{"kind": "cross_attention", "window": 2}],
    },
}
POLICIES = ["light", "projections"]


def gradients(config, policy, precision=None, change=lambda model: None, passes=1, compiled=False):
    """The loss of a ragged batch and the gradient of every weight."""
    torch.manual_seed(0)
    model = GenomicLM(ModelConfig.from_dict(config))
    change(model)
    run_blocks(model, policy, compiled)
    ids = torch.randint(4, 8, (3, 30))
    with torch.autocast("cpu", precision or torch.bfloat16, precision is not None):
        loss = model(ids, labels=ids, lengths=torch.tensor([30, 12, 25])).loss
    for k in range(passes):
        loss.backward(retain_graph=k + 1 < passes)
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def assert_equal(found, wanted):
    assert len(found) == len(wanted) > 10
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


@pytest.fixture
def worked_out(monkeypatch):
    """How often something was worked out again."""
    calls, read = [], less_kept._Again.read
    monkeypatch.setattr(less_kept._Again, "read", lambda again: (calls.append(again), read(again))[1])
    return calls


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, half) for name in MODELS for half in (None, torch.bfloat16)), ("rms", torch.float16)],
    ids=str,
)
def test_gradients_are_those_of_keeping_all(name, precision, policy, worked_out):
    wanted = gradients(MODELS[name], "none", precision)
    assert not worked_out
    assert_equal(gradients(MODELS[name], policy, precision), wanted)
    assert worked_out


@pytest.mark.parametrize("policy", POLICIES)
def test_layers_that_are_not_plain_ones(policy, worked_out):
    def adapt(model):
        add_adapters(
            model, LoraConfig(rank=2, targets=["*in_proj", "*value_gate", "*qkv"]), heads_learn=False
        )

    for change in (put_float8_into_main_network, adapt):
        wanted = gradients(WIDE, "none", torch.bfloat16, change)
        assert_equal(gradients(WIDE, policy, torch.bfloat16, change), wanted)
    assert worked_out


@pytest.mark.parametrize("policy", POLICIES)
def test_a_graph_that_is_read_twice(policy):
    assert_equal(gradients(WIDE, policy, passes=2), gradients(WIDE, "none", passes=2))


def test_beside_compiled_blocks(monkeypatch, capsys, worked_out):
    torch._dynamo.reset()
    compiled = torch.compile
    monkeypatch.setattr(block_execution._Compiled, "possible", True)
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic: compiled(function, dynamic=dynamic, backend="aot_eager")
    )
    flat = {**WIDE, "layout": ["T1M1"], "d_model": [16], "d_intermediate": [24]}
    assert_equal(gradients(flat, "projections", compiled=True), gradients(flat, "none", compiled=True))
    assert worked_out
    assert capsys.readouterr().err == ""


def chain(x, level, weight):
    """A product of a product of a cheap value, and references to both on the way."""
    with less_kept.less_kept(level):
        doubled = cheap(torch.mul, x, 2.0)
        first = product(torch.mm, doubled, weight)
        out = first.exp() @ weight + doubled @ weight
        return out.sum(), weakref.ref(doubled), weakref.ref(first)


def test_what_is_not_kept_is_gone_at_once_and_read_once():
    x, weight = torch.randn(5, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        wanted = torch.autograd.grad(chain(x, Level.NOTHING, weight)[0], [x, weight])
        for level in (Level.LIGHT, Level.PRODUCTS):
            out, doubled, first = chain(x, level, weight)
            assert doubled() is None
            assert first() is None
            found = torch.autograd.grad(out, [x, weight])
            assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    finally:
        gc.enable()


def test_a_value_is_worked_out_once_for_all_its_readers():
    calls = []

    def doubled(x):
        calls.append(torch.is_grad_enabled())
        return 2 * x

    x, weight = torch.randn(5, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    with less_kept.less_kept(Level.PRODUCTS):
        value = cheap(doubled, x)
        out = sum(part @ weight for part in (value, value, product(torch.mm, value, weight)))
    assert calls == [True]
    out.sum().backward()
    assert calls == [True, False]


def test_the_way_of_the_forward_pass_is_that_of_the_backward_pass():
    """Its autocast, and whether it runs the references."""
    seen = []

    def doubled(x):
        seen.append(
            (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), reference_is_asked_for())
        )
        return 2 * x

    x = torch.randn(5, 4, requires_grad=True)
    with less_kept.less_kept(Level.LIGHT), reference_kernels(), torch.autocast("cpu", torch.float16):
        loss = (cheap(doubled, x) ** 2).sum()
    loss.backward()
    assert seen == [(True, torch.float16, True)] * 2


def test_every_value_of_the_setting_runs():
    for value in (*LESS_KEPT, "blocks"):
        TrainConfig(shards="toy", model=TOY_MODEL, steps=1, activation_checkpointing=value)
    with pytest.raises(InputError, match="none, light, projections or blocks"):
        TrainConfig(shards="toy", model=TOY_MODEL, steps=1, activation_checkpointing="all")


def test_without_gradients_nothing_is_remembered(worked_out):
    x = torch.randn(5, 4)
    with torch.no_grad(), less_kept.less_kept(Level.LIGHT):
        assert less_kept._current.get() is None
    same = torch.randn(3, 4, requires_grad=True)
    with less_kept.less_kept(Level.LIGHT):
        value = cheap(torch.Tensor.float, same)  # the tensor itself, which is no value of its own
        loss = (value @ x.t()).exp().sum()
    loss.backward()
    assert same.grad is not None
    assert not worked_out

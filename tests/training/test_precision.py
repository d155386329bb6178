"""Number formats: what each task gets, what stays float32, loss scaling, and float8 in the main network."""

import copy
import json
import math

import pytest
import torch
from toy_runs import TOY_MODEL, toy_config

from genotok.errors import InputError
from genotok.kernels.ema import ema_scan, ema_step
from genotok.kernels.ragged import Ragged
from genotok.kernels.ssd import ssd, ssd_step, ssd_with_states
from genotok.models import GenomicLM, ModelConfig
from genotok.training.float8 import Float8Linear
from genotok.training.precision import SMALLEST_LOSS_SCALE, Precision, autocast, choose_precision

CPU = torch.device("cpu")
WIDE = {**TOY_MODEL, "layout": ["m1", ["T2"], "m1"], "d_model": [16, 32]}
HALVES = [torch.bfloat16, torch.float16]


def tiny_model(seed=0, **changes):
    torch.manual_seed(seed)
    return GenomicLM(ModelConfig.from_dict(TOY_MODEL | changes))


def some_ids(seed=1, rows=4, length=40):
    return torch.randint(4, 8, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_presets_of_the_tasks_on_a_cpu():
    config = tiny_model().config
    for task in ("lm", "mlm", "prediction"):
        assert choose_precision("auto", CPU, task, config) == "fp32"
    assert choose_precision("fp16", CPU, "lm", config) == "fp16"


class Gpu:
    """What torch says of a GPU, for machines without one."""

    type = "cuda"

    def __init__(self, monkeypatch, capability, bf16):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Test")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)


@pytest.mark.parametrize(
    ("capability", "bf16", "usual", "fp8"), [((9, 0), True, "bf16", "fp8"), ((7, 0), False, "fp16", "bf16")]
)
def test_presets_of_the_tasks_on_a_gpu(capability, bf16, usual, fp8, monkeypatch, capsys):
    gpu = Gpu(monkeypatch, capability, bf16)
    classes = {"heads": {"c": {"kind": "classification", "outputs": 2}}, "tasks": ["lm", "prediction"]}
    numbers = {"heads": {"n": {"kind": "regression", "outputs": 1}}, "tasks": ["lm", "prediction"]}
    with_classes, with_numbers = (tiny_model(**heads).config for heads in (classes, numbers))
    assert choose_precision("auto", gpu, "lm", with_classes) == usual
    assert choose_precision("auto", gpu, "mlm", with_numbers) == usual
    assert choose_precision("auto", gpu, "prediction", with_classes) == usual
    assert choose_precision("auto", gpu, "prediction", with_numbers) == "fp32"
    assert choose_precision("fp8", gpu, "lm", with_classes) == fp8
    assert ("NVIDIA Test; the run goes on in bf16" in capsys.readouterr().err) == (fp8 == "bf16")


def test_fp8_without_such_a_device_is_bf16_and_says_so(capsys):
    assert choose_precision("fp8", CPU, "lm", tiny_model().config) == "bf16"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "fp8 needs a GPU with float8 products" in said
    assert "this is a CPU; the run goes on in bf16" in said


def test_an_unknown_precision_is_refused(toy_shards):
    with pytest.raises(InputError, match="precision: is 'fp64' and must be auto, fp32, bf16, fp16 or fp8"):
        toy_config(toy_shards, precision="fp64")


@pytest.mark.parametrize("half", HALVES)
def test_recurrences_are_float32_under_autocast(half):
    """To the last bit what they are without, when given the same numbers."""
    torch.manual_seed(0)
    ragged = Ragged.from_lengths(torch.tensor([70, 30]))
    x, dt, a = torch.randn(100, 2, 8), torch.rand(100, 2), -torch.rand(2) * 8
    b, c, p = torch.randn(100, 1, 4), torch.randn(100, 1, 4), torch.rand(100)
    chunks = torch.randn(100, 16)

    def run():
        state = torch.zeros(100, 2, 4, 8)
        return [
            ssd(x, dt, a, b, c, ragged, 16),
            *ssd_with_states(x, dt, a, b, c, ragged, None, 16),
            *ssd_step(x, dt, a, b, c, state),
            ema_scan(chunks, p, ragged),
            ema_step(chunks, p, torch.ones_like(chunks)),
        ]

    wanted = run()
    with torch.autocast("cpu", dtype=half):
        found = run()
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_states_of_a_model_are_float32_under_autocast(precision):
    """Those of the state spaces and of the moving average, as a cache holds them, and the residual stream."""
    model, ids = tiny_model(), some_ids()
    streams = []
    model.backbone.decoder.blocks[0].register_forward_hook(lambda *seen: streams.append(seen[2][0]))
    with autocast(CPU, precision):
        model(ids)
        cache = model(ids, use_cache=True).cache
    states = [cache.encoder.blocks[0].state, cache.decoder.blocks[0].state, cache.upsampler.value, *streams]
    assert [state.dtype for state in states] == [torch.float32] * 4


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 2e-2), ("fp16", 4e-3)])
def test_losses_and_gradients_are_near_those_of_float32(precision, tolerance):
    """Boundaries are given, since a probability at one half may fall to either side."""
    ids = some_ids()
    begins = torch.rand(ids.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    found = {}
    for name in ("fp32", precision):
        model = tiny_model(chunkers=[{"kind": "given"}])
        of_run = Precision(name, CPU, model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with of_run.autocast():
            loss = model(ids, labels=ids, boundary_inputs=begins).loss
        of_run.backward(loss)
        of_run.unscale(optimizer)
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found[name] = loss.item(), gradient
    (loss, gradient), (wanted_loss, wanted_gradient) = found[precision], found["fp32"]
    assert loss == pytest.approx(wanted_loss, rel=tolerance)
    assert loss != wanted_loss
    assert gradient.dtype == torch.float32
    assert (gradient - wanted_gradient).norm() / wanted_gradient.norm() < 2 * tolerance


class Scaled:
    """A weight whose gradient is what the test wants."""

    def __init__(self, name="fp16"):
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.optimizer = torch.optim.SGD([self.weight], lr=1.0)
        self.precision = Precision(name, CPU, tiny_model())

    def step(self, factor):
        self.precision.backward((self.weight * factor).sum())
        self.precision.unscale(self.optimizer)
        gradient = self.weight.grad.clone()
        done = self.precision.step(self.optimizer)
        self.optimizer.zero_grad()
        return done, gradient


def test_overflow_leaves_a_step_out_and_halves_the_scale():
    scaled = Scaled()
    assert scaled.precision.record() == {"loss_scale": 65536.0, "skipped_steps": 0}
    done, gradient = scaled.step(0.25)
    assert done
    assert gradient.tolist() == [0.25] * 3
    assert scaled.weight.tolist() == [0.75] * 3
    done, _ = scaled.step(1e38)
    assert not done
    assert scaled.weight.tolist() == [0.75] * 3
    assert scaled.precision.record() == {"loss_scale": 32768.0, "skipped_steps": 1}
    assert scaled.step(0.25)[0]


def test_the_scale_goes_on_where_it_was():
    first, second = Scaled(), Scaled()
    for factor in (1.0, math.inf, 1.0, math.inf):
        first.step(factor)
    second.precision.restore(json.loads(json.dumps(first.precision.state())))
    assert (
        second.precision.record() == first.precision.record() == {"loss_scale": 16384.0, "skipped_steps": 2}
    )
    assert second.precision.state() == first.precision.state()


def test_a_scale_that_only_falls_is_lost():
    scaled = Scaled()
    while not scaled.precision.is_lost:
        scaled.step(math.nan)
    assert scaled.precision.skipped == 33  # from 2^16 to under 2^-16
    assert scaled.precision.loss_scale < SMALLEST_LOSS_SCALE


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_others_do_not_scale(name):
    scaled = Scaled(name)
    assert scaled.step(0.25)[0]
    assert scaled.step(math.inf)[0]
    precision = scaled.precision
    assert (precision.record(), precision.state(), precision.is_lost) == ({}, {}, False)
    precision.restore({})


def test_float8_is_for_the_matrices_of_the_main_network_alone():
    model = tiny_model(**{key: WIDE[key] for key in ("layout", "d_model")})
    before, same = {name: p.clone() for name, p in model.named_parameters()}, copy.deepcopy(model)
    Precision("fp8", CPU, model)
    changed = {name for name, module in model.named_modules() if isinstance(module, Float8Linear)}
    inner = [f"backbone.inner.encoder.blocks.{block}" for block in (0, 1)]
    parts = ("mixer.qkv", "mixer.out", "mlp.value_gate", "mlp.out")
    assert changed == {f"{block}.{part}" for block in inner for part in parts}
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(
        torch.equal(after[name], before[name]) and after[name].dtype == torch.float32 for name in before
    )
    assert model.content_hash() == same.content_hash()
    ids = some_ids()
    with autocast(CPU, "bf16"), torch.no_grad():
        assert torch.equal(model.eval()(ids).logits, same.eval()(ids).logits)  # evaluation has no float8
        assert not torch.equal(model.train()(ids).logits, same.train()(ids).logits)


def test_widths_that_do_not_fit_are_said(capsys):
    model = tiny_model(d_model=[16, 24], d_intermediate=[0, 40])
    Precision("fp8", CPU, model)
    assert not [module for module in model.modules() if isinstance(module, Float8Linear)]
    assert "no layer of the main network fits fp8, and the run is bf16" in capsys.readouterr().err


def test_a_model_learns_in_float8_as_in_bfloat16():
    """On the simulation; the losses of the last steps are within 2 %."""
    losses = {}
    for name in ("bf16", "fp8"):
        model = tiny_model(
            **{key: WIDE[key] for key in ("layout", "d_model")}, chunkers=[{"kind": "static", "length": 3}]
        )
        precision = Precision(name, CPU, model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses[name] = []
        for step in range(40):
            ids = some_ids(seed=step % 4)
            with precision.autocast():
                loss = model(ids, labels=ids).loss
            precision.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses[name].append(loss.item())
    late = {name: sum(values[-8:]) / 8 for name, values in losses.items()}
    assert late["bf16"] < 0.6 * losses["bf16"][0]
    assert late["fp8"] == pytest.approx(late["bf16"], rel=0.02)
    assert losses["fp8"] != losses["bf16"]

"""Numbers about stages against slow counts, and about speed against what a clock of the test says."""

import math
import time
from pathlib import Path

import pytest
import torch
from scipy.stats import entropy
from toy_runs import TOY_MODEL

from genotok.models import GenomicLM, ModelConfig
from genotok.models.cost import model_cost, training_flops
from genotok.training import speed
from genotok.training.config import TrainConfig
from genotok.training.optimizer import make_optimizer
from genotok.training.stage_gradients import gradient_norms, learning_rates
from genotok.training.stages import StageNumbers, binary_entropy, chunk_record

CPU = torch.device("cpu")
CONFIG = ModelConfig.from_dict(TOY_MODEL)


def test_binary_entropy_against_scipy():
    probability = torch.tensor([0.0, 1e-6, 0.01, 0.3, 0.5, 0.9, 1.0])
    wanted = [entropy([p, 1 - p], base=2) for p in probability.double().tolist()]
    assert binary_entropy(probability).tolist() == pytest.approx(wanted, abs=1e-6)


def test_letters_a_chunk_of_inner_stages_and_of_no_stage():
    stages = [StageNumbers(100, 40, 0.5, True), StageNumbers(40, 10, 0.0, False)]
    assert chunk_record(stages, 300)["letters_per_chunk"] == [7.5, 30.0]
    assert chunk_record([], 300) == {"chunk_fraction": [], "letters_per_chunk": [], "boundary_entropy": []}


def test_gradient_norms_and_learning_rates_of_stages():
    torch.manual_seed(0)
    model, ids = GenomicLM(CONFIG), torch.randint(4, 8, (2, 30))
    optimizer = make_optimizer(
        model, TrainConfig(shards="-", model=TOY_MODEL, steps=1, target_chunk_length=[3.0])
    )
    model(ids, labels=ids).loss.backward()
    squares = [0.0, 0.0]
    for name, parameter in model.named_parameters():
        squares["backbone.inner." in name] += parameter.grad.double().square().sum().item()
    found = gradient_norms(optimizer, 2).tolist()
    assert found == pytest.approx([math.sqrt(square) for square in squares], rel=1e-5)
    whole = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
    assert math.hypot(*found) == pytest.approx(whole, rel=1e-5)
    outer, inner = learning_rates(optimizer, 2)
    assert (inner, outer) == pytest.approx((1e-3, 1e-3 * math.sqrt(3 * 24 / 16)))


def test_a_frozen_stage_has_norm_and_rate_0():
    model = GenomicLM(CONFIG)
    model.backbone.inner.requires_grad_(False)
    optimizer = make_optimizer(
        model, TrainConfig(shards="-", model=TOY_MODEL, steps=1, target_chunk_length=[3.0])
    )
    ids = torch.randint(4, 8, (2, 30))
    model(ids, labels=ids).loss.backward()
    outer, inner = gradient_norms(optimizer, 2).tolist()
    assert outer > 0
    assert (inner, learning_rates(optimizer, 2)[1]) == (0, 0)


def test_operations_of_training():
    """Three times the forward pass, which `genotok info` prints; an entropy model is run forward alone."""
    assert training_flops(CONFIG, 100, [2.5]) == pytest.approx(3 * model_cost(CONFIG, 100, [2.5]).flops.total)
    small = {
        **TOY_MODEL,
        "layout": ["m1"],
        "d_model": [16],
        "d_intermediate": [0],
        "tokenizer": CONFIG.tokenizer,
    }
    chunker = {"kind": "entropy", "threshold": 1.0, "model": small}
    config = ModelConfig.from_dict({**TOY_MODEL, "chunkers": [chunker]})
    cost = model_cost(config, 100, [2.5])
    (own,) = [part.flops.total for part in cost.parts if part.name == "entropy model"]
    assert training_flops(config, 100, [2.5]) == pytest.approx(3 * cost.flops.total - 2 * own)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("Abacus 3000", None),
    ],
)
def test_peaks(name, tflops, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert speed.peak_flops(torch.device("cuda")) == (tflops and tflops * 1e12)
    assert speed.peak_flops(CPU) is None


def test_speed(monkeypatch):
    monkeypatch.setattr(speed, "peak_flops", lambda device: 1e9)
    counted, clock = speed.Speed(CONFIG, CPU, "bases", ranks=2), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for _ in range(2):
        with counted.step():
            with counted.waiting():
                clock[0] += 0.5
            clock[0] += 1.5
            counted.add(1000, 4, 1004)
        clock[0] += 77  # validation
    found = counted.record([StageNumbers(1004, 502, 0.5, True)])
    assert found.pop("memory_bytes") > 1e7
    mfu = 8 * training_flops(CONFIG, 251, [2.0]) / 4.0 / 2e9
    assert found.pop("mfu") == pytest.approx(mfu)
    assert found == {"bases_per_second": 500.0, "waiting_share": 0.25, "seconds": 4.0, "steps": 2}
    assert counted.record([StageNumbers(1004, 502, 0.5, True)])["steps"] == 0


def test_no_use_of_a_device_whose_peak_is_not_known():
    counted = speed.Speed(CONFIG, CPU, "sequences")
    with counted.step():
        counted.add(4, 4, 100)
    found = counted.record([StageNumbers(100, 50, 0.5, True)])
    assert "mfu" not in found
    assert found["sequences_per_second"] > 0


def test_memory_of_this_process():
    before = speed.peak_memory(CPU)
    held = torch.ones(int(60e6), dtype=torch.float32)
    assert held.sum() > 0
    status = Path("/proc/self/status").read_text()
    resident = int(status.split("VmHWM:")[1].split()[0]) * 1024
    assert speed.peak_memory(CPU) >= before
    assert speed.peak_memory(CPU) == pytest.approx(resident, rel=0.05)

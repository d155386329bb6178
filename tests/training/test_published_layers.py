"""Runs that begin with published layers."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from toy_runs import TOY_MODEL, results, toy_config, train

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.pretrained import load_ntv2_weights
from genotok.settings import parse_settings
from genotok.training.config import MainNetwork, TrainConfig
from genotok.training.loop import Trainer

WEIGHTS = Path(__file__).parents[1] / "data" / "ntv2" / "ntv2_tiny.safetensors"
MODEL = {
    **TOY_MODEL,
    "layout": ["m1", ["T2"], "m1"],
    "d_model": [16, 64],
    "d_intermediate": [0, 128],
    "attention": {"heads": [2, 4], "rotary_dim": [4, 16], "window": -1, "bias": True},
    "norm": "layer",
}
INNER = "backbone.inner.encoder."


def settings(path=WEIGHTS, **changes):
    published = MainNetwork(str(path), **{"freeze": True, **changes})
    return {"model": MODEL, "main_network": published, "steps": 6, "checkpoint_every": 3, "validate_every": 0}


@torch.no_grad()
def parts(folder):
    """Parameters of a run's model, and what they would be in a model that has only the published layers."""
    model = GenomicLM.from_pretrained(folder)
    published = GenomicLM(model.config)
    load_ntv2_weights(published, WEIGHTS)
    return dict(model.named_parameters()), dict(published.named_parameters())


def test_frozen_layers_stay_and_the_rest_learns(toy_shards, tmp_path, capsys):
    trainer = train(toy_shards, tmp_path / "run", **settings())
    found, published = parts(tmp_path / "run")
    start = dict(Trainer(toy_config(toy_shards, **settings()), tmp_path / "new").model.named_parameters())
    for name, parameter in found.items():
        inner = name.startswith(INNER)
        assert torch.equal(parameter, published[name]) == inner, name
        assert torch.equal(parameter, start[name]) == inner, name
    assert f"{WEIGHTS}: main network: layers 0, 2 of 3 taken" in capsys.readouterr().err
    frozen = {parameter for name, parameter in trainer.model.named_parameters() if name.startswith(INNER)}
    assert not frozen & set(trainer.optimizer.state)


def test_layers_that_are_not_frozen_learn(toy_shards, tmp_path):
    train(toy_shards, tmp_path / "run", **settings(freeze=False, layers=[1, 1]))
    found, published = parts(tmp_path / "run")
    assert not any(torch.equal(found[name], published[name]) for name in found if name.startswith(INNER))


def test_an_interrupted_run_ends_with_the_same_bytes(toy_shards, tmp_path):
    train(toy_shards, tmp_path / "run", **settings())
    whole = results(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000006")
    shutil.copy(WEIGHTS, tmp_path / "elsewhere.safetensors")
    train(toy_shards, tmp_path / "run", resume=True, **settings(tmp_path / "elsewhere.safetensors"))
    assert results(tmp_path / "run") == whole


@pytest.mark.parametrize("change", ["weights", "freeze", "layers", "none"])
def test_other_layers_are_another_run(change, toy_shards, tmp_path):
    train(toy_shards, tmp_path / "run", **settings())
    changed = settings()
    if change == "weights":
        state = load_file(WEIGHTS)
        state["esm.encoder.layer.0.output.dense.weight"][0, 0] += 1
        save_file(state, tmp_path / "other.safetensors")
        changed = settings(tmp_path / "other.safetensors")
    elif change == "none":
        changed["main_network"] = None
    else:
        changed = settings(**{"freeze": {"freeze": False}, "layers": {"layers": [0, 1]}}[change])
    with pytest.raises(InputError, match="is a checkpoint of other settings or other data"):
        train(toy_shards, tmp_path / "run", resume=True, **changed)


def test_runs_without_published_layers_keep_their_identity():
    assert "main_network" not in toy_config("shards").identity()


def parsed(text):
    return parse_settings(
        TrainConfig, {"shards": "s", "model": "m", "steps": 1, **yaml.safe_load(text)}, "x.yaml"
    )


def test_the_key_in_a_file():
    found = parsed("main_network: {ntv2: weights, freeze: true, layers: [0, 2]}").main_network
    assert found == MainNetwork("weights", True, [0, 2])
    assert parsed("main_network: {ntv2: weights}").main_network == MainNetwork("weights", False, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("main_network: {}", "x.yaml: main_network.ntv2: "),
        ("main_network: {ntv2: w, frozen: true}", "x.yaml: main_network.frozen: "),
        ("main_network: {ntv2: w, freeze: maybe}", "x.yaml: main_network.freeze: "),
        ("main_network: {ntv2: w, layers: [first]}", "x.yaml: main_network.layers.0: "),
        ("main_network: w", "x.yaml: main_network: "),
    ],
)
def test_a_wrong_key_is_named(text, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        parsed(text)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"main_network": MainNetwork("nowhere")}, "main_network: nowhere: holds no weights"),
        ({"model": {**MODEL, "norm": "rms"}}, "main_network: norm: 'rms' does not fit"),
        (
            {"main_network": MainNetwork(str(WEIGHTS), True, [0])},
            "main_network: layers: 1 layers are named for the 2",
        ),
    ],
)
def test_layers_that_do_not_fit(changes, sentence, toy_shards, tmp_path):
    with pytest.raises(InputError, match=re.escape(sentence)):
        train(toy_shards, tmp_path / "run", **{**settings(), **changes})

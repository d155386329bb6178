"""Layers of Nucleotide Transformer v2 inside another model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models import GenomicLM, ModelConfig
from genotok.pretrained import import_checkpoint, load_ntv2_weights
from genotok.pretrained.main_network import weights_file

DATA = Path(__file__).parents[1] / "data" / "ntv2"
NTV2 = json.loads((DATA / "ntv2_tiny.json").read_text())  # 3 layers, 64 wide, 4 heads, MLP of 128
HYBRID = {
    "layout": ["m1", ["T3"], "m1"],
    "d_model": [32, 64],
    "d_intermediate": [0, 128],
    "attention": {"heads": [2, 4], "rotary_dim": [8, 16], "window": -1, "bias": True},
    "mamba2": {"d_state": 8, "head_dim": 8, "chunk_size": 4},
    "norm": "layer",
    "norm_eps": 1e-5,
}
INNER = "backbone.inner.encoder."


@pytest.fixture(scope="module")
def weights():
    return load_file(DATA / "ntv2_tiny.safetensors")


def hybrid(**changes):
    torch.manual_seed(0)
    return GenomicLM(ModelConfig.from_dict({**HYBRID, **changes}))


def values(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def checkpoint_folder(folder, weights, name="model.safetensors"):
    """A folder as it is published."""
    folder.mkdir()
    shutil.copy(DATA / "ntv2_tiny.json", folder / "config.json")
    if name.endswith(".bin"):
        torch.save(weights, folder / name)
    else:
        shutil.copy(DATA / "ntv2_tiny.safetensors", folder / name)
    return folder


@torch.no_grad()
def test_the_main_network_computes_what_the_checkpoint_computes(weights):
    model, published = hybrid(), import_checkpoint("ntv2", NTV2, weights)
    before = values(model)
    report = load_ntv2_weights(model, weights)
    rows, ragged = torch.randn(11, 64), Ragged.from_lengths(torch.tensor([7, 4]))
    for causal in (True, False):
        wanted = published.backbone.encoder(rows, ragged, causal)
        assert torch.equal(model.backbone.inner.encoder(rows, ragged, causal), wanted)
    assert (report.layers, report.available, report.frozen) == ([0, 1, 2], 3, 0)
    assert report.taken == [name for name in before if name.startswith(INNER)]
    assert report.left == sorted(key for key in published.state_dict() if not key.startswith("backbone"))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name]) != name.startswith(INNER), name


def forms(weights, tmp_path):
    imported = import_checkpoint("ntv2", NTV2, weights)
    imported.save_pretrained(tmp_path / "imported")
    return {
        "state dict": weights,
        "model": imported,
        "genotok's names": imported.state_dict(),
        "published folder": checkpoint_folder(tmp_path / "published", weights),
        "older folder": checkpoint_folder(tmp_path / "older", weights, "pytorch_model.bin"),
        "file": str(DATA / "ntv2_tiny.safetensors"),
        "genotok's folder": tmp_path / "imported",
    }


def test_every_form_of_a_checkpoint(weights, tmp_path):
    hashes = set()
    for form in forms(weights, tmp_path).values():
        model = hybrid()
        load_ntv2_weights(model, form)
        hashes.add(model.content_hash())
    assert len(hashes) == 1
    assert hashes != {hybrid().content_hash()}


def test_the_checkpoint_is_not_shared(weights):
    model = hybrid()
    before = {key: value.clone() for key, value in weights.items()}
    load_ntv2_weights(model, weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(weights[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    ("blocks", "available", "wanted"),
    [
        (1, 3, [0]),
        (2, 3, [0, 2]),
        (3, 3, [0, 1, 2]),
        (4, 6, [0, 2, 3, 5]),
        (3, 6, [0, 3, 5]),
        (20, 29, [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19, 21, 22, 24, 25, 27, 28]),
    ],
)
def test_layers_are_spread_evenly(blocks, available, wanted, weights):
    """Each layer of the checkpoint is a number, so that it is known again in the model."""
    state = {key: value for key, value in weights.items() if ".layer." not in key}
    for key, value in weights.items():
        if ".layer.0." in key:
            more = {
                key.replace(".0.", f".{i}.", 1): torch.full_like(value, float(i)) for i in range(available)
            }
            state |= more
    model = hybrid(layout=["m1", [f"T{blocks}"], "m1"])
    assert load_ntv2_weights(model, state).layers == wanted
    found = [block.mixer.qkv.weight for block in model.backbone.inner.encoder.blocks]
    assert [weight.unique().tolist() for weight in found] == [[float(i)] for i in wanted]


def test_layers_by_name(weights):
    model, published = hybrid(), import_checkpoint("ntv2", NTV2, weights)
    assert load_ntv2_weights(model, weights, layers=[2, 0, 2]).layers == [2, 0, 2]
    for block, layer in zip(model.backbone.inner.encoder.blocks, (2, 0, 2), strict=True):
        source = published.backbone.encoder.blocks[layer]
        assert torch.equal(block.mlp.value_gate.weight, source.mlp.value_gate.weight)


def test_freezing(weights):
    model = hybrid()
    report = load_ntv2_weights(model, weights, freeze=True)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == set(report.taken) == {name for name in values(model) if name.startswith(INNER)}
    assert report.frozen == sum(model.get_parameter(name).numel() for name in frozen)
    assert "layers 0, 1, 2 of 3 taken" in str(report)
    assert f"{report.frozen:,} parameters are frozen" in str(report)
    ids = torch.randint(0, 4, (2, 20))
    model(ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name in frozen), name


def test_embedding_and_head_come_along_where_they_fit(weights):
    published = import_checkpoint("ntv2", NTV2, weights)
    model = GenomicLM(published.config)
    report = load_ntv2_weights(model, weights)
    assert report.left == []
    assert model.content_hash() == published.content_hash()
    plain = GenomicLM(ModelConfig.from_dict({**published.config.to_dict(), "head": "linear"}))
    report = load_ntv2_weights(plain, weights)
    assert torch.equal(plain.embedding.weight, published.embedding.weight)
    assert all(key.startswith("head.") for key in report.left)


def test_the_preset_takes_the_500m_model():
    """By shapes alone."""
    with torch.device("meta"):
        model = GenomicLM(ModelConfig.preset("hnet_ntv2"))
        published = GenomicLM(ModelConfig.preset("ntv2_500m"))
    report = load_ntv2_weights(model, published)
    assert len(report.layers) == 20
    assert (report.layers[0], report.layers[-1], report.available) == (0, 28, 29)
    assert len(report.taken) == 20 * 10 + 2  # ten tensors a block, and the norm behind the last


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layout": ["m1", ["T4"], "m1"]}, "the checkpoint: has 3 layers, and the main network 4 blocks"),
        (
            {"layout": ["m1", ["T1M1"], "m1"]},
            "innermost stage of ['m1', ['T1M1'], 'm1'] does not fit the checkpoint",
        ),
        ({"layout": ["m1", ["t3"], "m1"]}, "which needs attention blocks with an MLP ('T3') in its place"),
        ({"norm": "rms"}, "norm: 'rms' does not fit the checkpoint, which needs 'layer'"),
        ({"mlp": "gelu"}, "mlp: 'gelu' does not fit the checkpoint, which needs 'swiglu'"),
        ({"attention": {**HYBRID["attention"], "bias": False}}, "attention.bias: False does not fit"),
        ({"attention": {**HYBRID["attention"], "rotary_dim": 8}}, "attention.rotary_dim: 8 does not fit"),
        (
            {"attention": {**HYBRID["attention"], "rotary_base": 5e5}},
            "attention.rotary_base: 500000.0 does not",
        ),
        (
            {"d_model": [32, 96], "attention": {**HYBRID["attention"], "heads": [2, 6]}},
            "mixer_norm.weight of the model (96,)",
        ),
        ({"d_intermediate": [0, 256]}, "mlp.value_gate.weight of the model (512, 64)"),
    ],
)
def test_blocks_that_do_not_fit(changes, sentence, weights):
    model = hybrid(**changes)
    before = model.content_hash()
    with pytest.raises(InputError) as error:
        load_ntv2_weights(model, weights)
    assert sentence in str(error.value)
    assert model.content_hash() == before


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([0, 1], "layers: 2 layers are named for the 3 blocks"),
        ([0, 1, 3], "layers: 3 is none of the 3 layers of the checkpoint"),
        ([0, -1, 2], "layers: -1 is none"),
    ],
)
def test_layers_that_are_not_there(layers, sentence, weights):
    with pytest.raises(InputError, match=sentence):
        load_ntv2_weights(hybrid(), weights, layers=layers)


def test_other_checkpoints(weights, tmp_path):
    with pytest.raises(
        InputError, match=r"'classifier\.weight', which is not one of Nucleotide Transformer v2's"
    ):
        load_ntv2_weights(hybrid(), {"classifier.weight": torch.zeros(1)})
    incomplete = {key: value for key, value in weights.items() if "layer.1.output.dense.weight" not in key}
    with pytest.raises(InputError, match=r"has no backbone\.encoder\.blocks\.1\.mlp\.out\.weight"):
        load_ntv2_weights(hybrid(), incomplete)
    folder = checkpoint_folder(tmp_path / "published", weights)
    (folder / "config.json").write_text(json.dumps({**NTV2, "num_attention_heads": 8}))
    with pytest.raises(InputError, match=f"attention.heads: 4 does not fit {folder}, which needs 8"):
        load_ntv2_weights(hybrid(), folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(InputError, match="is no configuration of Nucleotide Transformer v2"):
        load_ntv2_weights(hybrid(), folder)
    with pytest.raises(InputError, match="holds no weights; give a folder with"):
        weights_file(tmp_path)
    with pytest.raises(InputError, match="nowhere: holds no weights"):
        load_ntv2_weights(hybrid(), tmp_path / "nowhere")

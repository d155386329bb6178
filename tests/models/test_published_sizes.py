"""Published models in their real sizes, without their numbers: names, shapes and counts of parameters."""

import json
import re
from importlib.resources import files
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genotok.models import GenomicLM, ModelConfig
from genotok.pretrained import import_checkpoint

DATA = Path(__file__).parents[1] / "data"
PRESETS = sorted(path.name.removesuffix(".json") for path in (files("genotok.models") / "presets").iterdir())
HYENADNA = {
    # (width, layers, longest sequence + 2), as the published configurations have them
    "tiny_1k": (128, 2, 1026),
    "tiny_16k": (128, 2, 16386),
    "small_32k": (256, 4, 32770),
    "medium_160k": (256, 8, 160002),
    "medium_450k": (256, 8, 450002),
    "large_1m": (256, 8, 1000002),
}


def on_meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def count(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GenomicLM(config).parameters())


def shapes_of(path):
    return {name: tuple(tensor.shape) for name, tensor in load_file(path).items()}


def hnet_block(letter, width, intermediate, ssm):
    """Names and shapes of one block in the official code of H-Net."""
    inner, states = ssm["expand"] * width, ssm["d_state"]
    heads, channels = inner // 64, inner + 2 * states
    of_mamba = {
        "in_proj.weight": (inner + channels + heads, width),
        "conv1d.weight": (channels, 1, ssm["d_conv"]),
        "conv1d.bias": (channels,),
        **dict.fromkeys(("dt_bias", "A_log", "D"), (heads,)),
        "norm.weight": (inner,),
        "out_proj.weight": (width, inner),
    }
    of_attention = {"Wqkv.weight": (3 * width, width), "out_proj.weight": (width, width)}
    mixer = of_mamba if letter in "mM" else of_attention
    shapes = {"norm1.weight": (width,), **{f"mixer.{name}": shape for name, shape in mixer.items()}}
    if letter.isupper():
        rounded = -(-intermediate // 128) * 128
        shapes |= {"norm2.weight": (width,)}
        shapes |= {"mlp.fc1.weight": (2 * rounded, width), "mlp.fc2.weight": (width, rounded)}
    return shapes


def hnet_stack(prefix, text, *sizes):
    letters = "".join(letter * int(times) for letter, times in re.findall(r"([a-zA-Z])(\d+)", text))
    shapes = {f"{prefix}.rmsnorm.weight": (sizes[0],)}
    for i, letter in enumerate(letters):
        shapes |= {f"{prefix}.layers.{i}.{name}": shape for name, shape in hnet_block(letter, *sizes).items()}
    return shapes


def hnet_stage(prefix, layout, config, s=0):
    """Names and shapes of a stage and those inside it, by the rules of the official code."""
    width = config["d_model"][s]
    sizes = (width, config["d_intermediate"][s], config["ssm_cfg"])
    shapes = {}
    if s and width > config["d_model"][s - 1]:
        shapes[f"{prefix}.pad_dimension"] = (width - config["d_model"][s - 1],)
    if len(layout) == 1:
        return shapes | hnet_stack(f"{prefix}.main_network", layout[0], *sizes)
    encoder, inner, decoder = layout
    shapes |= hnet_stack(f"{prefix}.encoder", encoder, *sizes) | hnet_stack(
        f"{prefix}.decoder", decoder, *sizes
    )
    for name in ("routing_module.q_proj_layer", "routing_module.k_proj_layer", "residual_proj"):
        shapes[f"{prefix}.{name}.weight"] = (width, width)
    shapes[f"{prefix}.residual_proj.bias"] = (width,)
    return shapes | hnet_stage(f"{prefix}.main_network", inner, config, s + 1)


def official_hnet(config):
    ends = dict.fromkeys(
        ("embeddings.weight", "lm_head.weight"), (config["vocab_size"], config["d_model"][0])
    )
    return ends | hnet_stage("backbone", config["arch_layout"], config)


def official_hyenadna(width, layers, length):
    """Names and shapes of a checkpoint of HyenaDNA; the head shares the embedding."""
    shapes = {"backbone.embeddings.word_embeddings.weight": (16, width)}
    filters = {"bias": (width,), "modulation.deltas": (1, 1, width)}
    filters |= {
        "pos_emb.z": (1, length, 5),
        "pos_emb.t": (1, length, 1),
        "implicit_filter.6.weight": (width, 64),
    }
    for i, inputs in ((0, 5), (2, 64), (4, 64)):
        filters |= {f"implicit_filter.{i}.weight": (64, inputs), f"implicit_filter.{i}.bias": (64,)}
        filters[f"implicit_filter.{i + 1}.freq"] = (1, 64)
    linear = {
        "mixer.in_proj": (3 * width, width),
        "mixer.out_proj": (width, width),
        "mixer.short_filter": (3 * width, 1, 3),
        "mlp.fc1": (4 * width, width),
        "mlp.fc2": (width, 4 * width),
        "norm1": (width,),
        "norm2": (width,),
    }
    for i in range(layers):
        layer = f"backbone.layers.{i}."
        shapes |= {f"{layer}mixer.filter_fn.{name}": shape for name, shape in filters.items()}
        for name, shape in linear.items():
            shapes |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
    return shapes | dict.fromkeys(("backbone.ln_f.weight", "backbone.ln_f.bias"), (width,))


def test_the_rules_give_what_the_official_code_gives():
    config = json.loads((DATA / "hnet" / "hnet_1stage_tiny.json").read_text())
    assert official_hnet(config) == shapes_of(DATA / "hnet" / "hnet_1stage_tiny.safetensors")
    assert official_hyenadna(32, 2, 256) == shapes_of(DATA / "hyenadna" / "hyenadna_tiny.safetensors")


@pytest.mark.parametrize("size", ["1stage_L", "1stage_XL", "2stage_L", "2stage_XL"])
def test_hnet(size):
    path = files("genotok.models") / "presets" / f"hnet_{size}.json"
    config = json.loads(path.read_text())
    shapes = official_hnet(config)
    model = import_checkpoint("hnet", config, on_meta(shapes))
    assert model.config == ModelConfig.preset(f"hnet_{size}")
    assert count(model.config) == sum(map(prod, shapes.values()))
    assert model.tokenizer.name == "byte"


@pytest.mark.parametrize(("size", "file_bytes"), [("1stage_XL", 5_083_413_223), ("2stage_XL", 6_414_086_360)])
def test_hnet_has_as_many_parameters_as_the_published_files(size, file_bytes):
    """They hold float32 and some hundred names."""
    assert 0 < file_bytes - 4 * count(ModelConfig.preset(f"hnet_{size}")) < 200_000


@pytest.mark.parametrize("size", HYENADNA)
def test_hyenadna(size):
    width, layers, length = HYENADNA[size]
    shapes = official_hyenadna(width, layers, length)
    config = {"d_model": width, "n_layer": layers, "d_inner": 4 * width, "vocab_size": 12, "emb_dim": 5}
    config |= {"max_seq_len": length, "activation_freq": 10, "pad_vocab_size_multiple": 8}
    for head in ({}, {"lm_head.weight": (16, width)}):
        named = {f"hyena.{key}": shape for key, shape in shapes.items()}
        model = import_checkpoint("hyenadna", config, on_meta(named | head))
        assert model.config == ModelConfig.preset(f"hyenadna_{size}")
        assert model.head.weight is model.embedding.weight
    once = ("implicit_filter.3.freq", "implicit_filter.5.freq", "pos_emb.z", "pos_emb.t", "deltas")
    assert count(model.config) == sum(prod(s) for name, s in shapes.items() if not name.endswith(once))


@pytest.mark.parametrize(("size", "millions"), [("tiny_1k", "0.436"), ("large_1m", "6.6")])
def test_hyenadna_has_as_many_parameters_as_its_paper_says(size, millions):
    digits = len(millions.split(".")[1])
    assert f"{count(ModelConfig.preset(f'hyenadna_{size}')) / 1e6:.{digits}f}" == millions


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_built_and_saved(name):
    config = ModelConfig.preset(name)
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config
    assert count(config) > 2e5


def test_the_baselines_are_comparable():
    """As wide as H-Net for DNA, with the same tokens; the one with fixed chunks has the same blocks as well."""
    learned = ModelConfig.preset("hnet_1stage_dna")
    fixed = ModelConfig.preset("static_k")
    assert (fixed.layout, fixed.d_model, fixed.attention) == (
        learned.layout,
        learned.d_model,
        learned.attention,
    )
    assert count(learned) - count(fixed) == 2 * 512**2  # the router's two matrices
    assert fixed.chunkers == [{"kind": "static", "length": 3}]
    for name in ("isotropic_transformer", "isotropic_mamba2"):
        config = ModelConfig.preset(name)
        assert (config.tokenizer, config.d_model, config.vocab_size) == (
            "nucleotide",
            [512],
            learned.vocab_size,
        )


def test_hyformer():
    config = ModelConfig.preset("hyformer")
    assert (config.norm, config.mlp, config.tasks) == ("rms", "swiglu", ["lm", "mlm"])
    with torch.device("meta"):
        model = GenomicLM(config)
    assert model.head.weight is model.embedding.weight
    assert config.attention.rotary_dim == [config.d_model[0] // config.attention.heads[0]]


def test_hnet_ntv2_takes_the_layers_of_the_500m_model():
    """Twenty blocks of its style and sizes."""
    hybrid, ntv2 = ModelConfig.preset("hnet_ntv2"), ModelConfig.preset("ntv2_500m")
    assert [hybrid.layout[0], hybrid.layout[1], hybrid.layout[2]] == ["m2", ["T20"], "m2"]
    for key in ("norm", "norm_eps", "mlp"):
        assert getattr(hybrid, key) == getattr(ntv2, key)
    for key in ("heads", "rotary_dim", "window"):
        assert getattr(hybrid.attention, key)[-1] == getattr(ntv2.attention, key)[-1]
    assert (hybrid.d_model[-1], hybrid.d_intermediate[-1]) == (ntv2.d_model[0], ntv2.d_intermediate[0])
    assert hybrid.attention.bias

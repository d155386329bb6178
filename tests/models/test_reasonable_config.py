"""Configurations of a layout and its widths."""

import pytest
import torch

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig


def test_one_inner_stage():
    config = ModelConfig.reasonable(d_model=[512, 1024], layout=["m4", "T9"])
    assert config.layout == ["m4", ["T9"], "m4"]
    assert config.d_intermediate == [0, 2816]  # 8/3 of 1024 is 2730.7
    assert (config.attention.heads, config.attention.rotary_dim) == ([8, 16], [32, 32])
    assert config.attention.window == [1023, -1]
    assert (config.mamba2.d_state, config.mamba2.head_dim) == (128, 64)
    assert (config.tokenizer, config.upsamplers, config.chunkers) == (
        "nucleotide",
        ["ema"],
        [{"kind": "routing"}],
    )


def test_the_published_two_stage_model_is_reasonable():
    published = ModelConfig.preset("hnet_2stage_L")
    config = ModelConfig.reasonable(
        [1024, 1024, 1536],
        ["m4", "T1m4", "T26"],
        tokenizer="byte",
        attention={"heads": [16, 16, 16], "rotary_dim": [32, 32, 48]},
        mamba2={"chunk_size": 256},
    )
    assert config == published


@pytest.mark.parametrize(
    ("d_model", "layout", "nested"),
    [
        (64, ["T2"], ["T2"]),
        (64, ["m3T1", "M2"], ["m3T1", ["M2"], "T1m3"]),
        (64, ["m1", "t2M1h3", "T1", "T2"], ["m1", ["t2M1h3", ["T1", ["T2"], "T1"], "h3M1t2"], "m1"]),
        (64, ["m3T1", ["M2"], "m4"], ["m3T1", ["M2"], "m4"]),
    ],
)
def test_layouts(d_model, layout, nested):
    config = ModelConfig.reasonable(d_model, layout)
    assert config.layout == nested
    assert config.d_model == [64] * config.stage_layout.depth


@pytest.mark.parametrize("width", [8, 16, 24, 40, 64, 96, 128, 192, 320, 512, 768])
def test_models_of_many_widths_run(width):
    config = ModelConfig.reasonable([width, 2 * width], ["m1T1", "M1T1"])
    ids = torch.randint(0, 4, (1, 9))
    if width <= 128:
        assert GenomicLM(config)(ids).logits.isfinite().all()
    of_head = [w // heads for w, heads in zip(config.d_model, config.attention.heads, strict=True)]
    assert max(of_head) <= 64
    for inner, wide in zip(config.d_intermediate, config.d_model, strict=True):
        assert 0 <= inner - 8 * wide / 3 < (128 if wide >= 512 else 64)
        assert inner % 64 == 0
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_keys_that_are_given_win():
    config = ModelConfig.reasonable(
        [64, 128],
        ["m1", "T1"],
        d_intermediate=[0, 100],
        attention={"window": 5},
        chunkers={"kind": "static", "length": 4},
        upsamplers="repeat",
        tie_embeddings=True,
        norm="layer",
    )
    assert config.d_intermediate == [0, 100]
    assert (config.attention.window, config.attention.heads) == ([5, 5], [1, 2])
    assert config.chunkers == [{"kind": "static", "length": 4}]
    assert (config.tie_embeddings, config.norm) == (True, "layer")
    assert ModelConfig.reasonable(64, ["T1"], mlp="gelu").d_intermediate == [256]
    assert ModelConfig.reasonable(64, ["t1"]).d_intermediate == [0]
    assert ModelConfig.reasonable(40, ["m1"], mamba2={"expand": 3}).mamba2.head_dim == 8


@pytest.mark.parametrize(
    ("d_model", "layout", "given", "sentence"),
    [
        ([64], ["m1", "T1"], {}, "d_model: 1 values for the 2 stages of the layout"),
        ([64, 60], ["m1", "T1"], {}, "d_model: 60 is no multiple of 8"),
        ([64, 32], ["m1", "T1"], {}, "d_model: [64, 32] must be positive and must not fall inwards"),
        ("512", ["T1"], {}, "d_model: '512' should be positive whole numbers"),
        ([True], ["T1"], {}, "d_model: [True] should be positive whole numbers"),
        (64, [], {}, "layout: [] is neither"),
        (64, "T1", {}, "layout: 'T1' is neither"),
        (64, ["x1", "T1"], {}, "layout: the letter 'x' in 'x1' names no mixer"),
        (64, ["m", "T1"], {}, "layout: 'm' is not a run of blocks"),
        (64, ["m1", ["T1"]], {}, "layout: ['m1', ['T1']] is neither"),
        (64, ["T1"], {"depth": 3}, "depth: unknown key"),
        (64, ["T1"], {"attention": {"heads": 3}}, "attention.heads: 3 does not divide d_model 64"),
        (64, ["T1"], {"attention": 3}, "attention: 3 should be an object"),
        (64, ["T1"], {"mamba2": {"expand": "2"}}, "mamba2.expand: '2' should be a whole number"),
        (64, ["T1"], {"mlp": ["gelu"]}, "mlp: ['gelu'] should be"),
    ],
)
def test_what_does_not_fit_is_named(d_model, layout, given, sentence):
    with pytest.raises(InputError) as error:
        ModelConfig.reasonable(d_model, layout, **given)
    assert sentence in str(error.value)

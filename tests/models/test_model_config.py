"""Configurations: what is refused and how it is said, presets, and JSON."""

import copy
import json

import pytest
import torch
from tiny_models import ISOTROPIC, ONE_STAGE, TINY, TWO_STAGES, tiny_config

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.layout import BlockLayout, parse_blocks, parse_layout


def test_a_layout_is_read():
    m, t, mamba_mlp, attention_mlp = (
        BlockLayout(name, mlp) for mlp in (False, True) for name in ("mamba2", "attention")
    )
    assert parse_blocks("m2T1t1M1") == (m, m, attention_mlp, t, mamba_mlp)
    stage = parse_layout(["m1", ["T1", ["M1"], "t1"], "m2"])
    assert stage.depth == 3
    assert (stage.encoder, stage.decoder) == ((m,), (m, m))
    assert (stage.inner.encoder, stage.inner.decoder) == ((attention_mlp,), (t,))
    assert stage.inner.inner.encoder == (mamba_mlp,)
    assert stage.inner.inner.inner is None


REFUSED = [
    # (path of the key, bad value, what the sentence says)
    ("layout", "T2", "layout: 'T2' is neither [blocks] nor [encoder, [inner], decoder]"),
    ("layout", [], "layout: [] is neither"),
    ("layout", ["m1", ["T1"]], "layout: ['m1', ['T1']] is neither"),
    ("layout", ["m1", "T1", "m1"], "layout: ['m1', 'T1', 'm1'] is neither"),
    ("layout", ["m1", ["T1"], 3], "layout: 3 is not a run of blocks"),
    ("layout", ["m1", ["T"], "m1"], "layout: 'T' is not a run of blocks"),
    ("layout", ["m1", ["X3"], "m1"], "layout: the letter 'X' in 'X3' names no mixer; known are m/M"),
    ("d_model", [32, 16], "d_model: [32, 16] must be positive and must not fall inwards"),
    ("d_model", [0, 0], "d_model: [0, 0] must be positive"),
    ("d_model", [16], "d_model: 1 values for the 2 stages"),
    ("d_model", [16.0, 16.0], "d_model: [16.0, 16.0] should be a whole number"),
    ("d_intermediate", [24, 24, 24], "d_intermediate: 3 values for the 2 stages"),
    ("d_intermediate", 0, "d_intermediate: stage 0 has blocks with an MLP"),
    ("attention", [], "attention: [] should be an object"),
    ("attention.heads", 3, "attention.heads: 3 does not divide d_model 16 of stage 0"),
    ("attention.heads", 0, "attention.heads: 0 does not divide"),
    ("attention.heads", True, "attention.heads: True should be a whole number"),
    ("attention.heads", [2, 2, 2], "attention.heads: 3 values for the 2 stages"),
    ("attention.rotary_dim", 3, "attention.rotary_dim: 3 must be even and at most 8"),
    ("attention.rotary_dim", 10, "attention.rotary_dim: 10 must be even and at most 8"),
    ("attention.window", [-2, -1], "attention.window: -2 must be at least 0, or -1 for all"),
    ("attention.kv_heads", 3, "attention.kv_heads: 3 does not divide the 2 heads of stage 0"),
    ("attention.kv_heads", [2, 0], "attention.kv_heads: 0 does not divide the 2 heads of stage 1"),
    ("attention.kv_heads", [2], "attention.kv_heads: 1 values for the 2 stages"),
    ("attention.kv_heads", "2", "attention.kv_heads: '2' should be a whole number"),
    ("attention.rotary_base", "10k", "attention.rotary_base: '10k' should be a number"),
    ("attention.bias", 1, "attention.bias: 1 should be true or false"),
    ("norm", "batch", "norm: 'batch' should be 'rms' or 'layer'"),
    ("mlp", ["gelu"], "mlp: ['gelu'] should be 'swiglu' or 'gelu'"),
    ("head", None, "head: None should be 'linear' or 'roberta'"),
    ("tasks", "lm", "tasks: 'lm' should be a list of 'lm', 'mlm' and 'prediction', each once"),
    ("tasks", ["lm", "lm"], "tasks: ['lm', 'lm'] should be a list of"),
    ("tasks", ["lm", "glm"], "tasks: 'glm' is unknown; there are 'lm', 'mlm' and 'prediction'"),
    (
        "tasks",
        ["prediction"],
        "heads: a model has heads if 'prediction' is one of its tasks, and only then; name some, or take",
    ),
    ("prediction_direction", "left", "prediction_direction: 'left' should be 'causal' or 'bidirectional'"),
    ("task_weights", [1], "task_weights: [1] should be an object"),
    ("task_weights", {"prediction": 1}, "task_weights.prediction: only 'lm' and 'mlm' have a weight here"),
    ("task_weights", {"lm": 0}, "task_weights.lm: 0 should be a number, more than 0"),
    ("tasks", [], "tasks: [] should be a list"),
    ("attention.groups", 1, "attention.groups: unknown key; known are bias, heads"),
    ("mamba2", None, "mamba2: None should be an object"),
    ("mamba2.head_dim", 7, "mamba2.head_dim: 7 does not divide d_model x expand = 32 of stage 0"),
    ("mamba2.head_dim", 0, "mamba2.head_dim: 0 should be a whole number, at least 1"),
    ("mamba2.d_state", "64", "mamba2.d_state: '64' should be a whole number"),
    ("mamba2.chunk_size", 1.5, "mamba2.chunk_size: 1.5 should be a whole number"),
    ("mamba2.d_stat", 64, "mamba2.d_stat: unknown key"),
    (
        "tokenizer",
        "wordpiece",
        "tokenizer 'wordpiece' is unknown; there are biological, bpe, byte, codon, hyenadna, kmer, ntv2, nucleotide",
    ),
    ("hyena", 2, "hyena: 2 should be an object"),
    ("hyena.order", 1, "hyena.order: 1 should be a whole number, at least 2"),
    ("hyena.max_length", 9.5, "hyena.max_length: 9.5 should be a whole number"),
    ("hyena.d_position", 4, "hyena.d_position: 4 should be odd"),
    ("hyena.shift", -0.1, "hyena.shift: -0.1 should be a number, at least 0"),
    (
        "tokenizer",
        ["nucleotide"],
        "tokenizer: ['nucleotide'] should be the name of a tokenizer, or an object",
    ),
    ("vocab_size", 11, "vocab_size: 11 is less than the 12 tokens of the tokenizer"),
    ("vocab_size", "16", "vocab_size: '16' should be a whole number"),
    ("tie_embeddings", "no", "tie_embeddings: 'no' should be true or false"),
    ("norm_eps", "small", "norm_eps: 'small' should be a number"),
    ("width", 16, "width: unknown key; known are attention"),
    ("chunkers", "routing", "chunkers: 'routing' should be an object or a list of them, one an inner stage"),
    ("chunkers", [{"kind": "routing"}] * 2, "chunkers: 2 values for the 1 inner stages of the layout"),
    ("chunkers", [{}], "chunkers[0].kind: None is unknown; there are routing, merge, static"),
    ("chunkers", [{"kind": ["static"]}], "chunkers[0].kind: ['static'] is unknown"),
    ("chunkers", [{"kind": "static"}], "chunkers[0].length: this key is needed"),
    (
        "chunkers",
        [{"kind": "static", "length": 0}],
        "chunkers[0].length: 0 should be a whole number, at least",
    ),
    ("chunkers", [{"kind": "static", "length": True}], "chunkers[0].length: True should be a whole number"),
    (
        "chunkers",
        [{"kind": "static", "size": 3}],
        "chunkers[0].size: unknown key of 'static'; known are kind",
    ),
    ("chunkers", [{"kind": "merge", "min_length": 2}], "chunkers[0].max_length: this key is needed"),
    (
        "chunkers",
        [{"kind": "merge", "min_length": 4, "max_length": 3}],
        "chunkers[0].max_length: 3 is less than min_length 4",
    ),
    ("chunkers", [{"kind": "entropy"}], "chunkers[0].threshold: this key is needed"),
    ("chunkers", [{"kind": "entropy", "threshold": "1"}], "chunkers[0].threshold: '1' should be a number"),
    (
        "chunkers",
        [{"kind": "entropy", "threshold": 1, "max_length": 0}],
        "chunkers[0].max_length: 0 should be a whole number, at least 1, or null",
    ),
    ("upsamplers", ["copy"], "upsamplers[0]: 'copy' is unknown; there are ema, repeat, cross_attention"),
    ("upsamplers", 1, "upsamplers: 1 should be a name or an object or a list of them, one an inner stage"),
    ("upsamplers", ["ema", "ema"], "upsamplers: 2 values for the 1 inner stages of the layout"),
]


@pytest.mark.parametrize(
    ("key", "value", "sentence"), REFUSED, ids=[f"{key}={value}" for key, value, _ in REFUSED]
)
def test_what_does_not_fit_is_said_with_its_key(key, value, sentence):
    values = copy.deepcopy(ONE_STAGE)
    *sections, last = key.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    with pytest.raises(InputError) as error:
        ModelConfig.from_dict(values)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["layout", "d_model", "d_intermediate", "attention", "attention.window"])
def test_a_missing_key_is_named(key):
    values = copy.deepcopy(ONE_STAGE)
    del (values["attention"] if "." in key else values)[key.split(".")[-1]]
    with pytest.raises(InputError, match=rf"^{key}: this key is needed$"):
        ModelConfig.from_dict(values)


def test_a_number_stands_for_every_stage():
    config = tiny_config(
        "two stages that widen", d_model=24, attention={"heads": 3, "rotary_dim": 8, "window": -1}
    )
    assert config.d_model == [24, 24, 24]
    assert config.attention.heads == [3, 3, 3]


def test_shared_heads_of_keys():
    """One number or one a stage; left out, where every head has keys of its own, also of the JSON."""
    attention = {"heads": 4, "rotary_dim": 4, "window": -1}
    plain, null = (
        tiny_config("one stage", attention={**attention, **more}) for more in ({}, {"kv_heads": None})
    )
    assert plain == null
    assert "kv_heads" not in plain.to_dict()["attention"]
    assert plain.attention.kv_heads_of(1) == 4
    grouped = tiny_config("one stage", attention={**attention, "kv_heads": 2})
    assert grouped.attention.kv_heads == grouped.to_dict()["attention"]["kv_heads"] == [2, 2]
    shapes = [
        GenomicLM(config).backbone.inner.encoder.blocks[0].mixer.qkv.weight.shape
        for config in (plain, grouped)
    ]
    assert shapes == [(48, 16), (32, 16)]


def test_one_chunker_stands_for_every_stage():
    config = tiny_config(
        "two stages that widen", chunkers={"kind": "static", "length": 3}, upsamplers="repeat"
    )
    assert config.chunkers == [{"kind": "static", "length": 3}] * 2
    assert config.upsamplers == ["repeat", "repeat"]


def test_chunkers_that_need_inputs_are_outermost():
    with pytest.raises(InputError, match=r"^chunkers\[1\].kind: 'given' takes one value a token"):
        tiny_config("two stages that widen", chunkers=[{"kind": "given"}, {"kind": "given"}])


def test_the_default_chunkers_leave_a_configuration_as_it_was():
    """So that models saved before there was a choice keep their bytes and their hash."""
    plain = tiny_config("one stage")
    spelled_out = tiny_config("one stage", chunkers=[{"kind": "routing"}], upsamplers=["ema"])
    assert plain == spelled_out
    assert plain.chunkers == [{"kind": "routing"}]
    assert plain.to_json() == spelled_out.to_json()
    assert not {"chunkers", "upsamplers"} & plain.to_dict().keys()
    changed = tiny_config("one stage", chunkers=[{"kind": "entropy", "threshold": 1.25}]).to_dict()
    filled_in = {"threshold": 1.25, "threshold_add": None, "monotonicity": False, "max_length": None}
    assert changed["chunkers"] == [{"kind": "entropy", **filled_in}]
    assert "upsamplers" not in changed


def test_settings_of_mixers_that_are_not_there_do_not_matter():
    heads_that_do_not_fit = {"heads": 5, "rotary_dim": 3, "window": -1}
    assert tiny_config("mamba", attention=heads_that_do_not_fit).d_model == [16]
    assert tiny_config("transformer", mamba2={"head_dim": 7}).mamba2.head_dim == 7


def test_the_callers_values_are_left_alone():
    values = copy.deepcopy(TWO_STAGES)
    ModelConfig.from_dict(values)
    assert values == TWO_STAGES


@pytest.mark.parametrize("values", TINY.values(), ids=TINY.keys())
def test_json_round_trip(values, tmp_path):
    config = ModelConfig.from_dict(values)
    path = tmp_path / "model.json"
    path.write_text(config.to_json())
    assert ModelConfig.from_json(path) == config
    assert ModelConfig.from_json(path).to_json() == config.to_json()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'{\n"layout": [}', "line 2 is not JSON"),
        (b"[1]", "a model configuration is a JSON object, not a list"),
        (b"\xff\xfe", "cannot be read as a model configuration"),
        (json.dumps({**ISOTROPIC, "d_model": 15}).encode(), "attention.heads: 2 does not divide d_model 15"),
        (None, "cannot be read as a model configuration"),
    ],
)
def test_a_bad_file_is_named(text, sentence, tmp_path):
    path = tmp_path / "model.json"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(InputError) as error:
        ModelConfig.from_json(path)
    assert str(error.value).startswith(f"{path}: ")
    assert sentence in str(error.value)


def parameters(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in GenomicLM(config).parameters())


@pytest.mark.parametrize(
    ("layout", "d_intermediate", "millions"),
    [
        (["m3T1", ["M15"], "m4"], [1408, 1024], 65.7),
        (["m3T1", ["T15"], "m4"], [1408, 1408], 64.5),
        (["T9"], 1408, 29.2),
        (["M10"], 1024, 33.2),
    ],
)
def test_sizes_of_the_papers_dna_models(layout, d_intermediate, millions):
    """Numbers of parameters that the official code has for these layouts with its vocabulary of 256."""
    values = {"layout": layout, "d_model": 512, "d_intermediate": d_intermediate, "tokenizer": "byte"}
    values["attention"] = {"heads": 8, "rotary_dim": 32, "window": -1}
    assert round(parameters(ModelConfig.from_dict(values)) / 1e6, 1) == millions


def test_presets():
    one, two = (ModelConfig.preset(f"hnet_{stages}_dna") for stages in ("1stage", "2stage"))
    vocabulary = 2 * one.vocab_size * one.d_model[0]
    assert parameters(one) == 65_706_016 - 2 * 256 * 512 + vocabulary
    assert (one.stage_layout.depth, two.stage_layout.depth) == (2, 3)
    assert one.tokenizer == two.tokenizer == "nucleotide"
    with torch.device("meta"):
        stage = GenomicLM(two).backbone.inner.inner
    assert stage.widening.shape == (768 - 512,)


def test_an_unknown_preset_is_said():
    with pytest.raises(
        InputError, match=r"'hnet_9stage' is unknown; there are .*hnet_1stage_dna, .*hnet_2stage_dna"
    ):
        ModelConfig.preset("hnet_9stage")


BPE = {"type": "bpe", "merges": ["A C", "G T", "AC GT"]}


@pytest.mark.parametrize(
    "tokenizer", ["kmer", "codon", {"type": "kmer", "k": 2, "stride": 1, "alphabet": "dna"}, BPE], ids=str
)
def test_a_tokenizer_is_a_name_or_an_object(tokenizer):
    config = tiny_config("transformer", tokenizer=tokenizer, vocab_size=0)
    assert config.to_dict()["tokenizer"] == tokenizer
    assert ModelConfig.from_dict(json.loads(config.to_json())) == config


def test_a_tokenizers_file_is_taken_into_the_configuration(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(BPE))
    config = tiny_config("transformer", tokenizer=str(path), vocab_size=0)
    path.unlink()
    assert config.tokenizer == BPE
    assert (GenomicLM(config).tokenizer.vocab_size, config.vocab_size) == (15, 16)

"""Numbers of Nucleotide Transformer v2's official implementation, see tests/data/ntv2/README.md."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.likelihood import next_token_log_likelihood
from genotok.pretrained import import_checkpoint
from genotok.pretrained.ntv2 import convert_ntv2

DATA = Path(__file__).parents[1] / "data" / "ntv2"
CONFIG = json.loads((DATA / "ntv2_tiny.json").read_text())
PAD = 1


@pytest.fixture(scope="module")
def official():
    return load_file(DATA / "ntv2_tiny.io.safetensors")


@pytest.fixture(scope="module")
def weights():
    return load_file(DATA / "ntv2_tiny.safetensors")


@pytest.fixture
def model(weights):
    return import_checkpoint("ntv2", CONFIG, weights)


def ids_and_lengths(official):
    return official["input_ids"], (official["input_ids"] != PAD).sum(1)


@torch.no_grad()
def assert_official(model, official):
    ids, lengths = ids_and_lengths(official)
    output = model(ids, task="mlm", lengths=lengths, output_hidden_states=True)
    torch.testing.assert_close(output.logits, official["logits"], atol=1e-4, rtol=0)
    real = ids != PAD
    assert (output.logits[~real] == 0).all()
    assert len(output.hidden_states) == 1 + CONFIG["num_hidden_layers"]
    for k, states in enumerate(output.hidden_states[1:], 1):
        torch.testing.assert_close(states[real], official[f"embeddings_{k}"][real], atol=1e-4, rtol=0)


def test_the_official_numbers(model, official):
    assert_official(model, official)


def test_a_saved_import_gives_the_same_numbers(model, official, tmp_path):
    model.save_pretrained(tmp_path)
    again = GenomicLM.from_pretrained(tmp_path)
    assert_official(again, official)
    assert again.tokenizer.encode("GATTACA") == [3, 3160, 4102]


def test_masked_tokens_are_predicted_at_their_own_place(model, official):
    ids, lengths = ids_and_lengths(official)
    labels = torch.full_like(ids, -100)
    labels[1, 3], labels[6, 0] = 2466, 3
    labels[3, 30] = 5  # behind the end
    loss = model(ids, labels=labels, lengths=lengths).loss
    wanted = official["logits"].log_softmax(-1)
    torch.testing.assert_close(loss, -(wanted[1, 3, 2466] + wanted[6, 0, 3]) / 2, atol=1e-4, rtol=0)
    assert model(ids, labels=torch.full_like(ids, -100), lengths=lengths).loss == 0


def test_the_next_token_is_not_its_task(model, official):
    ids, lengths = ids_and_lengths(official)
    with pytest.raises(InputError, match="task 'lm' is unknown; this model knows 'mlm'"):
        next_token_log_likelihood(model, ids, ids, lengths)


@pytest.mark.parametrize(
    "left_out", [None, "lm_head.decoder.weight", "esm.embeddings.word_embeddings.weight"]
)
def test_tied_embeddings_may_be_stored_once(weights, left_out):
    state = {**weights, "lm_head.decoder.weight": weights["esm.embeddings.word_embeddings.weight"]}
    state.pop(left_out, None)
    model = import_checkpoint("ntv2", {**CONFIG, "tie_word_embeddings": True}, state)
    assert model.head.weight is model.embedding.weight


def beside_the_model(config):
    """What published files hold beside the parameters that are in use."""
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    with torch.device("meta"):
        extra = {
            "esm.embeddings.position_ids": torch.zeros(1, 2050),
            "esm.embeddings.position_embeddings.weight": torch.zeros(2050, width),
            "esm.contact_head.regression.weight": torch.zeros(1, layers * heads),
            "esm.contact_head.regression.bias": torch.zeros(1),
        }
        for i in range(layers):
            name = f"esm.encoder.layer.{i}.attention.self.rotary_embeddings.inv_freq"
            extra[name] = torch.zeros(width // heads // 2)
    return extra


def meta_state(config, weights):
    """The tensors of a published checkpoint without their numbers: the tiny one's names in other sizes."""
    sizes = {64: config["hidden_size"], 4107: 4107, 128: config["intermediate_size"]}
    sizes[256] = 2 * config["intermediate_size"]
    state = beside_the_model(config)
    for key, value in weights.items():
        resized = torch.empty([sizes[size] for size in value.shape], device="meta")
        layers = range(config["num_hidden_layers"]) if ".layer.0." in key else [0]
        if not re.search(r"\.layer\.[12]\.", key):
            state |= {key.replace(".layer.0.", f".layer.{i}."): resized for i in layers}
    return state


PUBLISHED = {
    # (width, layers, width of the MLP, millions of parameters in the published file)
    "50m": (512, 12, 2048, 55.90),
    "100m": (512, 22, 2048, 97.89),
    "250m": (768, 24, 3072, 235.12),
    "500m": (1024, 29, 4096, 498.35),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes(size, weights):
    width, layers, intermediate, millions = PUBLISHED[size]
    config = {**CONFIG, "hidden_size": width, "num_hidden_layers": layers, "layer_norm_eps": 1e-12}
    config |= {"num_attention_heads": 16, "intermediate_size": intermediate}
    state = meta_state(config, weights)
    model = import_checkpoint("ntv2", config, state)
    assert model.config == ModelConfig.preset(f"ntv2_{size}")
    unused = sum(t.numel() for key, t in beside_the_model(config).items() if key.endswith(("weight", "bias")))
    parameters = sum(parameter.numel() for parameter in model.parameters()) + unused
    assert round(parameters / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"position_embedding_type": "absolute"}, "position_embedding_type: 'absolute' is not"),
        ({"token_dropout": True}, "token_dropout: True is not Nucleotide Transformer v2's, which has False"),
        ({"hidden_size": None}, "hidden_size: None should be a whole number"),
        ({"num_attention_heads": 0}, "attention.heads: 0 does not divide"),
        ({"num_hidden_layers": 4}, "10 missing keys (backbone.encoder.blocks.3."),
        ({"num_hidden_layers": 2}, "unknown keys"),
        ({"vocab_size": 4105}, "vocab_size: 4105 is less than the 4107 tokens"),
    ],
)
def test_a_configuration_that_does_not_fit(change, sentence, weights):
    with pytest.raises(InputError) as error:
        import_checkpoint("ntv2", {**CONFIG, **change}, weights)
    assert sentence in str(error.value)


def test_weights_that_do_not_fit(weights):
    with pytest.raises(
        InputError, match=r"'classifier\.weight', which is not one of Nucleotide Transformer v2's"
    ):
        convert_ntv2(CONFIG, {"classifier.weight": torch.zeros(1)})
    value = "esm.encoder.layer.1.attention.self.value.bias"
    with pytest.raises(InputError, match=r"and not backbone\.encoder\.blocks\.1\.mixer\.value\.bias"):
        convert_ntv2(CONFIG, {key: tensor for key, tensor in weights.items() if key != value})

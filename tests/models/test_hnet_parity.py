"""Numbers of H-Net's official implementation, see tests/data/hnet/README.md."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.pretrained import import_checkpoint
from genotok.pretrained.hnet import convert_hnet, genotok_key
from genotok.training.objective import ratio_loss

DATA = Path(__file__).parents[1] / "data" / "hnet"
CONFIG = json.loads((DATA / "hnet_1stage_tiny.json").read_text())
DOCUMENTS = (0, 1, 2)


@pytest.fixture(scope="module")
def official():
    return load_file(DATA / "hnet_1stage_tiny.io.safetensors")


@pytest.fixture
def model():
    return import_checkpoint("hnet", CONFIG, load_file(DATA / "hnet_1stage_tiny.safetensors"))


def document(official, i):
    """The tensors of one document by their names."""
    prefix = f"doc{i}."
    return {key.removeprefix(prefix): value for key, value in official.items() if key.startswith(prefix)}


def assert_same(logits, prob, mask, wanted):
    torch.testing.assert_close(logits, wanted["logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(prob, wanted["stage0.boundary_prob"], atol=1e-5, rtol=0)
    assert torch.equal(mask, wanted["stage0.boundary_mask"].bool())


def packed_batch(official):
    documents = [document(official, i)["input_ids"] for i in DOCUMENTS]
    lengths = torch.tensor([len(ids) for ids in documents])
    return torch.nn.utils.rnn.pad_sequence(documents, batch_first=True), lengths


def assert_gradients(model, official):
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    wanted = {key.removeprefix("grad."): value for key, value in official.items() if key.startswith("grad.")}
    assert {genotok_key(key) for key in wanted} == set(gradients)
    for key, expected in wanted.items():
        found = gradients[genotok_key(key)].view(expected.shape)
        assert (found - expected).norm() <= 1e-4 * expected.norm(), key


def test_each_document_alone(model, official):
    total = 0.0
    for i in DOCUMENTS:
        wanted = document(official, i)
        ids = wanted["input_ids"][None]
        output = model(ids, labels=ids)
        assert_same(output.logits[0], output.boundaries[0].prob[0], output.boundaries[0].mask[0], wanted)
        stage = output.packed_boundaries[0]
        ratio = ratio_loss(stage.mask.float().mean(), stage.prob.mean(), 4.0)
        torch.testing.assert_close(output.loss, wanted["ce"][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(ratio, wanted["ratio_loss_N4"][0], atol=1e-5, rtol=0)
        total = total + output.loss + 0.03 * ratio
    total.backward()
    assert_gradients(model, official)


def test_documents_in_one_ragged_batch(model, official):
    ids, lengths = packed_batch(official)
    output = model(ids, lengths=lengths)
    total = 0.0
    for i, length in enumerate(lengths.tolist()):
        wanted = document(official, i)
        logits, stage = output.logits[i, :length], output.boundaries[0]
        prob, mask = stage.prob[i, :length], stage.mask[i, :length]
        assert_same(logits, prob, mask, wanted)
        loss = torch.nn.functional.cross_entropy(logits[:-1], ids[i, 1:length])
        torch.testing.assert_close(loss, wanted["ce"][0], atol=1e-5, rtol=0)
        chosen, likely = mask.float().mean(), prob.mean()
        total = total + loss + 0.03 * 4 / 3 * (3 * chosen * likely + (1 - chosen) * (1 - likely))
    total.backward()
    assert_gradients(model, official)


def test_the_loss_of_a_ragged_batch_weighs_every_byte_alike(model, official):
    ids, lengths = packed_batch(official)
    sums = sum(document(official, i)["ce"][0] * (length - 1) for i, length in enumerate(lengths))
    loss = model(ids, labels=ids, lengths=lengths).loss
    torch.testing.assert_close(loss, sums / (lengths - 1).sum(), atol=1e-5, rtol=0)


def test_a_saved_import_gives_the_same_numbers(model, official, tmp_path):
    model.save_pretrained(tmp_path)
    again = GenomicLM.from_pretrained(tmp_path)
    wanted = document(official, 1)
    output = again(wanted["input_ids"][None])
    assert_same(output.logits[0], output.boundaries[0].prob[0], output.boundaries[0].mask[0], wanted)
    assert again.tokenizer.encode("ACGT") == [65, 67, 71, 84]


def test_an_import_shares_no_memory_with_what_it_was_given():
    state = load_file(DATA / "hnet_1stage_tiny.safetensors")
    before = {key: value.clone() for key, value in state.items()}
    model = import_checkpoint("hnet", CONFIG, state)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    assert all(torch.equal(state[key], value) for key, value in before.items())


MIXER_KEYS = {
    "m": [
        "in_proj.weight",
        "conv1d.weight",
        "conv1d.bias",
        "dt_bias",
        "A_log",
        "D",
        "norm.weight",
        "out_proj.weight",
    ],
    "t": ["Wqkv.weight", "out_proj.weight"],
}


def official_stack(prefix, letters):
    """The names in the official code's state dict of the blocks that `letters` spells, one letter a block."""
    names = [f"{prefix}.rmsnorm.weight"]
    for i, letter in enumerate(letters):
        parts = ["norm1.weight", *(f"mixer.{key}" for key in MIXER_KEYS[letter.lower()])]
        parts += ["norm2.weight", "mlp.fc1.weight", "mlp.fc2.weight"] if letter.isupper() else []
        names += [f"{prefix}.layers.{i}.{part}" for part in parts]
    return names


def official_stage(prefix):
    """The names of what a chunking stage holds beside its blocks."""
    parts = ["routing_module.q_proj_layer.weight", "routing_module.k_proj_layer.weight"]
    return [f"{prefix}.{part}" for part in [*parts, "residual_proj.weight", "residual_proj.bias"]]


def test_names_of_two_stages():
    config = {**CONFIG, "arch_layout": ["m2", ["T1m1", ["T2"], "M1"], "m1"]}
    config |= {"d_model": [64, 64, 96], "d_intermediate": [0, 128, 128]}
    config["attn_cfg"] = {"num_heads": 4, "rotary_emb_dim": 8, "window_size": -1}
    names = ["embeddings.weight", "lm_head.weight", *official_stage("backbone")]
    names += official_stack("backbone.encoder", "mm") + official_stack("backbone.decoder", "m")
    inner = "backbone.main_network"
    names += official_stage(inner)
    names += official_stack(f"{inner}.encoder", "Tm") + official_stack(f"{inner}.decoder", "M")
    names += official_stack(f"{inner}.main_network.main_network", "TT")
    names.append(f"{inner}.main_network.pad_dimension")
    converted = [genotok_key(name) for name in names]
    assert sorted(converted) == sorted(GenomicLM(ModelConfig.from_dict(config)).state_dict())


def test_names_of_an_isotropic_model():
    config = {**CONFIG, "arch_layout": ["T1m1"], "d_model": [64], "d_intermediate": [128]}
    config["attn_cfg"] = {"num_heads": [4], "rotary_emb_dim": [8], "window_size": [-1]}
    names = ["embeddings.weight", "lm_head.weight", *official_stack("backbone.main_network", "Tm")]
    converted = [genotok_key(name) for name in names]
    assert sorted(converted) == sorted(GenomicLM(ModelConfig.from_dict(config)).state_dict())


@pytest.mark.parametrize("left_out", [None, "lm_head.weight", "embeddings.weight"])
def test_tied_embeddings_may_be_stored_once(left_out):
    state = load_file(DATA / "hnet_1stage_tiny.safetensors")
    state["lm_head.weight"] = state["embeddings.weight"]
    state.pop(left_out, None)
    model = import_checkpoint("hnet", {**CONFIG, "tie_embeddings": True}, state)
    assert model.head.weight is model.embedding.weight


def test_mlp_widths_are_rounded_up_as_by_the_official_code():
    config, _ = convert_hnet({**CONFIG, "d_intermediate": [0, 130]}, {})
    assert config.d_intermediate == [0, 256]
    config, _ = convert_hnet({**CONFIG, "arch_layout": ["m1", ["m1"], "m1"], "d_intermediate": 128}, {})
    assert config.d_intermediate == [128, 128]


def test_a_configuration_that_is_no_object():
    with pytest.raises(InputError, match="the configuration of the checkpoint is a JSON object, not a list"):
        import_checkpoint("hnet", [], {})


@pytest.mark.parametrize(
    ("family", "config", "change", "sentence"),
    [
        ("bert", {}, {}, "'bert' is no family of checkpoints"),
        (
            "hnet",
            {},
            {"classifier.weight": torch.zeros(1)},
            "'classifier.weight', which is not one of H-Net's",
        ),
        (
            "hnet",
            {},
            {"backbone.encoder.layers.0.norm1.weight": None},
            "1 missing key (backbone.encoder.blocks.0",
        ),
        ("hnet", {}, {"backbone.encoder.layers.7.norm1.weight": torch.zeros(64)}, "1 unknown key"),
        ("hnet", {}, {"lm_head.weight": torch.zeros(256, 32)}, "head.weight has the shape (256, 32)"),
        ("hnet", {"attn_cfg": {"num_heads": 4}}, {}, "attn_cfg.rotary_emb_dim: this key is needed"),
        ("hnet", {"attn_cfg": None}, {}, "attn_cfg: None should be an object with keys"),
        ("hnet", {"ssm_cfg": {"d_stat": 4}}, {}, "ssm_cfg.d_stat: unknown key"),
        ("hnet", {"routing": 1}, {}, "routing: unknown key"),
    ],
)
def test_what_does_not_fit_is_said(family, config, change, sentence):
    state = load_file(DATA / "hnet_1stage_tiny.safetensors") | change
    state = {key: value for key, value in state.items() if value is not None}
    with pytest.raises(InputError) as error:
        import_checkpoint(family, {**CONFIG, **config}, state)
    assert sentence in str(error.value)

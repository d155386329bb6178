"""Numbers of HyenaDNA's official implementation, see tests/data/hyenadna/README.md."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models import GenomicLM
from genotok.pretrained import import_checkpoint

DATA = Path(__file__).parents[1] / "data" / "hyenadna"
CONFIG = json.loads((DATA / "hyenadna_tiny.json").read_text())
DOCUMENTS = (0, 1, 2)
every_document = pytest.mark.parametrize("document", DOCUMENTS)


@pytest.fixture(scope="module")
def official():
    return load_file(DATA / "hyenadna_tiny.io.safetensors")


@pytest.fixture(scope="module")
def weights():
    return load_file(DATA / "hyenadna_tiny.safetensors")


@pytest.fixture
def model(weights):
    return import_checkpoint("hyenadna", CONFIG, weights)


def hidden(model, ids, lengths=None):
    with torch.no_grad():
        return model(ids, lengths=lengths, output_hidden_states=True).hidden_states[-1]


@every_document
def test_hidden_states(model, official, document):
    found = hidden(model, official[f"doc{document}.input_ids"])
    torch.testing.assert_close(found, official[f"doc{document}.hidden"], atol=1e-4, rtol=0)


@every_document
def test_the_operator_alone(model, official, document):
    x, wanted = (official[f"doc{document}.operator_{end}"] for end in ("in", "out"))
    ragged = Ragged.uniform(*x.shape[:2])
    found = model.backbone.encoder.blocks[0].mixer(x.flatten(0, 1), ragged)
    torch.testing.assert_close(found.view(wanted.shape), wanted, atol=1e-5, rtol=0)


def test_documents_in_one_ragged_batch(model, official):
    documents = [row for d in DOCUMENTS for row in official[f"doc{d}.input_ids"]]
    lengths = torch.tensor([len(ids) for ids in documents])
    found = hidden(model, torch.nn.utils.rnn.pad_sequence(documents, batch_first=True), lengths)
    for i, length in enumerate(lengths):
        wanted = official[f"doc{DOCUMENTS[i // 2]}.hidden"][i % 2]
        torch.testing.assert_close(found[i, :length], wanted, atol=1e-4, rtol=0)


def test_logits_come_from_the_embedding(model, official):
    ids = official["doc1.input_ids"]
    assert model.head.weight is model.embedding.weight
    with torch.no_grad():
        logits = model(ids).logits
    wanted = official["doc1.hidden"] @ model.embedding.weight.detach().T
    torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=0)


def test_a_saved_import_gives_the_same_numbers(model, official, tmp_path):
    model.save_pretrained(tmp_path)
    again = GenomicLM.from_pretrained(tmp_path)
    ids = official["doc1.input_ids"]
    assert torch.equal(hidden(again, ids), hidden(model, ids))
    assert again.tokenizer.encode("ACGTN") == [7, 8, 9, 10, 11]


def prefixed(state):
    return {f"model.{key}": value for key, value in state.items()}


def recomputed(state):
    """The names of weights that were trained with recomputation of activations."""
    return {
        key.replace(".mixer.", ".mixer.layer.").replace(".mlp.", ".mlp.layer."): v for key, v in state.items()
    }


def with_head(state):
    return {**state, "lm_head.weight": state["backbone.embeddings.word_embeddings.weight"].clone()}


def stored_once(state):
    """Without the second and third name of the one frequency."""
    return {key: v for key, v in state.items() if not key.endswith(("filter.3.freq", "filter.5.freq"))}


@pytest.mark.parametrize("change", [prefixed, recomputed, with_head, stored_once])
def test_other_names_of_the_same_weights(model, weights, change):
    again = import_checkpoint("hyenadna", CONFIG, change(weights))
    assert again.content_hash() == model.content_hash()


def test_the_configuration_of_the_hugging_face_port(model, weights):
    layer = CONFIG["layer"]
    config = {key: CONFIG[key] for key in ("d_model", "n_layer", "d_inner", "vocab_size")}
    config |= {"max_seq_len": layer["l_max"], "hyena_order": 2, "activation_freq": layer["w"]}
    config |= {"emb_dim": layer["emb_dim"], "filter_order": layer["filter_order"], "layer_norm_epsilon": 1e-5}
    assert import_checkpoint("hyenadna", config, weights).content_hash() == model.content_hash()


def test_a_head_of_its_own_stays(weights):
    head = torch.randn(16, 32)
    model = import_checkpoint("hyenadna", CONFIG, {**weights, "lm_head.weight": head})
    assert torch.equal(model.head.weight, head)
    assert not torch.equal(model.embedding.weight, head)


def test_a_sequence_that_is_too_long(model):
    assert hidden(model, torch.full((1, 256), 7)).isfinite().all()
    with pytest.raises(InputError, match="a sequence of 257 tokens is longer than the 256"):
        hidden(model, torch.full((1, 257), 7))


FILTER = "backbone.layers.1.mixer.filter_fn."


@pytest.mark.parametrize(
    ("config", "state", "sentence"),
    [
        ({"n_layer": "2"}, {}, "n_layer: '2' should be a whole number"),
        ({"n_layer": 3}, {}, "missing keys"),
        ({"layer": {**CONFIG["layer"], "l_max": 128}}, {}, "(1, 256, 1), are not those of l_max 128"),
        ({"layer": {**CONFIG["layer"], "l_max": None}}, {}, "layer.l_max: this key is needed"),
        ({"layer": {**CONFIG["layer"], "normalized": True}}, {}, "layer.normalized: True is not HyenaDNA's"),
        ({"layer": "hyena"}, {}, "layer: 'hyena' should be an object"),
        ({}, {"decoder.weight": torch.zeros(2)}, "'decoder.weight', which is not one of HyenaDNA's"),
        ({}, {f"{FILTER}pos_emb.z": torch.zeros(1, 256, 5)}, "these positions, (1, 256, 5), are not"),
        ({}, {f"{FILTER}implicit_filter.3.freq": torch.zeros(1, 64)}, "have different frequencies"),
        ({}, {f"{FILTER}bias": torch.zeros(16)}, "mixer.skip has the shape (1, 16)"),
    ],
)
def test_what_does_not_fit_is_said(weights, config, state, sentence):
    with pytest.raises(InputError) as error:
        import_checkpoint("hyenadna", {**CONFIG, **config}, {**weights, **state})
    assert sentence in str(error.value)

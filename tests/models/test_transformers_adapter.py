"""Saved models in the hands of transformers."""

import copy
import json

import pytest
import torch
from tiny_models import TINY, tiny_config, tiny_model

from genotok.errors import InputError
from genotok.models import GenomicLM

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM  # noqa: E402

from genotok import hf  # noqa: E402

every_kind = pytest.mark.parametrize("kind", TINY)


def batch():
    """Ids of three sequences, and which of them are real."""
    torch.manual_seed(3)
    lengths = torch.tensor([15, 4, 9])
    return torch.randint(0, 4, (3, 15)), (torch.arange(15) < lengths[:, None]).long(), lengths


@every_kind
@torch.no_grad()
def test_the_same_numbers(kind, tmp_path):
    model = tiny_model(kind)
    model.save_pretrained(tmp_path)
    ids, mask, lengths = batch()
    wanted = model(ids, task="lm", labels=ids, lengths=lengths, output_hidden_states=True)
    adapted = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(adapted, hf.GenotokForCausalLM)
    assert not adapted.training
    found = adapted(input_ids=ids, attention_mask=mask, labels=ids, output_hidden_states=True)
    assert torch.equal(found.logits, wanted.logits)
    assert torch.equal(found.loss, wanted.loss)
    pairs = zip(found.hidden_states, wanted.hidden_states, strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    states = AutoModel.from_pretrained(str(tmp_path))(ids, mask).last_hidden_state
    assert torch.equal(states, wanted.hidden_states[-1])
    (logits,) = adapted(ids[:1], return_dict=False)
    torch.testing.assert_close(logits, wanted.logits[:1])


@every_kind
def test_a_round_trip(kind, tmp_path):
    tiny_model(kind).save_pretrained(tmp_path / "first")
    AutoModelForCausalLM.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    AutoConfig.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "third")
    files = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()} == files
    assert (tmp_path / "third" / "config.json").read_bytes() == files["config.json"]
    assert GenomicLM.from_pretrained(tmp_path / "second").config == tiny_config(kind)


@every_kind
def test_parameters_have_the_names_of_the_file(kind, tmp_path):
    model = tiny_model(kind)
    model.save_pretrained(tmp_path)
    adapted = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert adapted.state_dict().keys() == model.state_dict().keys()
    assert adapted.num_parameters() == sum(parameter.numel() for parameter in model.parameters())
    for name, parameter in adapted.named_parameters():
        assert parameter is adapted.genomic.get_parameter(name)


def test_training_and_copies_act_on_one_model(tmp_path):
    tiny_model("one stage").save_pretrained(tmp_path)
    adapted = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids, _, _ = batch()
    before = adapted(ids).logits
    twin = copy.deepcopy(adapted)
    twin(ids, labels=ids).loss.backward()
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    assert not torch.equal(twin(ids).logits, before)
    assert torch.equal(twin.genomic(ids).logits, twin(ids).logits)
    assert torch.equal(adapted(ids).logits, before)
    adapted.load_state_dict(twin.state_dict())
    assert torch.equal(adapted(ids).logits, twin(ids).logits)


def test_masked_models(tmp_path):
    model = tiny_model("transformer with biases", tasks=["mlm"])
    model.save_pretrained(tmp_path)
    ids, mask, lengths = batch()
    adapted = AutoModelForMaskedLM.from_pretrained(tmp_path)
    wanted = model(ids, labels=ids, lengths=lengths)
    found = adapted(ids, mask, labels=ids)
    assert torch.equal(found.logits, wanted.logits)
    assert torch.equal(found.loss, wanted.loss)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["GenotokForMaskedLM"]
    with pytest.raises(InputError, match="task 'lm' is unknown; this model knows 'mlm'"):
        AutoModelForCausalLM.from_pretrained(tmp_path)(ids)


def test_a_new_model_of_a_configuration(tmp_path):
    tiny_model("mamba").save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.hidden_size, config.layout) == ("genotok", 16, ["M2"])
    torch.manual_seed(5)
    adapted = AutoModelForCausalLM.from_config(config)
    torch.manual_seed(5)
    new = GenomicLM(tiny_config("mamba"))
    assert adapted.genomic.content_hash() == new.content_hash()


@pytest.mark.parametrize("dtype", ["auto", "float32", torch.float32])
def test_parameters_are_float32(dtype, tmp_path):
    tiny_model("one stage").bfloat16().save_pretrained(tmp_path)
    adapted = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype, device_map="cpu")
    assert {parameter.dtype for parameter in adapted.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        assert adapted(batch()[0]).logits.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"load_in_8bit": True}, "load_in_8bit: genotok's models cannot be read with this option"),
        ({"dtype": torch.bfloat16}, "dtype: torch.bfloat16 is not for parameters of genotok"),
        ({"torch_dtype": "float16"}, "float16 is not for parameters of genotok"),
        ({"device_map": {"": 0}}, "device_map: genotok's models lie on one device"),
    ],
)
def test_options_that_genotok_has_not(settings, sentence, tmp_path):
    tiny_model("mamba").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=sentence):
        AutoModelForCausalLM.from_pretrained(tmp_path, **settings)


def test_another_configuration_than_that_of_the_weights(tmp_path):
    tiny_model("mamba").save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.norm_eps = 1e-3
    with pytest.raises(InputError, match="config: is not the configuration of the weights in"):
        AutoModel.from_pretrained(tmp_path, config=config)


def test_padding_in_front_is_refused():
    adapted = hf.GenotokModel(hf.GenotokConfig(**tiny_config("mamba").to_dict()))
    with pytest.raises(InputError, match="attention_mask: padding must stand behind each sequence"):
        adapted(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[0, 1, 1]]))


def test_the_hub_is_for_people_to_write_to(tmp_path):
    adapted = hf.GenotokModel(hf.GenotokConfig(**tiny_config("mamba").to_dict()))
    with pytest.raises(InputError, match="push_to_hub"):
        adapted.save_pretrained(tmp_path / "model", push_to_hub=True)
    adapted.save_pretrained(tmp_path / "model", is_main_process=False)
    assert not (tmp_path / "model").exists()


@torch.no_grad()
def test_a_model_with_prediction_heads_alone(tmp_path):
    """No class of transformers stands for its heads, but its states can be read."""
    heads = {"coding": {"kind": "classification", "outputs": 2}}
    model = tiny_model("one stage", tasks=["prediction"], heads=heads)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["GenotokModel"]
    assert "pipeline_tag: other" in (tmp_path / "README.md").read_text()
    assert GenomicLM.from_pretrained(tmp_path).content_hash() == model.content_hash()
    ids, mask, lengths = batch()
    wanted = model(ids, lengths=lengths, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(ids, mask).last_hidden_state, wanted)

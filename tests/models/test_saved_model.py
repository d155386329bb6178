"""Models on disk."""

import hashlib
import json
import re

import pytest
import torch
import yaml
from full_disk import files_at_most
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_model

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.models.saved import read_weights

every_kind = pytest.mark.parametrize("kind", TINY)
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@every_kind
def test_round_trip(kind, tmp_path):
    model, ids = tiny_model(kind), torch.randint(0, 4, (2, 15))
    model.save_pretrained(tmp_path / "first")
    again = GenomicLM.from_pretrained(tmp_path / "first")
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert again.content_hash() == model.content_hash()
    assert not again.training
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    again.save_pretrained(tmp_path / "second")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert set(contents(tmp_path / "first")) == {WEIGHTS, CONFIG, CARD}


def test_tied_embeddings_stay_tied(tmp_path):
    tiny_model("tied embeddings").save_pretrained(tmp_path)
    assert "head.weight" not in load_file(tmp_path / WEIGHTS)
    again = GenomicLM.from_pretrained(tmp_path)
    assert again.head.weight is again.embedding.weight


def test_a_model_that_was_read_can_be_trained(tmp_path):
    tiny_model("one stage").save_pretrained(tmp_path)
    model, ids = GenomicLM.from_pretrained(tmp_path), torch.randint(0, 4, (2, 15))
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_bfloat16_weights_are_read_as_float32(tmp_path):
    model = tiny_model("one stage").bfloat16()
    model.save_pretrained(tmp_path)
    again = GenomicLM.from_pretrained(tmp_path)
    for name, parameter in again.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, model.get_parameter(name).float())


def test_the_hash_is_of_weights_and_configuration():
    model = tiny_model("one stage")
    hashes = {model.content_hash(), tiny_model("one stage", norm_eps=1e-6).content_hash()}
    with torch.no_grad():
        model.head.weight[0, 0] += 1
    assert len(hashes | {model.content_hash()}) == 3


def damaged(tmp_path, damage):
    tiny_model("one stage").save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as error:
        GenomicLM.from_pretrained(tmp_path)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)
    return str(error.value)


def change_weights(change):
    """Rewrite the file of weights with a changed dictionary."""

    def damage(folder):
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS)

    return damage


def truncate(share):
    def damage(folder):
        whole = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(whole[: int(share * len(whole))])

    return damage


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights(share, tmp_path):
    assert f"{WEIGHTS}: not a readable safetensors file" in damaged(tmp_path, truncate(share))


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_file(name, tmp_path):
    assert f"no {name} here" in damaged(tmp_path, lambda folder: (folder / name).unlink())


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json here"):
        GenomicLM.from_pretrained(tmp_path / "nowhere")


def test_a_pickle_is_not_opened(tmp_path):
    sentence = damaged(tmp_path, lambda folder: torch.save({"head.weight": torch.zeros(2)}, folder / WEIGHTS))
    assert "not a readable safetensors file" in sentence


class NotATensor:
    """Something whose unpickling would run code."""

    def __reduce__(self):
        return print, ("this was run",)


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "ckpt"])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state}])
def test_weights_that_torch_wrote(suffix, wrap, tmp_path):
    state = tiny_model("one stage").state_dict()
    torch.save(wrap(state), tmp_path / f"weights.{suffix}")
    found = read_weights(tmp_path / f"weights.{suffix}")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"head.weight": NotATensor()}, "not a readable file of tensors alone"),
        ({"head.weight": 3}, "something else than tensors by name"),
        ([torch.zeros(2)], "something else than tensors by name"),
        (None, "cannot be read"),
        (b"PK", "not a readable file of tensors alone"),
    ],
)
def test_other_files_of_torch(content, sentence, tmp_path, capfd):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError) as error:
        read_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert sentence in str(error.value)
    assert "this was run" not in capfd.readouterr().out


def test_missing_keys(tmp_path):
    sentence = damaged(tmp_path, change_weights(lambda state: state.pop("head.weight")))
    assert "1 missing key (head.weight)" in sentence


def test_unknown_keys(tmp_path):
    extra = {f"extra.{i}": torch.zeros(2) for i in range(5)}
    sentence = damaged(tmp_path, change_weights(lambda state: state.update(extra)))
    assert "5 unknown keys (extra.0, extra.1, extra.2, …)" in sentence


def test_a_wrong_shape(tmp_path):
    sentence = damaged(
        tmp_path, change_weights(lambda state: state.update({"head.weight": torch.zeros(16, 8)}))
    )
    assert "head.weight has the shape (16, 8), and the configuration says (16, 16)" in sentence


def test_a_wrong_configuration(tmp_path):
    def widen(folder):
        values = json.loads((folder / CONFIG).read_text())
        values["d_model"] = [32, 32]
        (folder / CONFIG).write_text(json.dumps(values))

    assert "has the shape" in damaged(tmp_path, widen)


def test_a_save_that_fails_leaves_the_old_model(tmp_path):
    tiny_model("one stage").save_pretrained(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"{WEIGHTS}: cannot be written"), files_at_most(1 << 14):
        tiny_model("mamba").save_pretrained(tmp_path)
    assert contents(tmp_path) == before


def test_what_transformers_looks_for_is_no_part_of_the_hash(tmp_path):
    model = tiny_model("one stage")
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / CONFIG).read_text())
    assert saved.pop("architectures") == ["GenotokForCausalLM"]
    assert saved.pop("model_type") == "genotok"
    assert saved == model.config.to_dict()
    digest = hashlib.sha256((json.dumps(saved, indent=2) + "\n").encode() + (tmp_path / WEIGHTS).read_bytes())
    assert model.content_hash() == digest.hexdigest()
    (tmp_path / CONFIG).write_text(json.dumps(saved))  # as models were saved before
    assert GenomicLM.from_pretrained(tmp_path).content_hash() == digest.hexdigest()


def test_the_configuration_of_another_kind_of_model():
    with pytest.raises(InputError, match="model_type: 'llama' is not genotok"):
        ModelConfig.from_dict({"model_type": "llama", "layout": ["T1"]})


def front_matter(card):
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_card_says_what_the_model_is(tmp_path):
    model = tiny_model("merged and static chunks")
    model.save_pretrained(tmp_path)
    card = (tmp_path / CARD).read_text()
    assert front_matter(card) == {
        "library_name": "genotok",
        "pipeline_tag": "text-generation",
        "tags": ["genomics", "dna", "attention", "mamba2", "merge-chunks", "static-chunks"],
    }
    rows = dict(re.findall(r"^\| (\S.*?) \| (.*) \|$", card, re.MULTILINE))
    assert rows["d_model"] == "`[16, 24, 32]`"
    assert rows["mamba2.d_conv"] == "`3`"
    assert rows["upsamplers"] == '`["ema", "repeat"]`'
    assert "hyena.order" not in rows
    assert int(rows["parameters"].replace(",", "")) == sum(p.numel() for p in model.parameters())
    assert rows["model hash"] == f"`{model.content_hash()}`"
    assert "genotok score" in card


def test_cards_of_learned_chunks_and_of_masked_tokens(tmp_path):
    tiny_model("one stage").save_pretrained(tmp_path)
    assert '| chunkers | `[{"kind": "routing"}]` |' in (tmp_path / CARD).read_text()
    tiny_model("transformer with biases", tasks=["mlm"]).save_pretrained(tmp_path)
    card = (tmp_path / CARD).read_text()
    assert front_matter(card)["pipeline_tag"] == "fill-mask"
    assert "chunkers" not in card
    assert "genotok score" not in card  # which needs the next token


def test_a_card_that_a_person_wrote_stays(tmp_path):
    tiny_model("mamba").save_pretrained(tmp_path)
    first = (tmp_path / CARD).read_text()
    tiny_model("mamba", seed=1).save_pretrained(tmp_path)
    assert (tmp_path / CARD).read_text() != first  # genotok's own is brought up to date
    mine = re.sub("<!-- Written by genotok.*-->\n", "", first) + "Trained by me.\n"
    for text in (mine, "", "caf\xe9"):
        (tmp_path / CARD).write_text(text, encoding="latin-1")
        tiny_model("mamba", seed=2).save_pretrained(tmp_path)
        assert (tmp_path / CARD).read_text(encoding="latin-1") == text


def changed_weights(tmp_path, change, kind="one stage"):
    """A saved model with other weights in its file; the model, and what is read of it without strictness."""
    model = tiny_model(kind)
    model.save_pretrained(tmp_path)
    change_weights(change)(tmp_path)
    torch.manual_seed(7)
    return model, GenomicLM.from_pretrained(tmp_path, strict=False)


def test_loading_what_fits(tmp_path, capsys):
    def change(state):
        state.pop("backbone.encoder.blocks.0.mixer.dt_bias")
        state.pop("backbone.skip.weight")
        state["classifier.weight"] = torch.zeros(2)
        state["head.weight"] = torch.zeros(16, 8)

    model, loaded = changed_weights(tmp_path, change)
    report = loaded.load_report
    assert report.missing == ["backbone.encoder.blocks.0.mixer.dt_bias", "backbone.skip.weight"]
    assert report.unknown == ["classifier.weight"]
    assert report.reshaped == [("head.weight", (16, 8), (16, 16))]
    said = capsys.readouterr().err.splitlines()
    assert all(line.startswith(str(tmp_path)) for line in said)
    assert [line.split(": ", 1)[1] for line in said] == report.lines()
    for words in (*report.missing, *report.unknown, "head.weight (16, 8) for (16, 16)"):
        assert sum(words in line for line in said) == 1
    torch.manual_seed(7)
    new = GenomicLM(model.config)
    changed = {*report.missing, "head.weight"}
    for name, parameter in loaded.named_parameters():
        source = new if name in changed else model
        assert torch.equal(parameter, source.get_parameter(name)), name
    assert not loaded.training


def test_nothing_is_said_where_everything_fits(tmp_path, capsys):
    model, loaded = changed_weights(tmp_path, lambda state: None, "tied embeddings")
    assert capsys.readouterr().err == ""
    assert (loaded.load_report.missing, loaded.load_report.unknown, loaded.load_report.reshaped) == (
        [],
        [],
        [],
    )
    assert loaded.head.weight is loaded.embedding.weight
    assert loaded.content_hash() == model.content_hash()
    assert GenomicLM.from_pretrained(tmp_path).load_report == loaded.load_report
    assert model.load_report is None


def test_a_tied_embedding_of_another_size_is_reported_once(tmp_path):
    _, loaded = changed_weights(
        tmp_path, lambda state: state.update({"embedding.weight": torch.zeros(24, 16)}), "tied embeddings"
    )
    assert loaded.load_report.reshaped == [("embedding.weight", (24, 16), (16, 16))]
    assert loaded.load_report.missing == loaded.load_report.unknown == []
    assert loaded.head.weight is loaded.embedding.weight


def test_weights_of_which_none_fits(tmp_path):
    tiny_model("mamba").save_pretrained(tmp_path)
    save_file({"a": torch.zeros(2)}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match="none of the weights fits"):
        GenomicLM.from_pretrained(tmp_path, strict=False)


def test_damage_is_damage_without_strictness_too(tmp_path):
    tiny_model("one stage").save_pretrained(tmp_path)
    truncate(0.5)(tmp_path)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        GenomicLM.from_pretrained(tmp_path, strict=False)

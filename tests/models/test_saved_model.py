"""Models on disk."""

import json

import pytest
import torch
from full_disk import files_at_most
from safetensors.torch import load_file, save_file
from tiny_models import TINY, tiny_model

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.saved import read_weights

every_kind = pytest.mark.parametrize("kind", TINY)
WEIGHTS, CONFIG = "model.safetensors", "config.json"


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
    assert set(contents(tmp_path / "first")) == {WEIGHTS, CONFIG}


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

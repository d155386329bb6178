"""Checkpoints: everything comes back, and only the latest stay."""

import json

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import TOY_MODEL, toy_config

from genotok.errors import InputError
from genotok.training.checkpoint import list_checkpoints, load_checkpoint, read_state, save_checkpoint
from genotok.training.loop import Trainer

STATE = {"identity": "x", "sampler": {"epoch": 1, "position": 2}, "metrics": ""}


def stepped(toy_shards, folder, steps, seed=1):
    """A trainer whose model and optimizer have seen some batches."""
    trainer = Trainer(toy_config(toy_shards, seed=seed), folder)
    for _ in range(steps):
        trainer.gradient.backward(next(trainer.batches), trainer.task)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    return trainer


def test_everything_comes_back(toy_shards, tmp_path):
    saved = stepped(toy_shards, tmp_path, 3)
    checkpoint = save_checkpoint(tmp_path, 3, saved.tensors, STATE, 2, saved.ranks)
    drawn = torch.rand(4)
    loaded = stepped(toy_shards, tmp_path, 1, seed=2)
    load_checkpoint(checkpoint, loaded.tensors, loaded.ranks)
    assert torch.equal(torch.rand(4), drawn)
    for a, b in zip(saved.model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(a, b)
    before, after = saved.optimizer.state_dict()["state"], loaded.optimizer.state_dict()["state"]
    assert before.keys() == after.keys()
    for index, values in before.items():
        assert set(values) == set(after[index]) == {"step", "exp_avg", "exp_avg_sq"}
        for key, value in values.items():
            assert torch.equal(value, after[index][key])
    assert read_state(checkpoint) == {"step": 3, **STATE}


def test_the_latest_stay(toy_shards, tmp_path):
    trainer = stepped(toy_shards, tmp_path, 1)
    for step in (9, 10, 100):
        save_checkpoint(tmp_path / "c", step, trainer.tensors, STATE, 2, trainer.ranks)
    assert [path.name for path in list_checkpoints(tmp_path / "c")] == ["step-00000010", "step-00000100"]
    assert len(list((tmp_path / "c").iterdir())) == 2


def test_an_unfinished_checkpoint_is_none(toy_shards, tmp_path):
    trainer = stepped(toy_shards, tmp_path, 1)
    checkpoint = save_checkpoint(tmp_path, 5, trainer.tensors, STATE, 2, trainer.ranks)
    checkpoint.rename(tmp_path / ".step-00000006.123.tmp")
    assert list_checkpoints(tmp_path) == []
    assert list_checkpoints(tmp_path / "nowhere") == []


def test_files_are_safetensors_and_json(toy_shards, tmp_path):
    trainer = stepped(toy_shards, tmp_path, 1)
    checkpoint = save_checkpoint(tmp_path, 5, trainer.tensors, STATE, 2, trainer.ranks)
    state = checkpoint / "state.json"
    assert json.loads(state.read_text()) == {"step": 5, **STATE}
    tensors = [path for path in checkpoint.iterdir() if path != state]
    assert sorted(path.stem for path in tensors) == ["model", "optimizer", "random"]
    assert all(load_file(path) for path in tensors)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"step": 1}', "{"])
def test_a_damaged_state_is_said(text, tmp_path):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InputError, match="damaged checkpoint; remove it to go on from an earlier one"):
        read_state(tmp_path)


def test_a_checkpoint_of_another_model_is_said(toy_shards, tmp_path):
    trainer = stepped(toy_shards, tmp_path, 1)
    checkpoint = save_checkpoint(tmp_path, 5, trainer.tensors, STATE, 2, trainer.ranks)
    wider = {**TOY_MODEL, "d_model": [16, 32]}
    other = Trainer(toy_config(toy_shards, model=wider), tmp_path)
    with pytest.raises(InputError, match="damaged checkpoint, or of another model"):
        load_checkpoint(checkpoint, other.tensors, other.ranks)

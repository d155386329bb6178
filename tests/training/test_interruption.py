"""Runs that end early and go on: the bytes at the end are those of a run that was not interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from toy_runs import TOY_MODEL, TOY_SETTINGS, pull_the_plug, results, toy_config, train

from genotok.errors import InputError
from genotok.shards.writer import tokenize_genomes
from genotok.training.identity import differences
from genotok.training.loop import Trainer
from genotok.training.monitor import read_metrics
from genotok.training.start import read_model_config


def train_until(shards, folder, step, resume=False):
    """Run and fall over in the middle of the step behind `step`."""
    pull_the_plug(Trainer(toy_config(shards), folder), step, resume=resume)


@pytest.fixture(scope="module")
def uninterrupted(toy_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(toy_shards, folder)
    return results(folder)


@pytest.mark.parametrize("steps", [(3,), (5,), (7,), (11,), (6, 9, 11)])
def test_going_on(steps, uninterrupted, toy_shards, tmp_path):
    for step in steps:
        train_until(toy_shards, tmp_path, step, resume=True)
    train(toy_shards, tmp_path, resume=True)
    assert results(tmp_path) == uninterrupted


def test_a_run_before_its_first_checkpoint_may_simply_begin_again(uninterrupted, toy_shards, tmp_path):
    train_until(toy_shards, tmp_path, 3)
    train(toy_shards, tmp_path)
    assert results(tmp_path) == uninterrupted


def test_resume_of_a_finished_run_changes_nothing(uninterrupted, toy_shards, tmp_path):
    for _ in range(2):
        train(toy_shards, tmp_path, resume=True)
        assert results(tmp_path) == uninterrupted


def test_metrics_cut_within_a_line(uninterrupted, toy_shards, tmp_path):
    train_until(toy_shards, tmp_path, 8)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    train(toy_shards, tmp_path, resume=True)
    assert results(tmp_path) == uninterrupted


def test_shards_may_move_and_checkpoints_come_at_other_times(uninterrupted, toy_shards, tmp_path):
    train_until(toy_shards, tmp_path / "run", 7)
    shutil.copytree(toy_shards, tmp_path / "moved")
    train(tmp_path / "moved", tmp_path / "run", resume=True, checkpoint_every=1, keep_checkpoints=5)
    assert results(tmp_path / "run") == uninterrupted
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 5


def test_a_folder_with_a_run_is_not_trained_into(toy_shards, tmp_path):
    train_until(toy_shards, tmp_path, 7)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="holds a run already; go on with --resume or choose another folder"):
        train(toy_shards, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 1e-3}, "learning_rate was 0.003 and is 0.001"),
        ({"steps": 13, "seed": 2}, "steps was 12 and is 13; seed was 1 and is 2"),
        ({"log_every": 2}, "log_every was 1 and is 2"),
    ],
)
def test_other_settings_are_refused_or_begin_anew(changes, said, toy_shards, tmp_path):
    train_until(toy_shards, tmp_path / "run", 7)
    told = (
        rf"step-00000005: is a checkpoint of other settings or other data \({said}\); choose another folder"
    )
    with pytest.raises(InputError, match=told):
        train(toy_shards, tmp_path / "run", resume=True, **changes)
    train(toy_shards, tmp_path / "run", resume=True, restart_if_changed=True, **changes)
    train(toy_shards, tmp_path / "fresh", **changes)
    assert results(tmp_path / "run") == results(tmp_path / "fresh")


def test_other_data_are_refused(toy_shards, tmp_path):
    train_until(toy_shards, tmp_path / "run", 7)
    tokenize_genomes([toy_shards.parent / "toy.fa"], tmp_path / "other", window=33, valid=["b"])
    with pytest.raises(InputError, match=r"other settings or other data \(the data\); choose"):
        train(tmp_path / "other", tmp_path / "run", resume=True)


def test_a_checkpoint_that_knows_its_run_by_a_hash_alone_serves_and_is_refused(
    uninterrupted, toy_shards, tmp_path
):
    """As those of earlier versions."""
    train_until(toy_shards, tmp_path, 7)
    path = tmp_path / "checkpoints" / "step-00000005" / "state.json"
    state = json.loads(path.read_text())
    del state["known_by"]
    path.write_text(json.dumps(state))
    with pytest.raises(InputError, match="of other settings or other data; choose another folder"):
        train(toy_shards, tmp_path, resume=True, seed=2)
    train(toy_shards, tmp_path, resume=True)
    assert results(tmp_path) == uninterrupted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {**TOY_MODEL, "d_model": [16, 32]}}, "model.d_model was [16, 24] and is [16, 32]"),
        ({"model": "hnet_1stage_dna"}, "model"),
        ({"clip": 2.0, "beta2": 0.9}, "beta2 was 0.95 and is 0.9; clip was 1.0 and is 2.0"),
        (
            {"mask_probability": {0: 0.1, 2: 0.2, 10: 0.3}},
            'mask_probability was 0.15 and is {"0": 0.1, "2": 0.2, "10": 0.3}',
        ),
    ],
)
def test_what_differs_is_named_by_its_key(changes, said):
    """Whatever JSON makes of values: checkpoints hold their identity as JSON."""

    def identity(config):
        model = read_model_config(config.model).to_dict()
        return {"settings": config.identity(), "model": model, "files": [["train", "0f"]]}

    one, other = identity(toy_config("shards")), identity(toy_config("shards", **changes))
    assert differences(json.loads(json.dumps(other)), other) == ""
    assert differences(json.loads(json.dumps(one)), other) == said


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"]
)
@pytest.mark.parametrize("damage", ["cut", "empty", "absent"])
def test_a_damaged_checkpoint_is_said_and_an_earlier_one_serves(
    name, damage, uninterrupted, toy_shards, tmp_path
):
    train_until(toy_shards, tmp_path, 11)
    checkpoint = tmp_path / "checkpoints" / "step-00000010"
    path = checkpoint / name
    whole = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    if (name, damage) != ("state.json", "absent"):  # without it a folder is no finished checkpoint
        with pytest.raises(InputError) as error:
            train(toy_shards, tmp_path, resume=True)
        assert str(error.value).startswith(f"{checkpoint}: damaged checkpoint")
        assert "remove it to go on from an earlier one" in str(error.value)
        shutil.rmtree(checkpoint)
    train(toy_shards, tmp_path, resume=True)
    assert results(tmp_path) == uninterrupted


LONG = {"steps": 120, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def long_run(toy_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "run"
    train(toy_shards, folder, **LONG)
    return results(folder)


def signalled(shards, folder, number):
    """Start a run as a user does, send a signal in its midst, and wait; the return code and what it said."""
    config = folder.with_suffix(".yaml")
    config.write_text(json.dumps({"shards": str(shards), **TOY_SETTINGS, **LONG}))
    command = [sys.executable, "-m", "genotok", "train", str(config), "-o", str(folder)]
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    metrics, give_up = folder / "metrics.jsonl", time.monotonic() + 120
    while not metrics.is_file() or metrics.read_text().count("\n") < 9:
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.005)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    return running.returncode, said


def test_sigterm_writes_a_checkpoint(long_run, toy_shards, tmp_path):
    folder = tmp_path / "run"
    code, said = signalled(toy_shards, folder, signal.SIGTERM)
    assert code == 143, said
    assert "go on with --resume" in said
    step = read_metrics(folder / "metrics.jsonl")[-1]["step"]
    assert 0 < step < LONG["steps"]
    assert (folder / "checkpoints" / f"step-{step:08d}" / "state.json").is_file()
    assert not (folder / "model.safetensors").exists()
    train(toy_shards, folder, resume=True, **LONG)
    assert results(folder) == long_run


def test_sigkill_loses_only_what_came_after_the_checkpoint(long_run, toy_shards, tmp_path):
    folder = tmp_path / "run"
    code, said = signalled(toy_shards, folder, signal.SIGKILL)
    assert code == -signal.SIGKILL, said
    assert not (folder / "model.safetensors").exists()
    train(toy_shards, folder, resume=True, **LONG)
    assert results(folder) == long_run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_that_load(number, long_run, toy_shards, tmp_path):
    """SIGTERM to all processes, as batch systems send it, is that to the run; a killed one ends it in a sentence."""
    config, folder = tmp_path / "c.yaml", tmp_path / "run"
    settings = {"shards": str(toy_shards), **TOY_SETTINGS, **LONG, "loader_workers": 2}
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "genotok", "train", str(config), "-o", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    metrics, give_up = folder / "metrics.jsonl", time.monotonic() + 120
    while not metrics.is_file() or metrics.read_text().count("\n") < 9:
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.005)
    with open(f"/proc/{running.pid}/task/{running.pid}/children") as handle:
        workers = [int(word) for word in handle.read().split()]
    assert len(workers) == 2
    if number == signal.SIGTERM:
        os.killpg(running.pid, number)
    else:
        os.kill(workers[1], number)
    said = running.communicate(timeout=60)[1]
    if number == signal.SIGTERM:
        assert running.returncode == 143, said
        assert "go on with --resume" in said
    else:
        assert running.returncode == 2, said
        assert "loader_workers: process 2 of 2 that makes batches was ended by SIGKILL" in said
        assert "Traceback" not in said
        train(toy_shards, folder, resume=True, **LONG)
        assert results(folder) == long_run
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)

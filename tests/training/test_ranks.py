"""Two ranks that train one model, for real: the losses and weights of one, and ends of all kinds in a sentence."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_runs import TOY_MODEL, TOY_SETTINGS, train

from genotok.errors import InputError
from genotok.settings import parse_settings
from genotok.training.checkpoint import list_checkpoints, read_state
from genotok.training.config import TableConfig, TrainConfig
from genotok.training.loop import Trainer
from genotok.training.monitor import read_metrics

# Learned boundaries of both kinds; the merging chunker has weights of a single number, which FSDP2 cannot cut.
DEEP = {
    **TOY_MODEL,
    "layout": ["m1", ["m1", ["T1"], "m1"], "m1"],
    "d_model": [16, 16, 24],
    "d_intermediate": [0, 0, 32],
    "attention": {"heads": 2, "rotary_dim": 4, "window": -1},
    "chunkers": [{"kind": "routing"}, {"kind": "merge", "min_length": 1, "max_length": 4}],
}
STEPS = {
    **TOY_SETTINGS,
    "model": DEEP,
    "target_chunk_length": [3.0, 2.0],
    "ratio_weight": 0.2,
    "steps": 6,
    "validate_every": 3,
    "checkpoint_every": 3,
    "ema_decay": 0.5,
    "keep_best": 1,
}
MASKED = {
    **TOY_SETTINGS,
    "model": {
        **TOY_MODEL,
        "tasks": ["mlm"],
        "chunk_states": ["cross_attention"],
    },  # of which a pass leaves one unused
    "steps": 4,
    "validate_every": 0,
    "accumulate": 2,
}
HEADS = {
    "motif": {"kind": "classification", "outputs": 2},
    "share": {"kind": "regression", "outputs": 1, "weight": 0.5},
}


def launch(arguments, **more):
    """Start `torchrun` with two ranks."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **more)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Labelled sequences; of every second half of a batch no `share` is known, so that one rank has none."""
    path = tmp_path_factory.mktemp("table") / "train.csv"
    rows = ["GATTACA" * (2 + i % 3) + "ACGT"[i % 4] for i in range(16)]
    path.write_text(
        "sequence,motif,share\n"
        + "".join(f"{row},{i % 2},{i / 16 if i < 5 else ''}\n" for i, row in enumerate(rows))
    )
    return path


def of_table(table):
    heads = {
        "model": {**TOY_MODEL, "tasks": ["lm", "prediction"], "heads": HEADS},
        "steps": 4,
        "batch_size": 4,
    }
    labels = {"motif": "motif", "share": "share"}
    return {**TOY_SETTINGS, **heads, "validate_every": 0, "table": {"train": str(table), "labels": labels}}


def of_several(toy_shards, table):
    """Data sets of three tasks, over a curriculum of windows that two ranks cannot always share evenly."""
    heads = of_table(table)
    model = {**heads["model"], "layout": ["t1", ["T1"], "t1"], "tasks": ["lm", "mlm", "prediction"]}
    data = [
        {"shards": str(toy_shards), "name": "toy"},
        {"shards": str(toy_shards), "name": "masked", "task": "mlm"},
        {"table": heads["table"], "name": "heads"},
    ]
    schedules = {
        "window_length": {0: 16, 4: 32},
        "bases_per_step": 176,
        "target_chunk_length": {0: [2.0], 3: [4.0]},
    }
    more = {"validate_every": 0, "soft_mask_weight": 0.1, "ratio_weight": 0.2, "steps": 8, "seed": 4}
    return {**TOY_SETTINGS, "model": model, "data": data, **schedules, **more}


@pytest.fixture(scope="module")
def alone(toy_shards, table, tmp_path_factory):
    """The same runs on one rank."""
    folder = tmp_path_factory.mktemp("alone")
    train(toy_shards, folder / "deep", **STEPS)
    train(toy_shards, folder / "micro", **STEPS, accumulate=2)
    train(toy_shards, folder / "masked", **MASKED)
    heads = of_table(table)
    Trainer(TrainConfig(**{**heads, "table": TableConfig(**heads["table"])}), folder / "heads").run()
    several = parse_settings(TrainConfig, of_several(toy_shards, table), "several")
    Trainer(several, folder / "several").run()
    return folder


@pytest.fixture(scope="module")
def ranks(toy_shards, table, alone, tmp_path_factory):
    """The folder of the runs of two ranks, and how each ended on either rank."""
    folder = tmp_path_factory.mktemp("ranks")
    going_on = folder / "going_on"
    shutil.copytree(alone / "deep", going_on)
    shutil.rmtree(going_on / "checkpoints" / "step-00000006")
    deep = {"shards": str(toy_shards), **STEPS}
    jobs = {
        "ddp": {"settings": deep},
        "fsdp": {"settings": {**deep, "parallel": "fsdp"}},
        "fsdp_micro": {
            "settings": {
                **deep,
                "parallel": "fsdp",
                "accumulate": 2,
                "activation_checkpointing": "projections",
            }
        },
        "ddp_micro": {"settings": {**deep, "accumulate": 2, "activation_checkpointing": "light"}},
        "going_on": {"settings": {**deep, "parallel": "fsdp"}, "resume": True},
        "masked": {"settings": {"shards": str(toy_shards), **MASKED}},
        "heads": {"settings": of_table(table)},
        "several": {"settings": of_several(toy_shards, table)},
        "several_micro": {
            "settings": {**of_several(toy_shards, table), "accumulate": 2, "loader_workers": 1}
        },
        "full": {"settings": {**deep, "parallel": "fsdp", "keep_best": 0}, "disk": 16_000},
        "uneven": {"settings": {**deep, "batch_size": 3}},
    }
    jobs = [{"folder": str(folder / name), **job} for name, job in jobs.items()]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    running = launch([str(Path(__file__).with_name("ranks_program.py")), str(folder / "jobs.json")])
    said = running.communicate(timeout=240)[1]
    assert running.returncode == 0, said
    ends = [json.loads((folder / f"ends.{rank}.json").read_text()) for rank in range(2)]
    return folder, [{Path(name).name: end for name, end in of_rank.items()} for of_rank in ends]


NAMES = ("split", "data", "task")


def assert_alike(found, wanted, numbers=1e-5):
    records = [read_metrics(folder / "metrics.jsonl") for folder in (found, wanted)]
    assert len(records[0]) == len(records[1]) > 3
    for of_ranks, of_one in zip(*records, strict=True):
        assert of_ranks.keys() == of_one.keys()
        for key, value in of_one.items():
            assert of_ranks[key] == (pytest.approx(value, abs=numbers) if key not in NAMES else value), key
    weights, of_one = (load_file(folder / "model.safetensors") for folder in (found, wanted))
    assert weights.keys() == of_one.keys()
    for name, value in of_one.items():
        torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "ddp_micro", "fsdp_micro", "going_on"])
def test_losses_and_weights_are_those_of_one_rank(name, ranks, alone):
    folder, ends = ranks
    assert [end[name] for end in ends] == [["done", 6]] * 2
    assert_alike(folder / name, alone / "deep")
    assert (folder / name / "metrics.jsonl").read_bytes() != (alone / "deep" / "metrics.jsonl").read_bytes()
    assert [path.name for path in (folder / name / "best").iterdir()] == [
        path.name for path in (alone / "deep" / "best").iterdir()
    ]


def test_micro_batches_are_those_of_a_whole_batch(alone):
    assert_alike(alone / "micro", alone / "deep")


@pytest.mark.parametrize("name", ["masked", "heads"])
def test_weights_that_no_pass_uses_and_labels_that_one_rank_lacks(name, ranks, alone):
    assert_alike(ranks[0] / name, alone / name)


@pytest.mark.parametrize("name", ["several", "several_micro"])
def test_several_data_sets_and_a_curriculum(name, ranks, alone):
    assert_alike(ranks[0] / name, alone / "several")
    records = read_metrics(alone / "several" / "metrics.jsonl")
    assert len({record["task"] for record in records}) == 3


def test_parts_of_two_ranks_go_on_with_one(ranks, alone, toy_shards, tmp_path):
    shutil.copytree(ranks[0] / "fsdp", tmp_path / "run")
    latest = tmp_path / "run" / "checkpoints" / "step-00000006"
    assert sorted(path.suffix for path in latest.iterdir()) == [".json"] + [".safetensors"] * 3
    shutil.rmtree(latest)
    train(toy_shards, tmp_path / "run", resume=True, **STEPS)
    assert_alike(tmp_path / "run", alone / "deep")


def test_a_missing_part_is_said(ranks, toy_shards, tmp_path):
    shutil.copytree(ranks[0] / "fsdp", tmp_path / "run")
    latest = tmp_path / "run" / "checkpoints" / "step-00000006"
    (latest / read_state(latest)["parts"][1]).unlink()
    with pytest.raises(InputError, match=r"step-00000006: damaged checkpoint.* is missing"):
        train(toy_shards, tmp_path / "run", resume=True, **STEPS)


def test_what_ends_one_rank_ends_all_and_the_first_says_it(ranks):
    folder, (first, second) = ranks
    assert first["uneven"][0] == "InputError"
    assert first["uneven"][1].startswith("batch_size: 3 cannot be shared evenly by 2 ranks")
    assert first["full"][0] == "InputError"
    assert first["full"][1] == f"{folder}/full/checkpoints/step-00000003: cannot be written: File too large"
    assert [second[name][0] for name in ("uneven", "full")] == ["EndedElsewhere"] * 2
    assert list((folder / "full" / "checkpoints").iterdir()) == []


LONG = {**TOY_SETTINGS, "steps": 400, "checkpoint_every": 4, "validate_every": 0}


@pytest.fixture(scope="module")
def commanded(toy_shards, tmp_path_factory):
    """A run by the command line of which one rank is killed, and which then goes on until SIGTERM comes."""
    folder = tmp_path_factory.mktemp("commanded") / "run"
    config = folder.with_suffix(".yaml")
    config.write_text(json.dumps({"shards": str(toy_shards), **LONG}))
    found = {}
    for name, number in (("killed", signal.SIGKILL), ("asked", signal.SIGTERM)):
        before = latest_step(folder)
        running = launch(["-m", "genotok", "train", str(config), "-o", str(folder), "--resume"])
        wait_for(lambda before=before: latest_step(folder) > before, running)
        running_ranks = [
            int(line) for line in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        ]
        os.kill(max(running_ranks) if name == "killed" else running.pid, number)
        found[name] = running.communicate(timeout=90)[1], running.returncode, latest_step(folder)
    return folder, found


def latest_step(folder):
    found = list_checkpoints(folder / "checkpoints")
    return int(found[-1].name.split("-")[1]) if found else 0


def wait_for(happens, running):
    give_up = time.monotonic() + 120
    while not happens():
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_the_others_end_with_a_sentence_when_a_rank_is_killed(commanded):
    said, code, _ = commanded[1]["killed"]
    assert code == 1
    sentence = "genotok: rank 0: another rank of this run has ended or does not answer"
    assert said.count(sentence) == 1, said


def test_sigterm_stops_all_ranks_at_one_step(commanded):
    _, found = commanded
    said, _, step = found["asked"]
    assert said.count("go on with --resume") == 1, said
    assert f"stopped at step {step}; go on with --resume" in said
    assert found["killed"][2] < step < LONG["steps"]

"""Several data sets and tasks in one run, and settings that change over its steps."""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from toy_runs import TOY_MODEL, pull_the_plug, results, toy_config, train

from genotok.errors import InputError
from genotok.settings import parse_settings
from genotok.shards.writer import tokenize_genomes
from genotok.training.config import TrainConfig
from genotok.training.curriculum import value_at
from genotok.training.data import training_data
from genotok.training.distributed import Ranks
from genotok.training.loop import Trainer
from genotok.training.monitor import read_metrics
from genotok.training.start import read_model_config

MODEL = {
    **TOY_MODEL,
    "layout": ["t1", ["T1"], "t1"],
    "tasks": ["lm", "mlm", "prediction"],
    "heads": {"gc": {"kind": "classification", "outputs": 2}},
}
SCHEDULES = {
    "window_length": {0: 16, 6: 32, 12: 80},
    "bases_per_step": 160,
    "mask_probability": {0: 0.1, 9: 0.3},
    "target_chunk_length": {0: [2.0], 8: [4.0]},
}


@pytest.fixture(scope="module")
def parts(toy_shards, tmp_path_factory):
    """Two folders of shards, the second with soft-masked letters, and a table."""
    folder = tmp_path_factory.mktemp("parts")
    random = np.random.default_rng(3)
    text = "".join(random.choice(list("ACGTacgt"), 900))
    (folder / "soft.fa").write_text(f">s\n{text}\n>v\n{text[:100]}\n")
    tokenize_genomes([folder / "soft.fa"], folder / "soft", window=40, valid=["v"])
    rows = ["".join(random.choice(list("ACGT"), random.integers(5, 30))) for _ in range(20)]
    lines = [f"{row},{int(row.count('G') > 4)}" for row in rows]
    (folder / "gc.csv").write_text("\n".join(["sequence,label", *lines]) + "\n")
    table = {"train": str(folder / "gc.csv"), "valid": str(folder / "gc.csv"), "labels": {"gc": "label"}}
    return [
        {"shards": str(toy_shards), "name": "toy", "weight": {0: 1, 10: 3}},
        {"shards": str(folder / "soft"), "task": "mlm", "weight": 1},
        {"table": table, "weight": 1.5, "batch_size": 4},
    ]


def settings(parts, **changes):
    """Settings of a mixture, as a file would hold them."""
    base = {"model": MODEL, "steps": 20, "batch_size": 4, "threads": 1, "log_every": 1, "seed": 5}
    values = {**base, "data": parts, "validation_windows": 6, **changes}
    return parse_settings(TrainConfig, json.loads(json.dumps(values)), "c.yaml")


def alone(rank=0, ranks=1):
    """One of some ranks, which nobody has started."""
    return Ranks(rank, ranks, torch.device("cpu"))


def mixture(parts, rank=0, ranks=1, **changes):
    config = settings(parts, **changes)
    return training_data(config, read_model_config(config.model), "lm", alone(rank, ranks)).batches


def shown(batch):
    """All that a batch holds, as text."""
    return repr(
        {name: value.tolist() if torch.is_tensor(value) else value for name, value in vars(batch).items()}
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [0, 1, 7, 13])
def test_a_mixture_goes_on_with_any_number_of_workers(parts, done, workers):
    """Oracle: one process, uninterrupted."""
    wanted = list(map(shown, itertools.islice(mixture(parts, **SCHEDULES), 20)))
    first, second = (mixture(parts, loader_workers=workers, **SCHEDULES) for _ in range(2))
    try:
        found = list(map(shown, itertools.islice(first, done)))
        second.restore(json.loads(json.dumps(first.state())))
        found += list(map(shown, itertools.islice(second, 20 - done)))
    finally:
        first.close()
        second.close()
    assert found == wanted


def test_ranks_share_the_batches_of_one(parts):
    whole = mixture(parts, **SCHEDULES)
    ranks = [mixture(parts, rank, 2, **SCHEDULES) for rank in range(2)]
    for _ in range(20):
        batch, *shares = (next(batches) for batches in (whole, *ranks))
        assert {(share.task, share.data, share.step, share.turn) for share in shares} == {
            (batch.task, batch.data, batch.step, batch.turn)
        }
        rows = [row[:n].tolist() for s in shares for row, n in zip(s.input_ids, s.lengths, strict=True)]
        assert rows == [row[:n].tolist() for row, n in zip(batch.input_ids, batch.lengths, strict=True)]
        assert ranks[0].state() == ranks[1].state() == whole.state()


def test_data_sets_are_drawn_by_their_weights(parts):
    batches = mixture(parts, steps=10_000, loader_workers=0)
    first, second = (Counter(map(batches.drawn, steps)) for steps in (range(10), range(10, 6010)))
    assert sum(first.values()) == 10
    for number, weight in enumerate([3, 1, 1.5]):
        odds = weight / 5.5
        assert second[number] == pytest.approx(6000 * odds, abs=5 * math.sqrt(6000 * odds * (1 - odds)))
    with_another_seed = mixture(parts, seed=6)
    assert [with_another_seed.drawn(k) for k in range(50)] != [batches.drawn(k) for k in range(50)]


def test_batches_are_those_of_the_step(parts):
    batches = mixture(parts, **SCHEDULES)
    turns = Counter()
    for step in range(20):
        batch = next(batches)
        turns[batch.data] += 1
        assert (batch.step, batch.turn) == (step, turns[batch.data])
        assert batch.task == {"toy": "lm", "soft": "mlm", "gc": "prediction"}[batch.data]
        if batch.task == "prediction":
            assert len(batch.lengths) == 4
            continue
        length = value_at(SCHEDULES["window_length"], step)
        assert len(batch.lengths) == 160 // length
        assert batch.lengths.max() <= length + 1  # and the start token
        if batch.task == "mlm":
            share = value_at(SCHEDULES["mask_probability"], step)
            hidden = (batch.labels >= 0).sum(1) / (batch.lengths - 1)
            assert torch.all((hidden - share).abs() < 1.01 / (batch.lengths - 1))
    assert len(turns) == 3


def test_a_run_that_goes_on_ends_with_the_same_bytes(parts, tmp_path):
    changes = {**SCHEDULES, "soft_mask_weight": 0.1, "validate_every": 7, "checkpoint_every": 3}

    def run(folder, steps_before_a_fall=None, **more):
        trainer = Trainer(settings(parts, **changes, **more), folder)
        if steps_before_a_fall is None:
            trainer.run(resume=True)
        else:
            pull_the_plug(trainer, steps_before_a_fall, resume=True)

    run(tmp_path / "whole")
    for fall in (5, 11, 16):
        run(tmp_path / "cut", fall, loader_workers=fall % 3)
    run(tmp_path / "cut")
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    records = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    training = [record for record in records if record["split"] == "train"]
    assert [record["step"] for record in training] == list(range(1, 21))
    keys = {"toy": "bits_per_base", "soft": "nats_per_masked_token", "gc": "loss_gc"}
    assert all(keys[record["data"]] in record for record in records)
    tasks = {(record["data"], record["task"]) for record in records}
    assert tasks == {("toy", "lm"), ("soft", "mlm"), ("gc", "prediction")}
    validated = [(r["step"], r["data"]) for r in records if r["split"] == "valid"]
    assert validated == [(step, name) for step in (7, 14, 20) for name in keys]


def test_each_data_set_is_logged_by_its_own_count(parts, tmp_path):
    config = settings(parts, steps=12, log_every=3, target_chunk_length=[3.0])
    trainer = Trainer(config, tmp_path)
    drawn = [trainer.batches.data_sets[trainer.batches.drawn(step)].name for step in range(12)]
    trainer.run()
    wanted = [
        step + 1 for step, name in enumerate(drawn) if drawn[: step + 1].count(name) % 3 == 0 or step == 11
    ]
    records = [r for r in read_metrics(tmp_path / "metrics.jsonl") if r["split"] == "train"]
    assert [(r["step"], r["data"]) for r in records] == [(step, drawn[step - 1]) for step in wanted]


def test_windows_of_a_thousand_to_a_hundred_thousand_letters(tmp_path):
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 300_000))
    (tmp_path / "g.fa").write_text(f">a\n{text}\n")
    tokenize_genomes([tmp_path / "g.fa"], tmp_path / "shards", window=8192)
    config = toy_config(
        tmp_path / "shards",
        steps=3,
        window_length={0: 1024, 1: 8192, 2: 131072},
        bases_per_step=131072,
        model={**TOY_MODEL, "layout": ["m1"], "d_model": [8], "d_intermediate": [0]},
        target_chunk_length=[],
        validate_every=0,
    )
    batches = Trainer(config, tmp_path / "run").batches
    found = [tuple(next(batches).input_ids.shape) for _ in range(3)]
    assert found == [(128, 1025), (16, 8193), (1, 131073)]


def by_hand(model, batch, task, weight, dataset):
    """The weighted loss, label by label."""
    logits = model(batch.input_ids, task=task, lengths=batch.lengths).logits.log_softmax(-1)
    total = weights = 0.0
    for row in range(len(batch.lengths)):
        for place in range(1, int(batch.lengths[row])):
            label = int(batch.labels[row, place])
            if label < 0:
                continue
            own = weight if dataset.soft_masked(row)[place - 1] else 1.0
            total -= own * logits[row, place - (task == "lm"), label].item()
            weights += own
    return total / weights


@pytest.mark.parametrize("task", ["lm", "mlm"])
def test_soft_masked_letters_count_less(parts, task, tmp_path):
    part = {**parts[1], "task": task}
    config = settings([part], soft_mask_weight=0.1, both_strands=False, steps=3)
    trainer = Trainer(config, tmp_path)
    windows = trainer.batches.data_sets[0].batches
    order = windows.order
    order._order = np.arange(len(order.examples))  # so that row k is window k
    batch = next(trainer.batches)
    assert batch.task == task
    wanted, plain = (by_hand(trainer.model, batch, task, weight, windows.dataset) for weight in (0.1, 1.0))
    found = trainer.gradient.backward(batch, task).on_host()
    assert found.by_name[task] == pytest.approx(wanted, rel=1e-4)
    assert found.nats == pytest.approx(plain, rel=1e-4)
    gradient = trainer.model.head.weight.grad.clone()
    in_parts = Trainer(
        settings([part], soft_mask_weight=0.1, both_strands=False, steps=3, accumulate=2), tmp_path
    )
    again = in_parts.gradient.backward(batch, task).on_host()
    assert (again.total, again.nats) == pytest.approx((found.total, found.nats), rel=1e-5)
    torch.testing.assert_close(in_parts.model.head.weight.grad, gradient, rtol=1e-3, atol=1e-6)


def test_weights_of_tokens_are_means_over_their_letters(parts):
    config = settings([{"shards": parts[1]["shards"]}], soft_mask_weight=0.1, seed=2)
    for tokenizer in ("kmer", {"type": "kmer", "k": 3, "stride": 1}):
        model = read_model_config({**MODEL, "tokenizer": tokenizer})
        batches = training_data(config, model, "lm", alone()).data_sets[0].batches
        for _ in range(3):
            job = batches.next_job()
            batch = batches.make(job)
            for row, place in enumerate(job.places):
                soft = batches.dataset.soft_masked(place.index)
                soft = soft[::-1] if place.reverse else soft
                counts = [0.1 if letter else 1.0 for letter in soft]
                for weight, letters in zip(
                    batch.weights[row].tolist(), batch.letters[row].tolist(), strict=True
                ):
                    wanted = sum(counts[:letters]) / letters if letters else 0.0
                    assert weight == pytest.approx(wanted)
                    counts = counts[letters:]
                assert counts == []


REFUSED = [
    (
        {"window_length": {5: 16}},
        "window_length: a schedule begins with the value from step 0 on, and this one has [5]",
    ),
    (
        {"window_length": {0: 16, 9: 32, 4: 64}},
        "window_length: step 4 stands behind step 9; steps must ascend",
    ),
    ({"window_length": {0: 16, 20: 32}}, "window_length: changes at step 20, and the run ends with step 19"),
    ({"window_length": {0: 16, 3: 0}}, "window_length: is 0 from step 3 on and must be at least 1"),
    (
        {"mask_probability": {0: 0.1, 3: 1.0}},
        "mask_probability: is 1.0 from step 3 on and must be more than 0",
    ),
    (
        {"target_chunk_length": {0: [1.0]}},
        "target_chunk_length: is [1.0] from step 0 on and must be more than 1",
    ),
    ({"soft_mask_weight": 1.5}, "soft_mask_weight: is 1.5 and must be from 0 to 1"),
    ({"loader_workers": -1}, "loader_workers: is -1 and must be at least 0"),
    ({"bases_per_step": 0}, "bases_per_step: is 0 and must be at least 1"),
    ({"shards": "x"}, "data: stands beside `shards`, and a run has either"),
    ({"task": "lm"}, "task: each part of `data` has its own"),
    ({"data": []}, "data: is [] and must be a list with one data set or more"),
    ({"data": [{"weight": 1}]}, "data[0]: needs either `shards` or `table`"),
    (
        {"data": [{"shards": "a", "task": "prediction"}]},
        "data[0].task: is 'prediction' and must be lm or mlm",
    ),
    ({"data": [{"shards": "a"}, {"shards": "b/a"}]}, "data[1].name: 'a' is that of another part as well"),
    ({"data": [{"shards": "a", "weight": -1}]}, "data[0].weight: is -1.0 and must be at least 0"),
    ({"data": [{"shards": "a", "weight": {0: 1, 7: 0}}]}, "data: all weights are 0 from step 7 on"),
    ({"data": [{"shards": "a", "wieght": 1}]}, "data.0.wieght: "),
]


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_what_cannot_be_is_said_with_its_key(change, sentence):
    with pytest.raises(InputError) as error:
        settings([{"shards": "x"}], **change)
    assert str(error.value).startswith(f"c.yaml: {sentence}")


UNFIT = [
    (
        {"bases_per_step": 20, "window_length": {0: 16, 4: 32}},
        1,
        "bases_per_step: is 20, less than a window of 32",
    ),
    (
        {"batch_size": 3, "bases_per_step": 64, "window_length": 32},
        3,
        "bases_per_step: the windows of step 0 are 2, fewer than the 3 ranks",
    ),
    (
        {"batch_size": 3, "window_length": {0: 16, 3: 2000}},
        3,
        "window_length: the windows of 2000 letters are 2, fewer than the 3",
    ),
    ({"batch_size": 2}, 3, "batch_size: 2 cannot be shared evenly by 3 ranks"),
    ({"batch_size": 6, "accumulate": 4}, 1, "batch_size: 6 cannot be shared evenly by 1 ranks with 4 micro"),
]


@pytest.mark.parametrize(("changes", "ranks", "sentence"), UNFIT)
def test_what_does_not_fit_the_data_is_said(changes, ranks, sentence, parts):
    with pytest.raises(InputError) as error:
        mixture(parts[:1], ranks=ranks, **changes)
    assert str(error.value).startswith(sentence)


def test_a_task_that_the_model_does_not_know_is_said(parts, tmp_path):
    with pytest.raises(InputError, match=r"data\[1\].task: is 'mlm', and the model knows 'lm'"):
        Trainer(settings(parts[:2], model=TOY_MODEL), tmp_path)


def test_one_data_set_needs_no_name(toy_shards, tmp_path):
    """`shards` and a list of one give the same weights; the list's records name it."""
    train(toy_shards, tmp_path / "short", steps=3)
    named = [{"shards": str(toy_shards), "name": "toy"}]
    config = toy_config(toy_shards, steps=3)
    config = TrainConfig(
        **{**vars(config), "shards": None, "both_strands": None, "data": settings(named).data}
    )
    Trainer(config, tmp_path / "list").run()
    assert (tmp_path / "short" / "model.safetensors").read_bytes() == (
        tmp_path / "list" / "model.safetensors"
    ).read_bytes()
    record = read_metrics(tmp_path / "list" / "metrics.jsonl")[0]
    assert record["data"] == "toy"

"""What a run notes about itself: records, speed, and alarms of real runs."""

import json
import time

import pytest
import torch
from scipy.stats import entropy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_runs import TOY_MODEL, pull_the_plug, results, toy_config, train

from genotok.errors import InputError
from genotok.training import alarms
from genotok.training.loop import Trainer
from genotok.training.monitor import Monitor, read_metrics


def records_of(folder, split="train"):
    return [record for record in read_metrics(folder / "metrics.jsonl") if record["split"] == split]


def test_records(toy_shards, tmp_path):
    trainer = train(toy_shards, tmp_path, steps=4, log_every=2, validate_every=0)
    first, last = records_of(tmp_path)
    assert (first["step"], last["step"]) == (2, 4)
    whole = last["letters_per_chunk"][0] * last["chunk_fraction"][0]
    assert whole == pytest.approx(32 / 33, rel=0.01)  # a start token each; the end of a contig is shorter
    norms = last["stage_gradient_norms"]
    assert len(norms) == 2
    assert last["gradient_norm"] == pytest.approx((norms[0] ** 2 + norms[1] ** 2) ** 0.5, rel=1e-5)
    outer, inner = last["stage_learning_rates"]
    assert inner == pytest.approx(last["learning_rate"])
    assert outer / inner == pytest.approx((3 * 24 / 16) ** 0.5)
    nats = last["bits_per_base"] * torch.log(torch.tensor(2.0)).item()
    assert last["total_loss"] == pytest.approx(
        nats + 0.02 * last["ratio_loss"], rel=0.05
    )  # the end of a contig
    assert "loss_scale" not in last
    speed = read_metrics(tmp_path / "speed.jsonl")
    assert [record["step"] for record in speed] == [2, 4]
    for record in speed:
        assert record["steps"] == 2
        assert record["bases_per_second"] * record["seconds"] == pytest.approx(2 * 4 * 32, rel=0.1)
        assert 0 < record["waiting_share"] < 1
        assert record["memory_bytes"] > 1e7
        assert "mfu" not in record
    assert trainer.precision.name == "fp32"


def test_boundary_entropy_of_a_step(toy_shards, tmp_path):
    """Against the probabilities of the same model on the same batch."""
    trainer = Trainer(toy_config(toy_shards, steps=1, validate_every=0), tmp_path / "one")
    batch = next(Trainer(toy_config(toy_shards), tmp_path / "other").batches)
    with torch.no_grad():
        (boundaries,) = trainer.model(batch.input_ids, lengths=batch.lengths).packed_boundaries
    bits = [entropy([p, 1 - p], base=2) for p in boundaries.prob.double().tolist()]
    trainer.run()
    (record,) = records_of(tmp_path / "one")
    assert record["boundary_entropy"] == [pytest.approx(sum(bits) / len(bits), rel=1e-4)]
    assert record["letters_per_chunk"] == [pytest.approx(batch.bases / boundaries.mask.sum().item())]


def test_boundaries_that_no_weight_decides_upon_have_no_entropy(toy_shards, tmp_path):
    model = {**TOY_MODEL, "chunkers": [{"kind": "static", "length": 4}]}
    train(toy_shards, tmp_path, model=model, steps=1, validate_every=0)
    assert records_of(tmp_path)[0]["boundary_entropy"] == [0.0]


def test_tensorboard_has_all_of_it(toy_shards, tmp_path):
    train(toy_shards, tmp_path, steps=2, validate_every=0)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    wanted = {"bits_per_base", "total_loss", "letters_per_chunk/stage0", "boundary_entropy/stage0"}
    wanted |= {f"stage_gradient_norms/stage{stage}" for stage in (0, 1)} | {"stage_learning_rates/stage1"}
    speed = {"speed/bases_per_second", "speed/memory_bytes", "speed/waiting_share"}
    assert {f"train/{key}" for key in wanted} | speed <= set(board.Tags()["scalars"])
    (first, _) = board.Scalars("train/letters_per_chunk/stage0")
    assert first.value == pytest.approx(records_of(tmp_path)[0]["letters_per_chunk"][0])


def train_in_parts(shards, folder, stops, **changes):
    """Run, fall over in front of the steps named, and go on each time."""
    for stop in stops:
        pull_the_plug(Trainer(toy_config(shards, **changes), folder), stop, resume=True)
    train(shards, folder, resume=True, **changes)


def test_fp16_goes_on_with_the_same_bytes(toy_shards, tmp_path):
    """The scale is lowered for some steps, and stands in the checkpoint."""
    settings = {"precision": "fp16", "steps": 10, "checkpoint_every": 2, "validate_every": 0}
    trainer = train(toy_shards, tmp_path / "whole", **settings)
    training = records_of(tmp_path / "whole")
    assert training[-1]["skipped_steps"] == trainer.precision.skipped
    assert training[-1]["loss_scale"] == 65536 / 2**trainer.precision.skipped
    train_in_parts(toy_shards, tmp_path / "parts", [1, 3, 7], **settings)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_fp16_leaves_out_steps_that_overflow(toy_shards, tmp_path):
    trainer = Trainer(toy_config(toy_shards, precision="fp16", steps=6, validate_every=0), tmp_path)
    trainer.precision._scaler._init_scale = 2.0**40
    before = trainer.model.head.weight.clone()
    trainer.run()
    training = records_of(tmp_path)
    assert [record["skipped_steps"] for record in training] == [1, 2, 3, 4, 5, 6]
    assert training[-1]["loss_scale"] == 2.0**34
    assert all(record["gradient_norm"] is None for record in training)
    assert torch.equal(trainer.model.head.weight, before)


def test_a_scale_that_only_falls_ends_the_run_and_says_so_before(toy_shards, tmp_path, capsys):
    trainer = Trainer(toy_config(toy_shards, precision="fp16", steps=60, validate_every=0), tmp_path)
    trainer.model.head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(
        InputError, match=r"loss scale of fp16 7\.63e-06 with 33 steps left out: use precision bf16"
    ):
        trainer.run()
    (alarm,) = records_of(tmp_path, "alarm")
    assert (alarm["step"], alarm["kind"]) == (17, "loss_scale")
    assert capsys.readouterr().err.count("the loss scale of fp16 has fallen to 0.5") == 1


def sudden(trainer, step, change):
    """Change the model in front of a step."""
    whole_step = trainer._train_step

    def changed(*arguments):
        if trainer.step == step:
            with torch.no_grad():
                change(trainer.model)
        whole_step(*arguments)

    trainer._train_step = changed
    return trainer


def test_alarms_of_a_run_that_is_upset(toy_shards, tmp_path, capsys):
    """Weights of the head that grow by a factor of 1000 all at once raise the loss and its gradient."""
    trainer = Trainer(toy_config(toy_shards, steps=45, validate_every=0), tmp_path)
    sudden(trainer, 40, lambda model: model.head.weight.mul_(1000)).run()
    found = records_of(tmp_path, "alarm")
    assert {alarm["kind"] for alarm in found} == {"loss_spike", "gradient_norm"}
    said = capsys.readouterr().err
    for alarm in found:
        assert 41 <= alarm["step"] <= 43
        assert said.count(f"genotok: step {alarm['step']}: {alarm['message']}") == 1


def test_a_quiet_run_raises_no_alarm(toy_shards, tmp_path, capsys):
    train(toy_shards, tmp_path, steps=45, validate_every=0)
    assert records_of(tmp_path, "alarm") == []
    assert "genotok: step" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("angle", "kind"), [(1, "one_chunk_a_document_stage0"), (-1, "one_chunk_a_token_stage0")]
)
def test_collapse_in_a_run(angle, kind, toy_shards, tmp_path, monkeypatch):
    """A router whose query points along the key, or against it, whatever the ratio loss says."""
    monkeypatch.setattr(alarms, "PATIENCE", 6)

    trainer = Trainer(toy_config(toy_shards, steps=12, validate_every=0), tmp_path)
    chunker = trainer.model.backbone.chunker
    chunker.query.register_forward_hook(lambda module, inputs, output: torch.ones_like(output) + 0 * output)
    chunker.key.register_forward_hook(
        lambda module, inputs, output: angle * torch.ones_like(output) + 0 * output
    )
    trainer.run()
    (alarm,) = records_of(tmp_path, "alarm")
    assert (alarm["kind"], alarm["step"]) == (kind, 8)  # one step of warm-up, and 6 behind the first look


def test_alarms_stand_in_checkpoints(toy_shards, tmp_path):
    settings = {"steps": 46, "checkpoint_every": 7, "validate_every": 0, "learning_rate": 3e-3}

    def upset(folder, stops=()):
        for stop in (*stops, None):
            trainer = Trainer(toy_config(toy_shards, **settings), folder)
            sudden(trainer, 36, lambda model: model.head.weight.mul_(1000))
            if stop:
                sudden(trainer, stop, pull)
            with pytest.raises(Pulled) if stop else torch.enable_grad():
                trainer.run(resume=True)

    class Pulled(BaseException):
        pass

    def pull(model):
        raise Pulled

    upset(tmp_path / "whole")
    upset(tmp_path / "parts", (34, 44))
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    assert len(records_of(tmp_path / "whole", "alarm")) == 2


def test_a_starving_loader_is_said_and_noted_beside_the_metrics(toy_shards, tmp_path, monkeypatch, capsys):
    """The clock of the test stands still but where the loader waits."""
    monkeypatch.setattr(alarms, "LONG_ENOUGH", 0.2)
    trainer = Trainer(toy_config(toy_shards, steps=12, validate_every=0), tmp_path)
    clock, read = [0.0], type(trainer.batches).__next__

    def slow(batches):
        clock[0] += 0.1
        return read(batches)

    monkeypatch.setattr(type(trainer.batches), "__next__", slow)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    trainer.run()
    (alarm,) = [record for record in read_metrics(tmp_path / "speed.jsonl") if "kind" in record]
    assert (alarm["kind"], alarm["step"]) == ("waiting_for_data", 10)
    assert "100% of the last 1 seconds" in alarm["message"]
    assert records_of(tmp_path, "alarm") == []
    assert capsys.readouterr().err.count("waiting for data") == 1


def test_what_is_no_number_is_null(tmp_path):
    monitor = Monitor(tmp_path, 0, "")
    monitor.write(1, "train", {"loss": float("nan"), "norms": [1.0, float("inf")], "name": "x"})
    monitor.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1, "split": "train", "loss": None, "norms": [1.0, None], "name": "x",
    }  # fmt: skip

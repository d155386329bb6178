"""Steps whose numbers come late, as on a GPU: the same run, weights that nothing destroys, chunks without room."""

import copy
import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeCopyMode, FakeTensorMode
from toy_runs import TOY_MODEL, results, toy_config, train

from genotok.errors import InputError
from genotok.shards.sampler import with_tensors
from genotok.training import step as training_step
from genotok.training import taken_steps
from genotok.training.chunk_capacity import EXACT_STEPS
from genotok.training.loop import Trainer
from genotok.training.monitor import read_metrics
from genotok.training.optimizer import make_optimizer
from genotok.training.sharing import clip_gradient
from genotok.training.stage_gradients import gradient_norms
from genotok.training.step import GradientStep
from genotok.training.taken_steps import Guard, TakenStep

SETTINGS = {"steps": 12, "validate_every": 5, "checkpoint_every": 5}


def trainer_of(shards, folder, late, **changes):
    """A run whose optimizer has a condition on the device, and whose numbers are read late, or at once."""
    trainer = Trainer(toy_config(shards, **(SETTINGS | changes)), folder)
    for group in trainer.optimizer.param_groups:
        group.update(fused=True, foreach=False)
    trainer.late = late
    return trainer


def weights_of(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def broken(trainer, step, change):
    """Change the model in front of a step (1-based), also where it is taken again."""
    whole = trainer._take

    def taken(batch, number, *others, **named):
        if number == step:
            change(trainer.model)
        return whole(batch, number, *others, **named)

    trainer._take = taken
    return trainer


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "log_every": 3}], ids=["", "micro batches"])
def test_late_numbers_are_the_same(changes, toy_shards, tmp_path):
    for late in (False, True):
        trainer_of(toy_shards, tmp_path / str(late), late, **changes).run()
    assert results(tmp_path / "True") == results(tmp_path / "False")


def test_averages_of_late_steps_are_the_same_to_rounding(toy_shards, tmp_path):
    plain, late = (
        trainer_of(toy_shards, tmp_path / str(late), late, ema_decay=0.9, steps=6) for late in (False, True)
    )
    for trainer in (plain, late):
        trainer.run()
    for name, value in plain.average.values.items():
        torch.testing.assert_close(late.average.values[name], value, rtol=1e-5, atol=1e-7)


def test_the_host_is_one_step_ahead(toy_shards, tmp_path):
    trainer, waiting = trainer_of(toy_shards, tmp_path, True), []
    whole = trainer._take

    def taken(*arguments, **named):
        waiting.append(len(trainer.taken))
        return whole(*arguments, **named)

    trainer._take = taken
    trainer.run()
    # Behind steps 5 and 10 a checkpoint is written, for which the numbers so far are read.
    assert waiting == [0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1]
    assert not trainer.taken


def test_a_late_run_resumes_with_the_same_bytes(toy_shards, tmp_path):
    trainer_of(toy_shards, tmp_path / "whole", True).run()

    class Pulled(BaseException):
        pass

    def pull(model):
        raise Pulled

    with pytest.raises(Pulled):
        broken(trainer_of(toy_shards, tmp_path / "parts", True), 8, pull).run()
    trainer_of(toy_shards, tmp_path / "parts", True).run(resume=True)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_no_weight_is_destroyed(what, toy_shards, tmp_path):
    """The loss, or its gradient alone, is no number from step 4 on, which is seen behind step 5."""

    def poison(model):
        if what == "loss":
            trainer.gradient.passes.register_forward_hook(
                lambda module, inputs, sums: sums._replace(
                    losses={key: loss * math.nan for key, loss in sums.losses.items()}
                )
            )
        else:
            model.head.weight.register_hook(lambda gradient: gradient * math.inf)

    trainer = broken(trainer_of(toy_shards, tmp_path / "late", True, ema_decay=0.9), 4, poison)
    with pytest.raises(InputError, match=r"no number any more at step 4 \(loss .*there is no checkpoint yet"):
        trainer.run()
    assert trainer.step == 5
    good = trainer_of(toy_shards, tmp_path / "good", True, ema_decay=0.9)

    class Enough(BaseException):
        pass

    def stop(model):
        raise Enough

    with pytest.raises(Enough):
        broken(good, 4, stop).run()
    wanted = weights_of(good)
    for name, weight in weights_of(trainer).items():
        assert torch.equal(weight, wanted[name]), name
    for name, value in trainer.average.values.items():
        assert torch.equal(value, good.average.values[name]), name
    steps = [r["step"] for r in read_metrics(tmp_path / "late" / "metrics.jsonl")]
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("layout", ["one", "two"])
def test_a_run_with_room_for_chunks_is_the_same_to_rounding(layout, toy_shards, tmp_path):
    stages = 1 if layout == "one" else 2
    model = TOY_MODEL
    if stages == 2:
        model = {**TOY_MODEL, "layout": ["m1", ["m1", ["T1"], "m1"], "m1"], "d_model": [16, 24, 24]}
        model["d_intermediate"] = [0, 32, 32]
    settings = {"model": model, "target_chunk_length": [3.0] * stages, "checkpoint_every": 0, "steps": 6}
    train(toy_shards, tmp_path / "exact", **settings)
    train(toy_shards, tmp_path / "room", chunk_capacity=[1.0] * stages, **settings)
    found, wanted = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("room", "exact"))
    assert [record.keys() for record in found] == [record.keys() for record in wanted]
    for record, other in zip(found, wanted, strict=True):
        assert record.pop("split") == other.pop("split")
        for key, value in record.items():
            assert value == pytest.approx(other[key], rel=1e-3), key


@pytest.mark.parametrize("late", [False, True])
def test_steps_without_room_are_taken_again(late, toy_shards, tmp_path, capsys):
    """A step in which every token begins a chunk; it and those behind it are then those of a run without a limit."""

    def every_token(model):
        with torch.no_grad():
            model.backbone.chunker.key.weight.copy_(-torch.eye(16))

    exact = broken(trainer_of(toy_shards, tmp_path / "exact", late), 3, every_token)
    exact.run()
    training = [r for r in read_metrics(tmp_path / "exact" / "metrics.jsonl") if r["split"] == "train"]
    fractions = [record["chunk_fraction"][0] for record in training]
    assert max(fractions[:2]) < 0.7 < fractions[2]
    trainer = trainer_of(toy_shards, tmp_path / "room", late, chunk_capacity=[0.7])
    broken(trainer, 3, every_token).run()
    assert trainer.room.exceeded == 1
    assert capsys.readouterr().err.count("there is no room for the chunks of this step") == 1
    for name, weight in weights_of(trainer).items():
        torch.testing.assert_close(weight, weights_of(exact)[name], rtol=1e-3, atol=1e-5, msg=name)
    said = [json.loads(line) for line in (tmp_path / "room" / "speed.jsonl").read_text().splitlines()]
    assert [(r["step"], r["kind"]) for r in said if "kind" in r] == [(3, "chunk_capacity")]


def test_steps_behind_one_without_room_are_exact_also_after_a_resume(toy_shards, tmp_path):
    """So that the resumed run has the same bytes."""
    settings = {"chunk_capacity": [0.1], "steps": 10, "checkpoint_every": 4, "validate_every": 0}
    trainer = train(toy_shards, tmp_path / "whole", **settings)
    assert trainer.room.exceeded == 1
    assert trainer.room.state() == {"exact_until": 1 + EXACT_STEPS}
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "step-00000010")
    again = train(toy_shards, tmp_path / "parts", resume=True, **settings)
    assert again.room.exceeded == 0
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_with_room_reads_nothing_of_the_device(weighted, toy_shards, tmp_path, monkeypatch):
    """Tensors of the device have no numbers here, so that reading one is an error; those of the host have."""
    trainer = Trainer(toy_config(toy_shards, soft_mask_weight=0.5 if weighted else 1.0), tmp_path)
    batch, mode = next(trainer.batches), FakeTensorMode(allow_non_fake_inputs=True)
    assert (batch.weights is not None) == weighted
    with FakeCopyMode(mode):
        model = copy.deepcopy(trainer.model)

    def without_numbers(batch, device):
        return replace(with_tensors(batch, mode.from_tensor), lengths=batch.lengths)

    monkeypatch.setattr(training_step, "_on_device", without_numbers)

    def take(capacity):
        config = toy_config(toy_shards, chunk_capacity=capacity, target_chunk_length=[3.0])
        optimizer = make_optimizer(model, config)
        guard = Guard(optimizer, trainer.device)
        found = GradientStep(model, config, trainer.ranks, trainer.precision).backward(batch, "lm")
        of_stages = gradient_norms(optimizer, 2)
        norm = clip_gradient(model.parameters(), config.clip)
        with monkeypatch.context() as patch:
            patch.setattr(taken_steps, "OnItsWay", lambda values: values)
            guard.look(TakenStep(1, batch, True, 1e-3, [], found, norm, of_stages))
        with mode:
            optimizer.step()

    take([0.9])
    with pytest.raises(DataDependentOutputException):
        take(None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"chunk_capacity": [0.5, 0.5]}, "chunk_capacity: 2 values for the 1 chunking stages of the model"),
        ({"chunk_capacity": [0.0]}, r"chunk_capacity: is \[0.0\] and must be more than 0 and at most 1"),
        (
            {"chunk_capacity": [0.5], "model": {**TOY_MODEL, "layout": ["m1", ["H1"], "m1"]}},
            "chunk_capacity: Hyena in a stage of chunks needs to know how long its sequences are",
        ),
    ],
)
def test_capacities_that_do_not_fit(changes, sentence, toy_shards, tmp_path):
    with pytest.raises(InputError, match=sentence):
        Trainer(toy_config(toy_shards, **changes), tmp_path)


def test_a_capacity_is_no_part_of_the_run(toy_shards):
    assert toy_config(toy_shards, chunk_capacity=[0.5]).identity() == toy_config(toy_shards).identity()

"""What a run keeps: the best models, early ends, averages of weights; and runs with other ways through the blocks."""

import json
import shutil

import pytest
import torch
from full_disk import files_at_most
from safetensors.torch import load_file
from toy_runs import TOY_MODEL, losses_of, results, toy_config, train

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.shards.sampler import collate
from genotok.shards.writer import tokenize_genomes
from genotok.training import block_execution
from genotok.training.block_execution import run_blocks
from genotok.training.checkpoint import list_checkpoints
from genotok.training.loop import Trainer
from genotok.training.monitor import read_metrics
from genotok.training.selection import Selection


def validations(folder):
    return [record for record in read_metrics(folder / "metrics.jsonl") if record["split"] == "valid"]


def test_the_best_are_kept_and_hold_the_model_that_was_validated(toy_shards, tmp_path):
    settings = {"steps": 8, "validate_every": 1, "learning_rate": 0.05, "keep_best": 3, "decay": 0.0}
    trainer = train(toy_shards, tmp_path, **settings)
    values = {record["step"]: record["bits_per_base"] for record in validations(tmp_path)}
    assert len(values) == 8
    wanted = sorted(sorted(values, key=lambda step: values[step])[:3])
    assert wanted != [6, 7, 8]  # the run is wild enough for the test to mean something
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == [
        f"step-{step:08d}" for step in wanted
    ]
    best = min(values, key=lambda step: values[step])
    trainer.model = GenomicLM.from_pretrained(tmp_path / "best" / f"step-{best:08d}")
    assert trainer.validate()[0]["bits_per_base"] == pytest.approx(values[best], abs=1e-6)


def test_a_run_that_gets_no_better_ends_early_with_its_best_model(toy_shards, tmp_path):
    settings = {"steps": 60, "validate_every": 1, "learning_rate": 0.05, "patience": 3, "checkpoint_every": 0}
    trainer = train(toy_shards, tmp_path, **settings)
    values = [record["bits_per_base"] for record in validations(tmp_path)]
    best = values.index(min(values))
    assert trainer.step == len(values) == best + 1 + 3 < 60
    (kept,) = (tmp_path / "best").iterdir()
    assert kept.name == f"step-{best + 1:08d}"
    assert (kept / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    before = results(tmp_path)
    train(toy_shards, tmp_path, resume=True, **settings)
    assert results(tmp_path) == before


@pytest.mark.parametrize("changes", [{"keep_best": 1}, {"patience": 2}], ids=str)
def test_nothing_to_validate_with_is_said(changes, toy_shards, tmp_path):
    tokenize_genomes([toy_shards.parent / "toy.fa"], tmp_path / "shards", window=32)
    with pytest.raises(InputError, match=f"{next(iter(changes))}: there is nothing to validate with"):
        Trainer(toy_config(tmp_path / "shards", **changes), tmp_path / "run")


def test_an_interrupted_run_keeps_the_same_best(toy_shards, tmp_path):
    settings = {"steps": 8, "validate_every": 2, "checkpoint_every": 3, "keep_best": 2, "ema_decay": 0.9}
    train(toy_shards, tmp_path / "whole", **settings)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("step-00000006", "step-00000008"):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / name, ignore_errors=True)
    shutil.rmtree(tmp_path / "whole" / "checkpoints")
    (tmp_path / "cut" / "best" / "step-00000099").mkdir()
    train(toy_shards, tmp_path / "cut", resume=True, **settings)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    names = [sorted(path.name for path in (tmp_path / run / "best").iterdir()) for run in ("whole", "cut")]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("key", "values", "kept", "since"),
    [("bits_per_base", [3, 1, 2, 1, 5], [2, 4], 3), ("accuracy_x", [0.1, 0.5, 0.4, 0.9], [4, 2], 0)],
)
def test_selection(key, values, kept, since):
    selection = Selection(2, 4, key)
    for step, value in enumerate(values, 1):
        selection.take(step, {key: value})
    assert [step for _, step in selection.best] == kept
    assert selection.since == since
    again = Selection(2, 4, key)
    again.restore(json.loads(json.dumps(selection.state())))
    assert again == selection
    with pytest.raises(InputError, match="best_by: the validation has no number"):
        selection.take(9, {"other": 1.0})


def test_a_validation_that_is_no_number_is_never_the_best():
    selection = Selection(1, 2, "loss")
    assert [selection.take(step, {"loss": value}) for step, value in enumerate([2.0, float("nan"), 1.0])] == [
        True,
        False,
        True,
    ]


def test_the_average_is_what_is_validated_and_saved(toy_shards, tmp_path):
    """Held against an average that the test takes of the weights after each step."""
    trainer = Trainer(toy_config(toy_shards, steps=5, ema_decay=0.6, validate_every=0), tmp_path)
    wanted = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    whole_step = trainer._train_step

    def followed(*arguments):
        whole_step(*arguments)
        kept = min(0.6, (1 + trainer.step) / (10 + trainer.step))
        for name, parameter in trainer.model.named_parameters():
            wanted[name] = kept * wanted[name] + (1 - kept) * parameter.detach()

    trainer._train_step = followed
    trainer.run()
    saved = load_file(tmp_path / "model.safetensors")
    for name, value in wanted.items():
        torch.testing.assert_close(saved[name], value, atol=1e-6, rtol=0)
    assert (saved["head.weight"] - trainer.model.head.weight).abs().max() > 1e-4
    trainer.model = GenomicLM.from_pretrained(tmp_path)
    assert trainer.validate()[0] == {
        "bits_per_base": pytest.approx(validations(tmp_path)[-1]["bits_per_base"], abs=1e-6)
    }


def test_a_full_disk_leaves_the_checkpoint_before(toy_shards, tmp_path):
    trainer = train(toy_shards, tmp_path, steps=2, checkpoint_every=1)
    before = list_checkpoints(tmp_path / "checkpoints")
    trainer.step = 3
    with files_at_most(4000), pytest.raises(InputError) as error:
        trainer.save_checkpoint("")
    assert str(error.value).startswith(f"{tmp_path}/checkpoints/step-00000003: cannot be written: ")
    assert "File too large" in str(error.value)
    assert (
        list_checkpoints(tmp_path / "checkpoints") == before == sorted((tmp_path / "checkpoints").iterdir())
    )


def gradients(change, targets=(3.0,), **settings):
    """The loss of a batch and the gradient of every weight, once the blocks are changed."""
    torch.manual_seed(0)
    model = GenomicLM(ModelConfig.from_dict({**TOY_MODEL, **settings}))
    ids = [torch.randint(0, 5, (length,)).numpy().astype("uint8") for length in (30, 12)]
    change(model)
    losses, _ = losses_of(model, collate(ids, model.tokenizer), list(targets), 0.1)
    return losses.total, {name: parameter.grad for name, parameter in model.named_parameters()}


def test_activations_worked_out_again_give_equal_gradients(monkeypatch):
    calls = []
    whole = block_execution.checkpoint
    monkeypatch.setattr(block_execution, "checkpoint", lambda *a, **k: (calls.append(1), whole(*a, **k))[1])
    plain, again = gradients(lambda model: None), gradients(lambda model: run_blocks(model, "blocks", False))
    assert len(calls) == 3
    assert plain[0] == again[0]
    for name, gradient in plain[1].items():
        assert torch.equal(again[1][name], gradient), name


FLAT = {"layout": ["T1"], "d_model": [16], "d_intermediate": [24]}


def test_compiled_blocks_give_the_same_gradients(monkeypatch, capsys):
    """`eager` in place of the code generator, which takes its time; what it captures is the same."""
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic: compiled(function, dynamic=dynamic, backend="eager")
    )
    plain, again = (
        gradients(change, (), **FLAT)
        for change in (lambda model: None, lambda model: run_blocks(model, "none", True))
    )
    assert capsys.readouterr().err == ""
    assert again[0] == pytest.approx(plain[0], abs=1e-6)
    for name, gradient in plain[1].items():
        torch.testing.assert_close(again[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_blocks_that_cannot_be_compiled_run_as_they_are(monkeypatch, capsys):
    def broken(graph, inputs):
        raise NotImplementedError("no such kernel")

    compiled = torch.compile
    monkeypatch.setattr(block_execution._Compiled, "possible", True)
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic: compiled(function, dynamic=dynamic, backend=broken)
    )
    plain, again = gradients(lambda model: None), gradients(lambda model: run_blocks(model, "none", True))
    said = capsys.readouterr().err
    assert said.count("compile: not possible here, and blocks run as they are: ") == 1
    assert again[0] == plain[0]

"""Fine-tuning from a table: splits, heads, scales, resuming, and the sentences about bad input."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from labelled_files import MODEL, motif_rows, random_letters, save_model, write_csv
from safetensors.torch import load_file
from scipy.special import log_softmax

from genotok.errors import InputError
from genotok.evaluation.finetune import FinetuneSettings, finetune, rarity, train_config
from genotok.evaluation.labelled_rows import LabelledRows
from genotok.evaluation.prediction_metrics import evaluate_predictions
from genotok.models import GenomicLM, ModelConfig
from genotok.models.prediction_heads import HeadConfig, prediction_loss

QUICK = {"draws": 50, "train": {"threads": 1, "learning_rate": 5e-3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("finetune") / "model")


def run(
    folder, table, output, columns=("label",), test=None, kind="auto", resume=False, train=None, **settings
):
    chosen = FinetuneSettings(**(QUICK | settings | {"train": QUICK["train"] | (train or {})}))
    return finetune(
        folder, table, list(columns), output, test=test, kind=kind, settings=chosen, resume=resume
    )


def sequences_of(path):
    with open(path, newline="") as handle:
        return [row["sequence"] for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    torch.set_num_threads(1)
    where = tmp_path_factory.mktemp("finished")
    table = write_csv(where / "t.csv", motif_rows(200))
    return where, run(folder, table, where / "run", epochs=5, test_fraction=0.25)


def test_it_learns_a_motif(finished):
    found = finished[1]["results"]["all"]["methods"]
    assert found["finetune"]["metrics"]["accuracy"]["value"] > 0.8
    assert found["majority"]["metrics"]["mcc"]["value"] == 0
    assert finished[1]["settings"]["rows"] == {"train": 135, "valid": 15, "test": 50}


def test_no_row_is_in_two_splits(finished):
    where, _ = finished
    parts = [sequences_of(where / "run" / "tables" / f"{name}.csv") for name in ("train", "valid", "test")]
    every = [letters for part in parts for letters in part]
    assert sorted(every) == sorted(sequences_of(where / "t.csv"))
    assert len(set(every)) == 200


def test_evaluate_says_the_same(finished):
    """The model that is left in the folder, through the other verb."""
    where, found = finished
    table = where / "run" / "tables" / "test.csv"
    heads = evaluate_predictions(where / "run", table, {"label": "label"}, threads=1, batch_size=7)["heads"]
    metrics = found["results"]["all"]["methods"]["finetune"]["metrics"]
    assert {key: heads["label"][key] for key in metrics} == pytest.approx(
        {key: value["value"] for key, value in metrics.items()}, abs=1e-6
    )
    assert json.loads((where / "run" / "test_metrics.json").read_text()) == found


def test_a_finished_run_is_not_begun_anew(folder, finished):
    where, found = finished
    before = (where / "run" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a run already; go on with --resume"):
        run(folder, where / "t.csv", where / "run", epochs=5, test_fraction=0.25)
    assert run(folder, where / "t.csv", where / "run", epochs=5, test_fraction=0.25, resume=True) == found
    assert (where / "run" / "model.safetensors").read_bytes() == before


def test_numbers_come_back_in_their_own_units(folder, tmp_path):
    """Also from a run that is gone on with when it has ended."""
    random, rows = np.random.default_rng(4), []
    for _ in range(120):
        share = random.random()
        letters = "".join(random.choice(list("GCAT"), 40, p=[share / 2] * 2 + [(1 - share) / 2] * 2))
        rows.append((letters, 5000 + 1000 * sum(letters.count(x) for x in "GC") / 40 + 0.5))
    table = write_csv(tmp_path / "t.csv", rows)
    found = run(folder, table, tmp_path / "run", epochs=8)
    metrics = found["results"]["all"]["methods"]["finetune"]["metrics"]
    assert metrics["r2"]["value"] > 0.5
    assert metrics["mse"]["value"] < 200**2
    model = GenomicLM.from_pretrained(tmp_path / "run")
    ids = torch.tensor([[model.tokenizer.start_id, *model.tokenizer.encode(rows[0][0])]])
    assert 4500 < model(ids, task="prediction").predictions["label"].item() < 6500
    again = run(folder, table, tmp_path / "run", epochs=8, resume=True)
    assert again == found


def test_a_frozen_model_and_further_settings(folder, tmp_path):
    rows = [(letters, "ab"[label], 1) for letters, label in motif_rows(60)]
    table = write_csv(tmp_path / "t.csv", rows, ("sequence", "label", "x"))
    train = {"freeze_backbone": True, "steps": 3, "table.max_length": 33, "weight_decay": 0.0}
    found = run(folder, table, tmp_path / "run", train=train, head="motif", valid_fraction=0.0)
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "run"))
    assert after.keys() - before.keys() == {"heads.motif.out.weight", "heads.motif.out.bias"}
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert found["settings"]["train"]["steps"] == 3
    assert found["settings"]["rows"]["valid"] == 0
    assert GenomicLM.from_pretrained(tmp_path / "run").config.heads["motif"].classes == ["a", "b"]


def test_a_test_table_that_shares_rows(folder, tmp_path):
    rows = motif_rows(80)
    table, test = (
        write_csv(tmp_path / "a.csv", rows),
        write_csv(tmp_path / "b.csv", rows[:10] + motif_rows(20, 9)),
    )
    found = run(folder, table, tmp_path / "run", test=test, train={"steps": 2})
    assert {part: compared["rows"] for part, compared in found["results"].items()} == {
        "all": 30,
        "not_in_train": 20,
    }
    assert sequences_of(tmp_path / "run" / "tables" / "test.csv") == sequences_of(test)


def test_answers(folder, tmp_path):
    rows = [(letters, label, 1 - label) for letters, label in motif_rows(60)]
    table = write_csv(tmp_path / "t.csv", rows, ("sequence", "a", "b"))
    found = run(folder, table, tmp_path / "run", ("a", "b"), train={"steps": 2}, class_weights=True)
    assert found["kind"] == "multi_label"
    head = ModelConfig.from_json(tmp_path / "run" / "config.json").heads["label"]
    assert (head.outputs, head.class_weights) == (2, pytest.approx([1, 1], rel=0.2))


def test_weights_of_classes():
    """1 on average over the rows, and in proportion to rarity."""
    rows = LabelledRows("t", ["A"] * 10, HeadConfig("classification", 3), np.array([0] * 6 + [1] * 3 + [2]))
    weights = rarity(rows)
    assert np.mean([weights[label] for label in rows.labels]) == pytest.approx(1, abs=1e-5)
    assert weights[2] / weights[0] == pytest.approx(6, rel=1e-5)


def test_the_loss_weighs_classes_in_training_alone():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, -100, 0])
    head = HeadConfig("classification", 3, class_weights=[0.5, 1.0, 2.0])
    nats = -log_softmax(logits.numpy(), axis=1)
    known = [(0, 0), (1, 1), (2, 2), (3, 2), (5, 0)]
    weighted = np.mean([head.class_weights[k] * nats[row, k] for row, k in known])
    assert prediction_loss(head, logits, labels, smooth=True).item() == pytest.approx(weighted, rel=1e-5)
    plain = np.mean([nats[row, k] for row, k in known])
    assert prediction_loss(head, logits, labels).item() == pytest.approx(plain, rel=1e-5)
    answers = HeadConfig("multi_label", 1, class_weights=[3.0])
    said, truth = torch.tensor([[0.3], [-1.0]]), torch.tensor([[1.0], [0.0]])
    expected = (3 * np.log1p(np.exp(-0.3)) + np.log1p(np.exp(-1.0))) / 2
    assert prediction_loss(answers, said, truth, smooth=True).item() == pytest.approx(expected, rel=1e-5)


def test_models_without_weights_of_classes_keep_their_bytes():
    config = ModelConfig.from_dict(
        MODEL | {"tasks": ["lm", "prediction"], "heads": {"a": {"kind": "regression", "outputs": 1}}}
    )
    assert "class_weights" not in config.to_dict()["heads"]["a"]


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], "even"])
def test_bad_weights_of_classes(weights):
    with pytest.raises(InputError, match=r"heads\.a\.class_weights: .* should be 2 numbers, more than 0"):
        HeadConfig("classification", 2, class_weights=weights).check("heads.a")


def test_chunks_keep_their_length(folder, tmp_path):
    rows = LabelledRows("t", ["ACGTTGCA" * 4] * 8, HeadConfig("classification", 2), np.arange(8) % 2)
    config = train_config(folder, rows, True, tmp_path, FinetuneSettings())
    model = GenomicLM.from_pretrained(folder)
    ids = torch.tensor([[model.tokenizer.start_id, *model.tokenizer.encode("ACGTTGCA" * 4)]])
    chunks = model(ids).boundaries[0].mask.sum().item()
    assert config.target_chunk_length == [pytest.approx(max(33 / chunks, 1.05), abs=1e-3)]
    assert config.steps == 3  # five times eight rows, sixteen a step


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ({"stepps": 3}, "finetune: stepps: Unexpected keyword argument"),
        ({"init": "x"}, "--set init: this is what the command itself decides"),
        ({"table.labels": "x"}, "--set table.labels: this is what the command itself decides"),
        ({"steps.x": 1}, "--set steps.x: 'steps' has no keys of its own"),
        ({"batch_size": 0}, "--set batch_size: 0 should be a whole number, at least 1"),
    ],
)
def test_bad_settings(folder, tmp_path, train, sentence):
    with pytest.raises(InputError) as caught:
        run(folder, write_csv(tmp_path / "t.csv", motif_rows(60)), tmp_path / "run", train=train)
    assert sentence in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_verb_says_one_sentence(folder, tmp_path):
    """Exit code 2, no traceback, nothing left."""
    write_csv(tmp_path / "t.csv", [(random_letters(np.random.default_rng(k), 20), "x") for k in range(30)])
    words = ["finetune", folder, "t.csv", "--label", "label", "-o", "run", "--set", "steps=2"]
    done = subprocess.run(
        [sys.executable, "-m", "genotok", *map(str, words)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "genotok: t.csv: column 'label' holds one class alone, 'x'\n"
    assert not (tmp_path / "run").exists()

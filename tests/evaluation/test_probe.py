"""Probes on planted motifs: what can be known is found, what cannot is not, and nothing leaks."""

import json

import numpy as np
import pytest
from labelled_files import motif_rows, random_letters, save_model, write_csv

from genotok.cli import app
from genotok.errors import InputError
from genotok.evaluation.labelled_rows import LabelledRows
from genotok.evaluation.linear_probe import fit_and_predict, majority
from genotok.evaluation.probe import ProbeSettings, probe
from genotok.models import GenomicLM
from genotok.models.prediction_heads import HeadConfig
from genotok.models.random_weights import random_model

QUICK = {"kmers": (1, 3), "draws": 200}
PAIRS = str.maketrans("ACGT", "TGCA")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("probe") / "model")


def run(folder, table, columns=("label",), test=None, kind="auto", **settings):
    return probe(
        folder, table, list(columns), test, kind=kind, settings=ProbeSettings(**(QUICK | settings)), threads=1
    )


def values(result, part="all", key="mcc"):
    methods = result["results"][part]["methods"]
    return {name: method["metrics"][key]["value"] for name, method in methods.items()}


def test_a_motif_is_found_and_the_majority_knows_nothing(folder, tmp_path):
    result = run(folder, write_csv(tmp_path / "t.csv", motif_rows(160)))
    assert list(result["results"]["all"]["methods"]) == ["probe", "random_weights", "kmers", "majority"]
    assert values(result)["kmers"] > 0.8
    assert values(result)["probe"] > 0.3
    assert (values(result)["majority"], values(result, key="auroc")["majority"]) == (
        0,
        pytest.approx(0.5, abs=0.05),
    )
    assert result["split"] == {"by": "folds", "folds": 5, "seeds": [0]}
    assert len(result["results"]["all"]["methods"]["probe"]["chosen"]) == 5
    assert result["results"]["all"]["differences"]["majority"]["mcc"]["low"] > 0
    json.dumps(result, allow_nan=False)


def test_labels_by_chance_are_not_predicted(folder, tmp_path):
    """Even though every sequence stands there four times, twice as the opposite strand."""
    random, rows = np.random.default_rng(2), []
    for _ in range(60):
        letters, label = random_letters(random, 40), int(random.integers(2))
        rows += [(letters, label), (letters, label), *[(letters.translate(PAIRS)[::-1], label)] * 2]
    result = run(folder, write_csv(tmp_path / "t.csv", rows), random_weights=False)
    for name in ("probe", "kmers"):
        assert values(result, key="auroc")[name] < 0.7  # 1.0 where copies are torn apart
    assert result["duplicates"]["table"] == {
        "rows": 240, "different": 60, "copies": 120, "reverse_complements": 60, "contradictory": 0,
    }  # fmt: skip
    assert (
        "120 repeat a sequence, 60 the opposite strand of one, and 0 have a copy with" in result["statement"]
    )
    auroc = result["results"]["all"]["methods"]["probe"]["metrics"]["auroc"]
    assert auroc["high"] - auroc["low"] > 0.2  # 60 sequences, not 240


def test_rows_of_the_test_that_stand_in_train_are_set_apart(folder, tmp_path):
    """What is left gives the numbers that a test table without them gives."""
    random = np.random.default_rng(3)
    train = [(random_letters(random, 60), k % 2) for k in range(80)]
    test = [(random_letters(random, 60), k % 2) for k in range(40)] + train[:40]
    test += [(letters.translate(PAIRS)[::-1], label) for letters, label in train[40:60]]
    paths = write_csv(tmp_path / "a.csv", train), write_csv(tmp_path / "b.csv", test)
    result = run(folder, paths[0], test=paths[1], random_weights=False, kmers=(4,))
    assert result["duplicates"]["test_in_train"] == 60
    assert {part: found["rows"] for part, found in result["results"].items()} == {
        "all": 100,
        "not_in_train": 40,
    }
    assert "60 rows of the test table stand in the training table as well" in result["statement"]
    alone = run(
        folder, paths[0], test=write_csv(tmp_path / "c.csv", test[:40]), random_weights=False, kmers=(4,)
    )
    assert alone["duplicates"]["test_in_train"] == 0
    for name, method in alone["results"]["all"]["methods"].items():
        assert method["metrics"] == result["results"]["not_in_train"]["methods"][name]["metrics"]
        assert method["metrics"] != result["results"]["all"]["methods"][name]["metrics"]


def test_numbers(folder, tmp_path):
    """How much G and C there is."""
    random, rows = np.random.default_rng(4), []
    for _ in range(80):
        share = random.random()
        letters = "".join(random.choice(list("GCAT"), 60, p=[share / 2] * 2 + [(1 - share) / 2] * 2))
        rows.append((letters, sum(letters.count(x) for x in "GC") / 60 * 1000 + 0.5))
    result = run(folder, write_csv(tmp_path / "t.csv", rows), test_fraction=0.25, random_weights=False)
    assert result["kind"] == "regression"
    assert values(result, key="r2")["kmers"] > 0.99
    assert values(result, key="pearson")["probe"] > 0.8
    assert -0.3 < values(result, key="r2")["majority"] <= 0
    assert values(result, key="pearson")["majority"] is None
    assert set(result["results"]["all"]["methods"]["probe"]["chosen"][0]) == {"features", "alpha"}


def test_answers(folder, tmp_path):
    rows = [(letters, label, 1 - label) for letters, label in motif_rows(80)]
    path = write_csv(tmp_path / "t.csv", rows, ("sequence", "a", "b"))
    result = run(folder, path, ("a", "b"), test_fraction=0.25, random_weights=False)
    assert result["kind"] == "multi_label"
    assert values(result)["kmers"] > 0.5
    assert len(result["results"]["all"]["methods"]["kmers"]["outputs"]) == 2


def test_scaling_and_choice_look_at_the_training_rows_alone():
    """Test rows that are anything at all change nothing but their own predictions."""
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(60, 4)), random.integers(0, 2, 60)
    rows = LabelledRows("t", ["A"] * 60, HeadConfig("classification", 2), labels)
    train, test = np.arange(45), np.arange(45, 60)
    first = fit_and_predict({"x": features}, rows, np.arange(60), train, test, 0)
    other = features.copy()
    other[46:] *= 1000
    changed = LabelledRows("t", ["A"] * 60, rows.head, np.where(np.arange(60) < 45, labels, 1 - labels))
    second = fit_and_predict({"x": other}, changed, np.arange(60), train, test, 0)
    assert np.array_equal(first.predictions[0], second.predictions[0])
    assert first.chosen == second.chosen
    assert not np.array_equal(first.predictions[1:], second.predictions[1:])


def test_the_majority_knows_shares():
    rows = LabelledRows("t", ["A"] * 4, HeadConfig("classification", 3), np.array([0, 0, 1, 2]))
    assert np.exp(majority(rows, np.array([0, 1, 2]), np.array([3]))) == pytest.approx(
        np.array([[2 / 3, 1 / 3, 0]]), abs=1e-9
    )


def test_random_weights_are_those_of_the_seed_and_leave_the_generator_alone(folder):
    import torch

    config = GenomicLM.from_pretrained(folder).config
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one = random_model(config, 1).content_hash()
    assert torch.equal(torch.rand(1), expected)
    assert one == random_model(config, 1).content_hash() != random_model(config, 2).content_hash()


def test_the_verb_writes_the_same_bytes(folder, tmp_path, capsys):
    rows = motif_rows(60)
    table = tmp_path / "t.fasta"
    table.write_text("".join(f">{'yes' if label else 'no'}\n{letters}\n" for letters, label in rows))
    for name in ("a.json", "b.json"):
        words = [
            "probe",
            folder,
            table,
            "--label",
            "name",
            "-o",
            tmp_path / name,
            "--kmers",
            "2",
            "--threads",
            "1",
        ]
        app([*map(str, words), "--folds", "3", "--repeats", "2", "--draws", "50"], standalone_mode=False)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["classes"] == ["no", "yes"]
    assert found["split"]["seeds"] == [0, 1]
    assert len(found["results"]["all"]["methods"]["probe"]["chosen"]) == 6
    printed = capsys.readouterr().out
    assert "Of the 60 rows of the table 0 repeat a sequence" in printed
    assert "all, 60 rows, kmers: mcc " in printed


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        ([("ACGT", 0)] * 9 + [("AAAA", 1)], {}, "has 2 different sequences, too few for 5 folds"),
        (
            [(f"AC{'G' * k}", k % 2) for k in range(8)],
            {},
            "class '0' has 4 different sequences, too few for 5",
        ),
        ([("ACGT", 0), ("ACG", 1)], {"folds": 1}, "--folds: 1 should be at least 2"),
        ([("ACGT", 0), ("ACG", 1)], {"test_fraction": 0.7}, "--test-fraction: 0.7 should be from 0 to 0.5"),
        ([("ACGT", 0), ("ACG", 1)], {"kmers": (9,)}, "--kmers: 9 should be from 1 to 8"),
    ],
)
def test_bad_input(folder, tmp_path, rows, settings, sentence):
    with pytest.raises(InputError) as caught:
        run(folder, write_csv(tmp_path / "t.csv", rows), **settings)
    assert sentence in str(caught.value)

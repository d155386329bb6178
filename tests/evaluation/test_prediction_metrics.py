"""Metrics of heads against formulas written out, and the verb that computes them."""

import json
import math

import numpy as np
import pytest
import torch

from genotok.cli import app
from genotok.errors import InputError
from genotok.evaluation.prediction_metrics import (
    classification_metrics,
    evaluate_predictions,
    multi_label_metrics,
    regression_metrics,
)
from genotok.models import GenomicLM, ModelConfig
from genotok.models.prediction_heads import HeadConfig

MODEL = {
    "layout": ["T1"],
    "d_model": 16,
    "d_intermediate": 16,
    "attention": {"heads": 2, "rotary_dim": 4, "window": -1},
    "tasks": ["lm", "prediction"],
    "heads": {
        "site": {"kind": "classification", "outputs": 2},
        "strength": {"kind": "regression", "outputs": 1},
    },
}


def auroc(truth, scores):
    """The share of pairs of yes and no in which yes is above; ties count half."""
    pairs = [(a > b) + (a == b) / 2 for a in scores[truth] for b in scores[~truth]]
    return np.mean(pairs)


def average_precision(truth, scores):
    """Precision at each threshold, weighted by the recall that it adds."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        said = scores >= threshold
        recall = (said & truth).sum() / truth.sum()
        total += (recall - before) * (said & truth).sum() / said.sum()
        before = recall
    return total


def some_scores(rows, columns, seed=0):
    random = np.random.default_rng(seed)
    return (4 * random.normal(size=(rows, columns))).round() / 4, random  # exact, so that ties stay ties


def test_two_classes():
    logits, random = some_scores(60, 2)
    labels = (random.random(60) < 0.3).astype(int)
    labels[:5] = -100
    found = classification_metrics(logits, labels, HeadConfig("classification", 2))
    truth, said = labels[5:] == 1, logits[5:, 1] > logits[5:, 0]
    scores = (logits[5:, 1] - logits[5:, 0]).round(6)
    tp, fp, fn, tn = (
        int((a & b).sum()) for a, b in [(truth, said), (~truth, said), (truth, ~said), (~truth, ~said)]
    )
    assert found["known"] == 55
    assert found["accuracy"] == pytest.approx((tp + tn) / 55)
    mcc = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["mcc"] == pytest.approx(mcc)
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert found["auroc"] == pytest.approx(auroc(truth, scores))
    assert found["auprc"] == pytest.approx(average_precision(truth, scores))
    assert [entry["count"] for entry in found["classes"]] == [tn + fp, tp + fn]
    assert [entry["predicted"] for entry in found["classes"]] == [tn + fn, tp + fp]
    assert found["classes"][0]["f1"] == pytest.approx(2 * tn / (2 * tn + fp + fn))


def test_several_classes():
    """Means over the classes that occur; the last never does."""
    logits, random = some_scores(80, 4, 1)
    labels = random.integers(0, 3, 80)
    found = classification_metrics(logits, labels, HeadConfig("classification", 4, ["a", "b", "c", "d"]))
    chosen = logits.argmax(1)
    share = np.exp(logits - logits.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    f1 = [
        2 * ((labels == k) & (chosen == k)).sum() / ((labels == k).sum() + (chosen == k).sum())
        for k in range(3)
    ]
    assert found["f1"] == pytest.approx(np.mean(f1))
    assert found["auroc"] == pytest.approx(np.mean([auroc(labels == k, share[:, k]) for k in range(3)]))
    precisions = [average_precision(labels == k, share[:, k]) for k in range(3)]
    assert found["auprc"] == pytest.approx(np.mean(precisions))
    assert [entry["class"] for entry in found["classes"]] == ["a", "b", "c", "d"]
    assert found["classes"][3] | {"predicted": 0} == {
        "class": "d",
        "count": 0,
        "predicted": 0,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "auroc": None,
        "auprc": None,
    }


def test_yes_and_no():
    logits, random = some_scores(50, 3, 2)
    labels = (random.random((50, 3)) < 0.5).astype(float)
    labels[:20, 1] = np.nan
    labels[:, 2] = 1.0
    found = multi_label_metrics(logits, labels, HeadConfig("multi_label", 3))
    truth, scores = labels[20:, 1] == 1, logits[20:, 1]
    said = scores >= 0
    entry = found["outputs"][1]
    assert (entry["known"], entry["yes"]) == (30, truth.sum())
    assert entry["accuracy"] == pytest.approx((said == truth).mean())
    assert entry["auroc"] == pytest.approx(auroc(truth, scores))
    assert entry["auprc"] == pytest.approx(average_precision(truth, scores))
    assert entry["f1"] == pytest.approx(2 * (truth & said).sum() / (truth.sum() + said.sum()))
    assert found["outputs"][2]["auroc"] is None
    assert found["auroc"] == pytest.approx(np.mean([found["outputs"][k]["auroc"] for k in (0, 1)]))


def test_numbers():
    numbers, random = some_scores(40, 2, 3)
    labels = numbers * [[2.0], [1.0]][0] + random.normal(size=(40, 2)) + 1
    labels[:, 1] = 5.0
    labels[:10, 0] = np.nan
    found = regression_metrics(numbers, labels, HeadConfig("regression", 2))
    x, y = numbers[10:, 0], labels[10:, 0]

    def correlation(a, b):
        a, b = a - a.mean(), b - b.mean()
        return (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())

    def ranks(values):
        return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])

    entry = found["outputs"][0]
    assert entry["known"] == 30
    assert entry["mse"] == pytest.approx(((x - y) ** 2).mean())
    assert entry["pearson"] == pytest.approx(correlation(x, y))
    assert entry["spearman"] == pytest.approx(correlation(ranks(x), ranks(y)))
    assert entry["r2"] == pytest.approx(1 - ((x - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert "pearson" not in found["outputs"][1]
    assert found["pearson"] == entry["pearson"]


def test_nothing_known():
    nothing = np.full((3, 1), np.nan)
    assert classification_metrics(np.zeros((3, 2)), np.full(3, -100), HeadConfig("classification", 2)) == {
        "known": 0
    }
    assert multi_label_metrics(np.zeros((3, 1)), nothing, HeadConfig("multi_label", 1))["auroc"] is None
    assert regression_metrics(np.zeros((3, 1)), nothing, HeadConfig("regression", 1))["mse"] is None


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads") / "model"
    torch.manual_seed(0)
    GenomicLM(ModelConfig.from_dict(MODEL)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    random = np.random.default_rng(0)
    lines = ["sequence,site,strength"]
    for k in range(30):
        letters = "".join(random.choice(list("ACGTN"), random.integers(1, 30)))
        lines.append(f"{letters},{k % 2 if k else ''},{random.normal():.3f}")
    path = tmp_path_factory.mktemp("table") / "test.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_by_hand(model, table):
    """The batch size changes nothing, and the loss is that of the rows one by one."""
    found = evaluate_predictions(model, table, batch_size=7, device="cpu", threads=1)
    other = evaluate_predictions(model, table, batch_size=30, device="cpu", threads=1)
    assert found["heads"]["site"]["accuracy"] == other["heads"]["site"]["accuracy"]
    assert found["heads"]["strength"]["mse"] == pytest.approx(other["heads"]["strength"]["mse"], rel=1e-5)
    net, nats, right, squares = GenomicLM.from_pretrained(model), [], [], []
    for line in table.read_text().split()[1:]:
        letters, site, strength = line.split(",")
        ids = torch.tensor([[net.tokenizer.start_id, *net.tokenizer.encode(letters)]])
        predictions = net(ids, task="prediction").predictions
        squares.append((predictions["strength"].item() - float(strength)) ** 2)
        if site:
            log_p = predictions["site"][0].log_softmax(-1)
            nats.append(-log_p[int(site)].item())
            right.append(log_p.argmax().item() == int(site))
    assert found["rows"] == 30
    assert found["heads"]["site"]["known"] == 29
    assert found["heads"]["site"]["loss"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert found["heads"]["site"]["accuracy"] == pytest.approx(np.mean(right))
    assert found["heads"]["strength"]["mse"] == pytest.approx(np.mean(squares), rel=1e-5)


def evaluate_by_hand(*words):
    """The verb, without a process of its own."""
    app(["evaluate", *map(str, words), "--threads", "1"], standalone_mode=False)


def test_the_verb(model, table, tmp_path, capsys):
    words = [model, table, "--task", "prediction", "--labels", "site=site", "-o"]
    for name in ("a.json", "b.json"):
        evaluate_by_hand(*words, tmp_path / name)
    assert capsys.readouterr().out.startswith("site: loss 0.")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text())["heads"].keys() == {"site"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--task", "prediction", "--labels", "site"], "--labels: 'site' should be HEAD=COLUMN"),
        (["--task", "classify"], "--task: 'classify' should be lm or prediction"),
        (
            ["--task", "prediction", "--sequence", "dna"],
            "no column 'dna'; there are sequence, site, strength",
        ),
    ],
)
def test_bad_words_are_said(words, sentence, model, table, tmp_path):
    with pytest.raises(InputError) as error:
        evaluate_by_hand(model, table, *words, "-o", tmp_path / "m.json")
    assert sentence in str(error.value)
    assert not (tmp_path / "m.json").exists()


def test_a_model_without_heads(table, tmp_path):
    plain = {key: value for key, value in MODEL.items() if key not in ("heads", "tasks")}
    GenomicLM(ModelConfig.from_dict(plain)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="the model has no heads for the task 'prediction'"):
        evaluate_predictions(tmp_path, table)

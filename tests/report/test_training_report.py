"""Training curves of a real run, and of files that are none."""

import json

import pandas as pd
import pytest

from genotok.errors import InputError
from genotok.report.training import report_training, training_curves, training_table


def panels(metrics):
    figure, _ = training_curves(metrics)
    return {axes.get_title("left"): axes for axes in figure.axes}


def write_records(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_files(results, tmp_path):
    report_training(results.run, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"training.svg", "training.tsv", "training.json"}
    table = pd.read_csv(tmp_path / "training.tsv", sep="\t")
    records = [json.loads(line) for line in (results.run / "metrics.jsonl").read_text().splitlines()]
    assert list(zip(table["step"], table["split"], strict=True)) == [(r["step"], r["split"]) for r in records]
    assert table["bits_per_base"].tolist() == pytest.approx([r["bits_per_base"] for r in records], rel=1e-5)
    train = [record for record in records if record["split"] == "train"]
    assert len(train) == 4
    for stage in range(2):
        column = table[f"chunk_fraction_stage{stage}"].dropna().tolist()
        assert column == pytest.approx([record["chunk_fraction"][stage] for record in train], rel=1e-5)
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["steps"] == 4
    assert summary["valid"]["bits_per_base"] == records[-1]["bits_per_base"]
    assert summary["model"] == json.loads((results.run / "config.json").read_text())


def test_same_bytes(results, tmp_path):
    for name in ("one", "two"):
        report_training(results.run, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_curves_hold_the_records(results):
    axes = panels(results.run / "metrics.jsonl")
    side = ["Chunks per position", "Boundary entropy (bits)", "Ratio loss", "Learning rate"]
    assert list(axes) == ["Bits per base", *side]
    table = training_table(results.run / "metrics.jsonl")
    lines = {line.get_label(): line for line in axes["Bits per base"].lines}
    for split, label in (("train", "training batches"), ("valid", "validation contigs")):
        assert lines[label].get_ydata().tolist() == table["bits_per_base"][table["split"] == split].tolist()
    assert len(axes["Chunks per position"].lines) == 2


def test_a_model_without_stages_has_no_such_panels(tmp_path):
    record = {
        "split": "train",
        "bits_per_base": 1.9,
        "ratio_loss": 0.0,
        "learning_rate": 0.1,
        "chunk_fraction": [],
    }
    path = write_records(tmp_path / "m", [{"step": step, **record} for step in (1, 2)])
    assert list(panels(path)) == ["Bits per base", "Learning rate"]


def test_high_first_values_do_not_flatten_the_curve(tmp_path):
    records = [
        {"step": step, "split": "train", "bits_per_base": bits} for step, bits in enumerate([7.25, 1.9, 1.8])
    ]
    axes = panels(write_records(tmp_path / "m", records))["Bits per base"]
    assert axes.get_ylim()[1] == 2.2
    assert axes.get_title("right") == "up to 7.25, cut off"


def test_a_curve_that_stays_high_is_drawn(tmp_path):
    records = [
        {"step": step, "split": "train", "bits_per_base": bits} for step, bits in enumerate([7.25, 4.0, 3.5])
    ]
    axes = panels(write_records(tmp_path / "m", records))["Bits per base"]
    assert axes.get_ylim()[1] > 7.25


def test_running_mean_of_many_records(tmp_path):
    records = [
        {"step": step, "split": "train", "bits_per_base": 1.8 + 0.2 * (step % 2)} for step in range(80)
    ]
    lines = {
        line.get_label(): line
        for line in panels(write_records(tmp_path / "m", records))["Bits per base"].lines
    }
    assert lines["mean of 4 records"].get_ydata()[10:70] == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file"),
        ("", "no record of it has 'bits_per_base'"),
        ('{"step": 1, "split": "train"}\n', "no record of it has 'bits_per_base'"),
        ('{"step": 1, "spl', "holds a line that is no JSON object"),
        ("[1]\n", "holds a line that is no JSON object"),
    ],
)
def test_bad_metrics(results, tmp_path, text, sentence):
    (tmp_path / "config.json").write_text("{}")
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"metrics\.jsonl: ") as caught:
        report_training(tmp_path, tmp_path / "out")
    assert sentence in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_missing_configuration(results, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes((results.run / "metrics.jsonl").read_bytes())
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        report_training(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_alarms(results, tmp_path):
    training = [{"step": step, "split": "train", "bits_per_base": 1.9} for step in range(1, 9)]
    alarm = {"step": 5, "split": "alarm", "kind": "loss_spike", "message": "Look here."}
    path = write_records(tmp_path / "metrics.jsonl", [*training[:5], alarm, *training[5:]])
    (tmp_path / "config.json").write_text("{}")
    lines = {line.get_label(): line for line in panels(path)["Bits per base"].lines}
    assert set(lines["loss spike"].get_xdata()) == {5}
    assert lines["training batches"].get_xdata().tolist() == list(range(1, 9))
    report_training(tmp_path, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "training.json").read_text())
    assert summary["alarms"] == [{"step": 5, "kind": "loss_spike", "message": "Look here."}]
    assert summary["train"] == {"bits_per_base": 1.9}


@pytest.mark.parametrize(
    ("key", "title"), [("nats_per_masked_token", "Nats per masked token"), ("loss", "Loss")]
)
def test_runs_of_other_tasks(key, title, tmp_path):
    records = [
        {"split": "train", key: 3.0 / step, "step": step, "learning_rate": 1e-3, "loss_site": 1.0}
        for step in (1, 2)
    ]
    records.append({"split": "valid", key: 1.25, "step": 2})
    write_records(tmp_path / "metrics.jsonl", records)
    (tmp_path / "config.json").write_text("{}")
    (line, validation, *others) = panels(tmp_path / "metrics.jsonl")[title].lines
    assert line.get_ydata().tolist() == [3.0, 1.5]
    assert validation.get_ydata().tolist() == [1.25]
    assert not others
    report_training(tmp_path, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "training.json").read_text())
    assert summary["valid"] == {key: 1.25}


def test_of_several_data_sets_one_is_drawn(tmp_path):
    """The first one that has the curve of the main number."""
    parts = [("gc", {"loss": 0.7}), ("a", {"bits_per_base": 2.0}), ("b", {"bits_per_base": 3.0})]
    records = [
        {"step": step, "split": split, "data": name, "learning_rate": 0.1, **values}
        for step in (1, 2)
        for split in ("train", "valid")
        for name, values in parts
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "config.json").write_text("{}")
    report_training(tmp_path, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "training.json").read_text())
    assert summary["train"] == summary["valid"] == {"bits_per_base": 2.0}
    figure, data = training_curves(tmp_path / "metrics.jsonl")
    assert list(figure.axes[0].lines[0].get_ydata()) == [2.0, 2.0]
    assert len(data) == 12

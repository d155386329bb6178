"""Training of heads on tables: labels as they are read, learning, frozen and pretrained models, resuming."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_runs import TOY_MODEL, TOY_SETTINGS, pull_the_plug, results, train

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.settings import parse_settings
from genotok.shards.order import Place
from genotok.training.config import TableConfig, TrainConfig
from genotok.training.labelled import LabelledTable
from genotok.training.loop import Trainer
from genotok.training.monitor import read_metrics

HEAD = {"kind": "classification", "outputs": 2}
MODEL = {**TOY_MODEL, "tasks": ["lm", "prediction"], "heads": {"motif": HEAD}}
MOTIF = "TATAAT"


def write_table(path, count, seed):
    """Random letters of different length, half of them with a planted motif."""
    random = np.random.default_rng(seed)
    lines = ["sequence,label"]
    for k in range(count):
        letters = "".join(random.choice(list("ACGT"), random.integers(20, 40)))
        if k % 2:
            place = random.integers(0, len(letters) - len(MOTIF))
            letters = letters[:place] + MOTIF + letters[place + len(MOTIF) :]
        lines.append(f"{letters},{k % 2}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return write_table(folder / "train.csv", 600, 0), write_table(folder / "valid.csv", 100, 1)


def on(tables, **changes):
    """Settings of a run on the tables in place of shards."""
    table = TableConfig(tables[0], {"motif": "label"}, tables[1])
    return {"shards": None, "table": table, "model": MODEL} | changes


def train_on(tables, folder, resume=False, **changes):
    config = TrainConfig(**(TOY_SETTINGS | on(tables, **changes)))
    trainer = Trainer(config, folder)
    trainer.run(resume)
    return trainer


@pytest.fixture(scope="module")
def finished(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled") / "run"
    train_on(tables, folder)
    return folder


def test_it_learns_a_planted_motif(tables, tmp_path):
    changes = {"steps": 160, "batch_size": 16, "learning_rate": 5e-3, "log_every": 50, "validate_every": 0}
    train_on(tables, tmp_path, checkpoint_every=0, **changes)
    last = read_metrics(tmp_path / "metrics.jsonl")[-1]
    assert last["split"] == "valid"
    assert last["accuracy_motif"] > 0.9
    assert last["loss"] < 0.35  # ln 2 = 0.693 without knowledge


def test_metrics(finished):
    records = read_metrics(finished / "metrics.jsonl")
    valid = [record for record in records if record["split"] == "valid"]
    assert [record["step"] for record in valid] == [5, 10, 12]
    assert set(valid[0]) == {"step", "split", "loss", "loss_motif", "accuracy_motif"}
    assert records[0]["loss"] == records[0]["loss_motif"] == pytest.approx(math.log(2), abs=0.3)
    assert "bits_per_base" not in records[0]


def test_validation_by_hand(finished, tables):
    """Row by row, from the text of the table."""
    model = GenomicLM.from_pretrained(finished)
    nats, right = [], []
    for line in Path(tables[1]).read_text().split()[1:]:
        letters, label = line.split(",")
        ids = torch.tensor([[model.tokenizer.start_id, *model.tokenizer.encode(letters)]])
        log_p = model(ids, task="prediction").predictions["motif"][0].log_softmax(-1)
        nats.append(-log_p[int(label)].item())
        right.append(log_p.argmax().item() == int(label))
    last = read_metrics(finished / "metrics.jsonl")[-1]
    assert last["loss"] == pytest.approx(np.mean(nats), abs=1e-5)
    assert last["accuracy_motif"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize("step", [3, 7])
def test_an_interrupted_run_ends_with_the_same_bytes(step, tables, tmp_path):
    """Also with dropout, whose random numbers are part of a checkpoint."""
    model = {**MODEL, "heads": {"motif": {**HEAD, "dropout": 0.3, "hidden": 8}}}
    train_on(tables, tmp_path / "whole", model=model)
    trainer = Trainer(TrainConfig(**(TOY_SETTINGS | on(tables, model=model))), tmp_path / "run")
    pull_the_plug(trainer, step)
    torch.rand(3)
    train_on(tables, tmp_path / "run", resume=True, model=model)
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_other_labels_are_other_data(tables, tmp_path):
    train_on(tables, tmp_path / "run", steps=5)
    other = write_table(tmp_path / "other.csv", 600, 7)
    with pytest.raises(InputError, match="other settings or other data"):
        train_on((other, tables[1]), tmp_path / "run", resume=True, steps=5)
    moved = tmp_path / "moved.csv"
    moved.write_bytes(Path(tables[0]).read_bytes())
    train_on((str(moved), tables[1]), tmp_path / "run", resume=True, steps=5)


@pytest.fixture(scope="module")
def pretrained(toy_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    train(toy_shards, folder, steps=2)
    return folder


def test_a_frozen_model_learns_in_its_head_alone(pretrained, tables, tmp_path):
    heads = {"heads": {"motif": HEAD}}
    train_on(tables, tmp_path, model=heads, init=str(pretrained), freeze_backbone=True)
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, tmp_path))
    assert after.keys() - before.keys() == {"heads.motif.out.weight", "heads.motif.out.bias"}
    assert all(torch.equal(after[key], value) for key, value in before.items())
    config = ModelConfig.from_json(tmp_path / "config.json")
    assert config.tasks == ["lm", "prediction"]
    assert after["heads.motif.out.bias"].abs().max() > 0


def test_a_pretrained_model_goes_on_learning_as_a_whole(pretrained, tables, tmp_path):
    heads = {"heads": {"motif": HEAD}}
    train_on(tables, tmp_path / "a", model=heads, init=str(pretrained))
    train_on(tables, tmp_path / "b", model=heads, init=str(pretrained))
    assert results(tmp_path / "a") == results(tmp_path / "b")
    before, after = (load_file(folder / "model.safetensors") for folder in (pretrained, tmp_path / "a"))
    assert torch.equal(after["head.weight"], before["head.weight"])  # the task does not use it
    assert not torch.equal(after["embedding.weight"], before["embedding.weight"])
    assert (after["embedding.weight"] - before["embedding.weight"]).abs().max() < 0.2


def test_a_head_is_taken_over_when_it_is_the_same(finished, tables, tmp_path):
    """A run of one step at almost no rate shows the weights that it began with."""
    still = {"steps": 1, "learning_rate": 1e-12, "weight_decay": 0.0}
    before = load_file(finished / "model.safetensors")
    train_on(tables, tmp_path / "same", model=None, init=str(finished), **still)
    after = load_file(tmp_path / "same" / "model.safetensors")
    assert all((after[key] - value).abs().max() < 1e-6 for key, value in before.items())
    heads = {"heads": {"motif": {**HEAD, "pool": "last"}}}
    train_on(tables, tmp_path / "other", model=heads, init=str(finished), **still)
    after = load_file(tmp_path / "other" / "model.safetensors")
    for key, value in before.items():
        same = (after[key] - value).abs().max() < 1e-6
        assert same == (key != "heads.motif.out.weight") or key == "heads.motif.out.bias"


def test_another_pretrained_model_is_another_run(pretrained, toy_shards, tables, tmp_path):
    heads = {"heads": {"motif": HEAD}}
    train_on(tables, tmp_path / "run", model=heads, init=str(pretrained), steps=5)
    train(toy_shards, tmp_path / "other", steps=3)
    with pytest.raises(InputError, match="other settings or other data"):
        train_on(tables, tmp_path / "run", True, model=heads, init=str(tmp_path / "other"), steps=5)


def config_with(tokenizer="nucleotide", **heads):
    model = {**MODEL, "heads": heads, "tokenizer": tokenizer}
    return ModelConfig.from_dict(model)


KINDS = {
    "family": {"kind": "classification", "classes": ["tRNA", "5S_rRNA"]},
    "marks": {"kind": "multi_label", "outputs": 3},
    "both": {"kind": "regression", "outputs": 2},
    "exon": {"kind": "classification", "outputs": 2, "per": "nucleotide"},
    "depth": {"kind": "regression", "outputs": 1, "per": "nucleotide"},
}
COLUMNS = {"family": "family", "marks": "marks", "both": ["x", "y"], "exon": "exon", "depth": "depth"}
NAN = math.nan


def expected_labels(length):
    pad = [-100] * (length - 5), [NAN] * (length - 5)
    return {
        "family": [1, -100, 0],
        "marks": [[1, 0, 1], [NAN, NAN, NAN], [0, 0, NAN]],
        "both": [[0.5, -2], [NAN, 3], [1, NAN]],
        "exon": [[-100, 0, 1, 1, 0, *pad[0]], [-100] * length, [-100, 1, 0, -100, -100, *pad[0]]],
        "depth": [[NAN, 1, 2, 3, 4.5, *pad[1]], [NAN] * length, [NAN, 7, 8, NAN, NAN, *pad[1]]],
    }


def check_labels(found, length):
    wanted = expected_labels(length)
    for name, values in found.items():
        values = values[..., 0] if name == "depth" else values
        np.testing.assert_array_equal(values.numpy(), np.array(wanted[name]))
        assert values.dtype == (torch.int64 if name in ("family", "exon") else torch.float32)


def test_labels_of_every_kind(tmp_path):
    """As text and as JSON's own values; short sequences are padded, long ones cut with their labels."""
    text = tmp_path / "t.tsv"
    text.write_text(
        "sequence\tfamily\tmarks\tx\ty\texon\tdepth\n"
        "ACGTA\t5S_rRNA\t1;0 1\t0.5\t-2\t01101\t1,2,3,4.5,5\n"
        "CCCCC\t\t\tNA\t3\t\t\n"
        "GG\ttRNA\t0,0,nan\t1\t\t1 0\t7 8\n"
    )
    values = tmp_path / "t.jsonl"
    rows = [
        ["acgta", "5S_rRNA", [1, False, 1.0], 0.5, -2, [0, 1, 1, 0, 1], [1, 2, 3, 4.5, 5]],
        ["CCCCC", None, None, NAN, 3, None, None],
        ["GG", "tRNA", ["0", 0, None], 1, None, [1, 0], [7, 8]],
    ]
    keys = ("sequence", "family", "marks", "x", "y", "exon", "depth")
    values.write_text("\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in rows))
    for path in (text, values):
        table = LabelledTable(path, config_with(**KINDS), COLUMNS, max_length=4)
        (batch,) = table.in_order(3)
        assert batch.input_ids.tolist() == [[10, 0, 1, 2, 3], [10, 1, 1, 1, 1], [10, 2, 2, 5, 5]]
        assert batch.lengths.tolist() == [5, 5, 3]
        check_labels(batch.labels, 5)


def test_opposite_strands(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sequence,motif\nAACGN,1\nGG,0\n")
    table = LabelledTable(path, config_with(motif=HEAD), {"motif": "motif"})
    batch = table.batch([Place(0, 0, True), Place(0, 1, False)])
    assert batch.input_ids.tolist() == [[10, 4, 1, 2, 3, 3], [10, 2, 2, 5, 5, 5]]
    assert batch.labels["motif"].tolist() == [1, 0]


def test_tokens_of_several_letters(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sequence,motif\nACGTACA,1\nGG,0\n")
    (batch,) = LabelledTable(path, config_with("ntv2", motif=HEAD), {"motif": "motif"}).in_order(2)
    tokenizer = GenomicLM(config_with("ntv2", motif=HEAD)).tokenizer
    assert batch.input_ids[0].tolist() == tokenizer.encode("ACGTACA")
    assert batch.lengths.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("head", "cell", "sentence"),
    [
        (HEAD, "2", "line 2: column 'v': '2' is no class from 0 to 1"),
        (HEAD, "0.5", "line 2: column 'v': '0.5' is no class from 0 to 1"),
        (HEAD, "yes", "line 2: column 'v': 'yes' is no number"),
        (KINDS["family"], "1", "line 2: column 'v': '1' is none of the classes tRNA, 5S_rRNA"),
        (KINDS["marks"], "1 0", "line 2: column 'v': 2 values where 3 belong"),
        (KINDS["marks"], "1 0 2", "line 2: column 'v': '2' is neither 0 nor 1"),
        (KINDS["both"], "1 inf", "line 2: column 'v': 'inf' is no finite number"),
        (KINDS["exon"], "011", "line 2: column 'v': 1 values where 4 belong"),
        (KINDS["depth"], "1 2 3 4 5", "line 2: column 'v': 5 values where 4 belong"),
    ],
)
def test_bad_labels_are_said_with_file_and_line(head, cell, sentence, tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text(f"sequence\tv\nACGT\t{cell}\n")
    with pytest.raises(InputError) as error:
        LabelledTable(path, config_with(x=head), {"x": "v"})
    assert str(error.value) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"table": {"labels": {"gene": "label"}}}, "labels: the model has no head 'gene'; there are motif"),
        ({"table": {"labels": {"motif": "class"}}}, "no column 'class'; there are sequence, label"),
        ({"table": {"labels": {}}}, "table.labels: must name the column of at least one head"),
        ({"table": {"max_length": 0}}, "table.max_length: is 0 and must be at least 1"),
        ({"table": {"rows": 5}}, "table.rows: "),
        ({"task": "lm"}, "task: is 'lm' and must be prediction with a table"),
        ({"shards": "shards"}, "table: stands beside `shards`, and a run has either"),
        ({"model": TOY_MODEL}, "task: is 'prediction', and the model knows 'lm'"),
        ({"model": None}, "model: this key is needed, or else `init`"),
        ({"init": "nowhere", "model": None}, "nowhere/config.json: cannot be read"),
        (
            {"init": "nowhere"},
            "model: is 'hnet_1stage_dna', and beside `init` it can only hold keys that change",
        ),
        (
            {
                "both_strands": True,
                "model": {**MODEL, "heads": {"motif": KINDS["exon"]}},
                "table": {"labels": {"motif": "site"}},
            },
            "both_strands: the labels of 'motif', one a nucleotide, are of one strand",
        ),
        (
            {"model": {**MODEL, "tokenizer": "ntv2", "heads": {"motif": KINDS["exon"]}}},
            "labels: 'motif' is per nucleotide, which needs a tokenizer with a token a letter",
        ),
        (
            {"model": {**MODEL, "heads": {"motif": {**KINDS["depth"], "outputs": 2}}}},
            "labels: 'motif' has 2 outputs a nucleotide, and a table holds one label",
        ),
    ],
)
def test_settings_that_do_not_fit_are_said(changes, sentence, tables, tmp_path):
    per_letter = tmp_path / "sites.csv"
    per_letter.write_text("sequence,site,label\nACGT,0110,1\n")
    table = {"train": tables[0], "labels": {"motif": "label"}}
    if "both_strands" in changes:
        table["train"] = str(per_letter)
    if changes.get("init") and "model" not in changes:
        changes = {**changes, "model": "hnet_1stage_dna"}
    values = {"steps": 2, "model": MODEL, **changes, "table": table | changes.get("table", {})}
    with pytest.raises(InputError) as error:
        Trainer(parse_settings(TrainConfig, values, "c.yaml"), tmp_path / "run")
    said = str(error.value).removeprefix("c.yaml: ").removeprefix(f"{table['train']}: ")
    assert said.startswith(sentence)
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_fit_are_said(pretrained, tables, tmp_path):
    model = {"heads": {"motif": HEAD}, "d_intermediate": [0, 40]}
    with pytest.raises(InputError, match=r"has the shape .* and the configuration says"):
        train_on(tables, tmp_path / "run", model=model, init=str(pretrained))

"""A run from beginning to end: what it leaves, that it learns, and that it does the same again."""

import json
import math
import shutil

import pytest
import torch
from toy_runs import TOY_MODEL, results, toy_config, train

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import collate
from genotok.shards.writer import tokenize_genomes
from genotok.training.loop import Trainer
from genotok.training.monitor import read_metrics


@pytest.fixture(scope="module")
def finished(toy_shards, tmp_path_factory):
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("run") / "run"
    train(toy_shards, folder)
    return folder


def test_the_same_run_gives_the_same_bytes(finished, toy_shards, tmp_path):
    torch.rand(5)  # what happened before in the process must not matter
    train(toy_shards, tmp_path / "again")
    assert results(tmp_path / "again") == results(finished)


def test_another_seed_gives_another_run(finished, toy_shards, tmp_path):
    train(toy_shards, tmp_path / "other", seed=2)
    assert results(tmp_path / "other")["model.safetensors"] != results(finished)["model.safetensors"]


def test_what_is_left(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        "README.md",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "speed.jsonl",
        "tensorboard",
    ]
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == [
        "step-00000010",
        "step-00000012",
    ]
    assert list((finished / "tensorboard").glob("events.*"))


def test_metrics(finished):
    records = read_metrics(finished / "metrics.jsonl")
    training = [record for record in records if record["split"] == "train"]
    validation = [record for record in records if record["split"] == "valid"]
    assert [record["step"] for record in training] == list(range(1, 13))
    assert [record["step"] for record in validation] == [5, 10, 12]
    assert all(set(record) == {"step", "split", "bits_per_base"} for record in validation)
    for record in training:
        assert len(record["chunk_fraction"]) == 1
        assert 0 < record["chunk_fraction"][0] <= 1
        assert record["gradient_norm"] > 0
    # Vocabulary of 16, and weights that know nothing yet.
    assert training[0]["bits_per_base"] == pytest.approx(4, abs=0.5)
    # A linear warm-up over 1 step, a plateau, and a fall as 1 - sqrt over the last 2.
    rates = [record["learning_rate"] for record in training]
    assert rates == pytest.approx([3e-3] * 11 + [3e-3 * (1 - math.sqrt(1 / 2))])


def test_validation_is_of_the_first_windows(finished, toy_shards):
    """6 windows in batches of 4 are 8 windows."""
    model = GenomicLM.from_pretrained(finished)
    dataset = ShardDataset(toy_shards, "valid")
    nats = count = 0
    for index in range(8):
        batch = collate([dataset[index].ids], model.tokenizer)
        ids = batch.input_ids
        probabilities = model(ids).logits[0, :-1].log_softmax(-1)
        nats -= sum(probabilities[t, ids[0, t + 1]].item() for t in range(ids.shape[1] - 1))
        count += ids.shape[1] - 1
    last = read_metrics(finished / "metrics.jsonl")[-1]
    assert (last["step"], last["split"]) == (12, "valid")
    assert last["bits_per_base"] == pytest.approx(nats / count / math.log(2), abs=1e-5)


def test_it_learns_a_repetitive_genome(toy_shards, tmp_path):
    train(toy_shards, tmp_path, steps=150, batch_size=8, learning_rate=1e-2, log_every=50, checkpoint_every=0)
    records = read_metrics(tmp_path / "metrics.jsonl")
    (validation,) = [
        record["bits_per_base"] for record in records if record["step"] == 150 and "valid" in record["split"]
    ]
    assert validation < 1.2  # 19 of 21 letters can be known from those before them


@pytest.mark.parametrize(
    ("layout", "stages"), [(["T1"], 0), (["M1"], 0), (["m1", ["m1", ["T1"], "m1"], "m1"], 2)]
)
def test_any_number_of_chunking_stages(layout, stages, toy_shards, tmp_path):
    model = {**TOY_MODEL, "layout": layout, "d_model": 16, "d_intermediate": 24}
    train(toy_shards, tmp_path, model=model, steps=3)
    assert len(read_metrics(tmp_path / "metrics.jsonl")[-2]["chunk_fraction"]) == stages


@pytest.mark.parametrize(
    ("chunker", "fraction"),
    [({"kind": "static", "length": 5}, 7 / 33), ({"kind": "merge", "min_length": 2, "max_length": 8}, None)],
    ids=["static", "merge"],
)
def test_other_chunkers(chunker, fraction, toy_shards, tmp_path):
    """Trained, saved, read again and resumed with the same bytes."""
    model = {**TOY_MODEL, "chunkers": [chunker], "upsamplers": ["repeat"]}
    settings = {"model": model, "steps": 6, "checkpoint_every": 3, "validate_every": 0}
    train(toy_shards, tmp_path / "run", **settings)
    record = read_metrics(tmp_path / "run" / "metrics.jsonl")[-2]
    assert (record["ratio_loss"] == 0) == (fraction is not None)
    assert 1 / 8 < record["chunk_fraction"][0] < 1 / 2
    if fraction is not None:
        assert record["chunk_fraction"][0] == pytest.approx(fraction)  # of 32 letters and the start token
    again = GenomicLM.from_pretrained(tmp_path / "run")
    assert again.config.chunkers == [chunker]
    assert again.config.upsamplers == ["repeat"]
    before = results(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000006")
    train(toy_shards, tmp_path / "run", resume=True, **settings)
    assert results(tmp_path / "run") == before


def test_bfloat16_on_the_cpu(toy_shards, tmp_path):
    train(toy_shards, tmp_path, steps=3, precision="bf16")
    assert {p.dtype for p in GenomicLM.from_pretrained(tmp_path).parameters()} == {torch.float32}


def test_without_a_valid_split_and_with_few_windows(toy_shards, tmp_path):
    source = toy_shards.parent / "toy.fa"
    tokenize_genomes([source], tmp_path / "shards", window=5000)
    train(tmp_path / "shards", tmp_path / "run", steps=2, batch_size=3)
    assert {record["split"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")} == {"train"}


def test_a_model_named_by_file_or_preset(toy_shards, tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(TOY_MODEL))
    trainer = Trainer(toy_config(toy_shards, model=str(path)), tmp_path / "run")
    assert trainer.model.config.d_model == [16, 24]
    with pytest.raises(InputError, match="model preset 'hnet' is unknown"):
        Trainer(toy_config(toy_shards, model="hnet"), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {**TOY_MODEL, "d_model": [15, 15]}}, "model.mamba2.head_dim: 8 does not divide"),
        (
            {"model": {**TOY_MODEL, "tokenizer": "byte"}},
            "model.tokenizer: is 'byte', and the shards were made with",
        ),
        ({"model": "nowhere.json"}, "nowhere.json: cannot be read"),
        ({"target_chunk_length": [3, 3]}, "target_chunk_length: 2 values for the 1 chunking stages"),
        (
            {"model": {**TOY_MODEL, "chunkers": [{"kind": "merge", "min_length": 4, "max_length": 8}]}},
            "target_chunk_length: 3.0 is out of reach for stage 0, whose chunks hold 4 to 8 tokens",
        ),
        ({"stage_learning_rates": [1.0]}, "stage_learning_rates: 1 values for 2 stages"),
        ({"device": "abacus"}, "device: 'abacus' is no device of torch"),
        ({"shards": "nowhere"}, "nowhere: no shards here"),
    ],
)
def test_what_does_not_fit_is_said_before_the_run(changes, sentence, toy_shards, tmp_path):
    settings = {"shards": toy_shards} | changes
    with pytest.raises(InputError) as error:
        train(settings.pop("shards"), tmp_path / "run", **settings)
    assert str(error.value).startswith(sentence)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_an_absent_gpu_is_said(toy_shards, tmp_path):
    with pytest.raises(InputError, match="device: 'cuda' was asked for, and torch sees no GPU here"):
        train(toy_shards, tmp_path / "run", device="cuda")


def test_a_learning_rate_beyond_reason(toy_shards, tmp_path):
    with pytest.raises(InputError) as error:
        train(toy_shards, tmp_path, learning_rate=1e25, checkpoint_every=1, weight_decay=0.0)
    sentence = str(error.value)
    assert "the loss or its gradient is no number any more at step" in sentence
    assert "the latest checkpoint is" in sentence
    assert "try a lower learning_rate" in sentence
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert not (tmp_path / "model.safetensors").exists()


def test_a_poisoned_weight(toy_shards, tmp_path):
    trainer = Trainer(toy_config(toy_shards), tmp_path)
    with torch.no_grad():
        trainer.model.head.weight[0, 0] = math.nan
    with pytest.raises(InputError, match=r"at step 1 \(loss nan.*there is no checkpoint yet"):
        trainer.run()
    assert (tmp_path / "metrics.jsonl").read_text() == ""

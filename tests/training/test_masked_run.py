"""Runs whose task is to find masked tokens, and label smoothing."""

import math

import numpy as np
import pytest
import torch
from toy_runs import TOY_MODEL, losses_of, pull_the_plug, results, toy_config, train

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.shards.masking import Masking
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import collate
from genotok.training.loop import Trainer
from genotok.training.monitor import read_metrics

MODEL = {**TOY_MODEL, "layout": ["T2"], "d_model": 24, "d_intermediate": 32, "tasks": ["mlm"]}
MASKED = {"model": MODEL, "target_chunk_length": []}


@pytest.fixture(scope="module")
def finished(toy_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked") / "run"
    train(toy_shards, folder, **MASKED)
    return folder


def test_it_learns_what_stands_behind_a_mask(toy_shards, tmp_path):
    attention = {"heads": 4, "rotary_dim": 12, "window": -1}
    model = {**MODEL, "d_model": 48, "d_intermediate": 96, "attention": attention}
    changes = {"steps": 250, "batch_size": 8, "learning_rate": 5e-3, "log_every": 50, "checkpoint_every": 0}
    train(toy_shards, tmp_path, model=model, target_chunk_length=[], validate_every=0, **changes)
    last = read_metrics(tmp_path / "metrics.jsonl")[-1]
    assert last["split"] == "valid"
    assert last["nats_per_masked_token"] < 1.0  # ln 4 = 1.386 without knowledge
    assert last["masked_accuracy"] > 0.55


def test_metrics_are_named_for_the_task(finished):
    records = read_metrics(finished / "metrics.jsonl")
    for record in records:
        main = {"nats_per_masked_token", "masked_accuracy"} if record["split"] == "valid" else None
        assert main is None or set(record) == {"step", "split", *main}
        assert "bits_per_base" not in record
        assert record["nats_per_masked_token"] > 0
    assert records[0]["nats_per_masked_token"] == pytest.approx(math.log(16), abs=0.4)


def test_validation_masks_are_fixed_by_the_seed(finished, toy_shards):
    """6 windows in batches of 4 are 8 windows, each under its own mask; loss and share by hand."""
    model, dataset = GenomicLM.from_pretrained(finished), ShardDataset(toy_shards, "valid")
    masking, nats, right = Masking(model.tokenizer, seed=1, stream=3), [], []
    for index in range(8):
        ids = np.concatenate([[model.tokenizer.start_id], dataset[index].ids])
        masked, labels = masking.mask_ids(ids, (0, index))
        log_p = model(torch.from_numpy(masked)[None], task="mlm").logits[0].log_softmax(-1)
        for t in np.flatnonzero(labels >= 0):
            nats.append(-log_p[t, labels[t]].item())
            right.append(log_p[t].argmax().item() == labels[t])
    last = read_metrics(finished / "metrics.jsonl")[-1]
    assert last["nats_per_masked_token"] == pytest.approx(np.mean(nats), abs=1e-5)
    assert last["masked_accuracy"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize("step", [3, 7])
def test_an_interrupted_run_ends_with_the_same_bytes(step, finished, toy_shards, tmp_path):
    trainer = Trainer(toy_config(toy_shards, **MASKED), tmp_path)
    pull_the_plug(trainer, step)
    train(toy_shards, tmp_path, resume=True, **MASKED)
    assert results(tmp_path) == results(finished)


@pytest.mark.parametrize(
    "changes", [{"mask_probability": 0.3}, {"mask_span": 3.0}, {"label_smoothing": 0.1}, {"seed": 2}]
)
def test_settings_matter(changes, finished, toy_shards, tmp_path):
    train(toy_shards, tmp_path, **MASKED, **changes)
    assert results(tmp_path)["model.safetensors"] != results(finished)["model.safetensors"]


def test_the_task_of_a_model_that_knows_both(toy_shards, tmp_path):
    both = {**MASKED, "model": {**MODEL, "tasks": ["lm", "mlm"]}, "steps": 1}
    train(toy_shards, tmp_path / "first", **both)
    train(toy_shards, tmp_path / "mlm", **both, task="mlm")
    assert "bits_per_base" in read_metrics(tmp_path / "first" / "metrics.jsonl")[0]
    assert "nats_per_masked_token" in read_metrics(tmp_path / "mlm" / "metrics.jsonl")[0]


def test_smoothing_changes_the_loss_and_not_what_is_told():
    torch.manual_seed(0)
    model = GenomicLM(ModelConfig.from_dict({**TOY_MODEL}))
    batch = collate(
        [torch.randint(0, 5, (length,)).numpy().astype("uint8") for length in (30, 12)], model.tokenizer
    )
    (plain, output), (smooth, _) = (
        losses_of(model, batch, [3.0], 0.0, label_smoothing=share) for share in (0.0, 0.2)
    )
    assert smooth.nats == pytest.approx(plain.nats, rel=1e-6)
    log_p = output.logits.log_softmax(-1)
    evenly = -log_p[:, :-1].mean(-1)[batch.labels[:, 1:] >= 0].mean()
    assert smooth.total == pytest.approx(0.8 * plain.total + 0.2 * evenly.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": "mlm"}, "task: is 'mlm', and the model knows 'lm'"),
        ({"task": "prediction"}, "task: is 'prediction' and must be lm or mlm with shards"),
        ({"mask_probability": 1.0}, "mask_probability: is 1.0 and must be more than 0 and less than 1"),
        ({"mask_span": 0.5}, "mask_span: is 0.5 and must be at least 1"),
        ({"label_smoothing": 1.0}, "label_smoothing: is 1.0 and must be from 0 to less than 1"),
        ({"freeze_backbone": True}, "freeze_backbone: is True and must be false without a table"),
        (
            {
                "model": {
                    **MODEL,
                    "tasks": ["prediction"],
                    "heads": {"x": {"kind": "regression", "outputs": 1}},
                }
            },
            "task: is 'lm', and the model knows 'prediction'",
        ),
    ],
)
def test_what_does_not_fit_is_said(changes, sentence, toy_shards, tmp_path):
    with pytest.raises(InputError) as error:
        train(toy_shards, tmp_path / "run", **changes)
    assert str(error.value).startswith(sentence)
    assert not (tmp_path / "run").exists()


def test_a_model_with_chunks_finds_masked_tokens(toy_shards, tmp_path):
    """Router and moving average read both directions; the ratio loss steers as ever."""
    train(toy_shards, tmp_path, model={**TOY_MODEL, "tasks": ["mlm"]}, steps=3)
    record = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert record["ratio_loss"] > 0
    assert 0 < record["chunk_fraction"][0] < 1

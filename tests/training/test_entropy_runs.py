"""Training models that cut by entropies: from the shards' column or worked out, calibrated, and by the verbs."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from toy_runs import TOY_MODEL, TOY_SETTINGS, results, toy_config, train
from typer.testing import CliRunner

from genotok.cli import app
from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.shards.entropies import annotate_shards
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import TrainingBatches
from genotok.training.config import TrainConfig
from genotok.training.entropies import (
    annotate,
    entropy_train_config,
    needs_calibration,
    read_entropy_model,
    threshold_of_shards,
    window_entropies,
)
from genotok.training.loop import Trainer

SMALL = {**TOY_MODEL, "layout": ["m1t1"], "d_model": 16, "d_intermediate": 0}
BY_LENGTH = {**TOY_MODEL, "chunkers": [{"kind": "entropy", "mean_length": 4, "max_length": 12}]}
SHORT = {"steps": 6, "checkpoint_every": 3, "validate_every": 0}


@pytest.fixture(scope="module")
def entropy_run(toy_shards, tmp_path_factory):
    """A trained entropy model."""
    folder = tmp_path_factory.mktemp("entropy") / "run"
    settings = {"model": SMALL, "target_chunk_length": [], "steps": 60, "learning_rate": 1e-2}
    train(toy_shards, folder, **settings, checkpoint_every=0, validate_every=0)
    return folder


@pytest.fixture(scope="module")
def annotated(toy_shards, entropy_run):
    """The shards with its entropies."""
    folder = entropy_run.parent / "annotated"
    annotate(toy_shards, entropy_run, folder, device="cpu", threads=1)
    return folder


@pytest.fixture(scope="module")
def finished(annotated, entropy_run, tmp_path_factory):
    """A run that read the column."""
    folder = tmp_path_factory.mktemp("by_length") / "run"
    train(annotated, folder, model=BY_LENGTH, entropy_model=str(entropy_run), **SHORT)
    return folder


def test_the_column_is_what_the_model_works_out(annotated, entropy_run):
    model = read_entropy_model(entropy_run)
    settings = {**BY_LENGTH["chunkers"][0], "threshold": 1.0, "model": model.config.to_dict()}
    del settings["mean_length"]
    whole = GenomicLM(toy_model_config(chunkers=[settings]))
    whole.entropy_model.load_state_dict(model.state_dict())
    batches = TrainingBatches(ShardDataset(annotated, "train"), 7, 1, True)
    batches.column = "entropies"
    for _ in range(20):
        batch = next(batches)
        kept = whole(batch.input_ids, lengths=batch.lengths, boundary_inputs=batch.boundary_inputs)
        computed = whole(batch.input_ids, lengths=batch.lengths)
        assert torch.equal(kept.logits, computed.logits)


def toy_model_config(**changes):
    return ModelConfig.from_dict({**TOY_MODEL, **changes})


def test_an_oracle_for_the_column(annotated, entropy_run):
    """Letter by letter behind the start token, on either strand."""
    model, dataset = GenomicLM.from_pretrained(entropy_run), ShardDataset(annotated, "valid")
    for reverse in (False, True):
        ids = dataset[3].ids
        ids = model.tokenizer.reverse_complement(ids) if reverse else ids
        row = torch.tensor([[model.tokenizer.start_id, *ids.tolist()]])
        with torch.no_grad():
            shares = [
                model(row[:, : t + 1]).logits[0, -1, :4].double().softmax(-1) for t in range(len(row[0]))
            ]
        wanted = [-(share * share.log()).sum().item() for share in shares]
        assert dataset.entropies(3, reverse).tolist() == pytest.approx(wanted, abs=2e-5)


def test_training_with_and_without_the_column(toy_shards, entropy_run, finished, tmp_path, capsys):
    """The same bytes, and the same again after an interruption."""
    settings = {"model": BY_LENGTH, "entropy_model": str(entropy_run), **SHORT}
    trainer = train(toy_shards, tmp_path / "run", **settings)
    assert trainer.data.data_sets[0].batches.column is None
    assert results(tmp_path / "run") == results(finished)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000006")
    train(toy_shards, tmp_path / "run", resume=True, **settings)
    assert results(tmp_path / "run") == results(finished)
    assert "worked out anew" not in capsys.readouterr().err


def test_what_is_saved(annotated, entropy_run, finished):
    """A number in place of the mean length, the one that the verb prints, and the entropy model as it was."""
    (chunker,) = json.loads((finished / "config.json").read_text())["chunkers"]
    assert "mean_length" not in chunker
    assert chunker["threshold"] == threshold_of_shards(annotated, 4, max_length=12)
    model = GenomicLM.from_pretrained(finished)
    assert model.entropy_model.content_hash() == GenomicLM.from_pretrained(entropy_run).content_hash()
    dataset = ShardDataset(annotated, "train")
    rows = [torch.tensor([model.tokenizer.start_id, *dataset[i].ids.tolist()]) for i in range(len(dataset))]
    lengths = torch.tensor(list(map(len, rows)))
    mask = (
        model(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths=lengths)
        .packed_boundaries[0]
        .mask
    )
    assert len(mask) / mask.sum() == pytest.approx(4, rel=0.05)


def test_it_learns(annotated, entropy_run, tmp_path):
    """19 of 21 letters can be known from those before them, also across chunks of ten letters."""
    model = {**TOY_MODEL, "chunkers": [{"kind": "entropy", "mean_length": 10.5}]}
    settings = {"model": model, "entropy_model": str(entropy_run), "learning_rate": 1e-2}
    train(annotated, tmp_path, **settings, steps=150, batch_size=8, checkpoint_every=0, validate_every=0)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["split"] == "valid"
    assert last["bits_per_base"] < 1.3


def test_entropies_of_another_model_are_not_used(annotated, entropy_run, tmp_path, capsys):
    """They are worked out; the run says so."""
    other = tmp_path / "other"
    shutil.copytree(entropy_run, other)
    model = GenomicLM.from_pretrained(other)
    with torch.no_grad():
        model.head.weight *= 1.5
    model.save_pretrained(other)
    trainer = Trainer(
        toy_config(annotated, model=BY_LENGTH, entropy_model=str(other), **SHORT), tmp_path / "run"
    )
    assert trainer.data.data_sets[0].batches.column is None
    assert "and not of the entropy model at hand, so they are worked out anew" in capsys.readouterr().err
    again = Trainer(
        toy_config(annotated, model=BY_LENGTH, entropy_model=str(entropy_run), **SHORT), tmp_path / "run"
    )
    assert again.data.data_sets[0].batches.column == "entropies"
    assert again.identity != trainer.identity


def known_entropies(windows):
    """Values that no model gives: high at every fifth token."""
    return [np.where(np.arange(len(ids) + 1) % 5 == 0, 3.0, 0.0).astype(np.float32) for ids in windows]


def test_validation_and_evaluation_read_the_column(toy_shards, entropy_run, finished, tmp_path):
    """A column that names the right model is taken at its word; one in half precision only by validation."""
    right = read_entropy_model(entropy_run).content_hash()
    for dtype in ("float32", "float16"):
        annotate_shards(toy_shards, tmp_path / dtype, known_entropies, right, dtype)
    annotate_shards(toy_shards, tmp_path / "wrong", known_entropies, "ab" * 32)
    lengths = {}
    for name in ("float32", "float16", "wrong"):
        words = ("--split", "valid", "--device", "cpu", "--threads", 1)
        genotok("evaluate", finished, tmp_path / name, "-o", tmp_path / "m.json", *words)
        (stage,) = json.loads((tmp_path / "m.json").read_text())["stages"]
        lengths[name] = stage["mean_length"]
        trainer = Trainer(toy_config(tmp_path / name, init=str(finished), model=None), tmp_path / "run")
        for batch in trainer.validation:
            if name == "wrong":
                assert batch.boundary_inputs is None
            else:
                (wanted,) = known_entropies([batch.input_ids[0, 1:]])
                assert batch.boundary_inputs[0].tolist() == wanted.tolist()
    # Of 630 letters: nineteen windows of 32 with a chunk at letter 0, 5, ..., 30, and one of 22.
    assert lengths["float32"] == pytest.approx(630 / (19 * 7 + 5))
    assert lengths["float16"] == lengths["wrong"] != lengths["float32"]


def test_masked_tokens_are_cut_by_what_is_seen(annotated, entropy_run, tmp_path):
    """The column knows the hidden tokens, so that only the threshold is found with it."""
    blocks = {"layout": ["T1", ["T1"], "T1"], "d_intermediate": [32, 32], "tasks": ["mlm"]}
    settings = {"model": {**BY_LENGTH, **blocks}, "entropy_model": str(entropy_run)}
    trainer = train(annotated, tmp_path / "run", **settings, **SHORT | {"steps": 1})
    assert next(trainer.batches).boundary_inputs is None
    assert all(batch.boundary_inputs is None for batch in trainer.validation)
    (chunker,) = trainer.model.config.chunkers
    assert chunker["threshold"] == threshold_of_shards(annotated, 4, max_length=12)


def test_the_learning_rate_follows_the_mean_length(toy_shards, entropy_run, tmp_path):
    model = {**BY_LENGTH, "chunkers": [{"kind": "entropy", "mean_length": 9}]}
    settings = {"model": model, "entropy_model": str(entropy_run)}
    trainer = Trainer(toy_config(toy_shards, **settings), tmp_path / "run")
    rates = sorted({group["base_lr"] for group in trainer.optimizer.param_groups})
    assert rates == pytest.approx([3e-3, 3e-3 * (9 * 24 / 16) ** 0.5])
    count = sum(len(group["params"]) for group in trainer.optimizer.param_groups)
    named = [name for name, _ in trainer.model.named_parameters()]
    assert count == sum(not name.startswith("entropy_model.") for name in named) < len(named)


def test_a_trained_model_brings_its_own(annotated, finished, tmp_path):
    """Training goes on from a run without another word on its entropy model."""
    settings = {"init": str(finished), "model": None, **SHORT, "steps": 2}
    trainer = train(annotated, tmp_path / "more", **settings)
    assert trainer.data.data_sets[0].batches.column == "entropies"
    before, after = (GenomicLM.from_pretrained(folder) for folder in (finished, tmp_path / "more"))
    assert after.config == before.config
    assert after.entropy_model.content_hash() == before.entropy_model.content_hash()
    assert after.content_hash() != before.content_hash()


def test_a_table_has_no_threshold(finished):
    model = GenomicLM.from_pretrained(finished)
    assert not needs_calibration(model, reads_shards=False)
    model.backbone.chunker.threshold = None
    assert needs_calibration(model, reads_shards=True)
    with pytest.raises(InputError, match=r"^chunkers\[0\].mean_length: needs shards to find a threshold in"):
        needs_calibration(model, reads_shards=False)


@pytest.fixture(scope="module")
def other_models(toy_shards, entropy_run, tmp_path_factory):
    """Folders of models that are no entropy models, or of another tokenizer."""
    folder = tmp_path_factory.mktemp("others")
    attention = {**TOY_MODEL, "layout": ["T2"], "d_model": 16, "d_intermediate": 16, "tasks": ["mlm"]}
    for name, config in {
        "masked": attention,
        "staged": TOY_MODEL,
        "byte": {**SMALL, "tokenizer": "byte"},
        "ntv2": {**SMALL, "tokenizer": "ntv2"},
    }.items():
        GenomicLM(ModelConfig.from_dict(config)).save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize(
    ("model", "folder", "sentence"),
    [
        (BY_LENGTH, None, "entropy_model: this key is needed"),
        (
            TOY_MODEL,
            "byte",
            "entropy_model: is for the chunker 'entropy', and the outermost stage has 'routing'",
        ),
        (BY_LENGTH, "nowhere", "nowhere: no config.json here"),
        (BY_LENGTH, "masked", "masked: is no causal model; an entropy model predicts the next token"),
        (BY_LENGTH, "staged", "staged: has 2 stages; an entropy model has one"),
        (BY_LENGTH, "byte", "chunkers[0].model.tokenizer: is 'byte', and the model's is 'nucleotide'"),
        (
            {
                **TOY_MODEL,
                "chunkers": [{"kind": "entropy", "threshold": 1, "model": {**SMALL, "d_model": 24}}],
            },
            "byte",
            "byte is another model than that of chunkers[0].model",
        ),
    ],
)
def test_models_that_do_not_fit_are_said(model, folder, sentence, other_models, toy_shards, tmp_path):
    settings = {} if folder is None else {"entropy_model": str(other_models / folder)}
    with pytest.raises(InputError) as error:
        train(toy_shards, tmp_path / "run", model=model, **settings)
    assert sentence in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("masked", "is no causal model"),
        ("byte", "its tokenizer is 'byte', and"),
    ],
)
def test_shards_that_cannot_be_annotated(folder, sentence, other_models, toy_shards, tmp_path):
    with pytest.raises(InputError, match=sentence):
        annotate(toy_shards, other_models / folder, tmp_path / "out", device="cpu", threads=1)
    assert not (tmp_path / "out").exists()


def test_tokens_of_several_letters_are_refused(other_models, toy_shards, tmp_path):
    shutil.copytree(toy_shards, tmp_path / "shards")
    path = tmp_path / "shards" / "manifest.json"
    path.write_text(path.read_text().replace('"tokenizer": "nucleotide"', '"tokenizer": "ntv2"'))
    with pytest.raises(
        InputError, match="'ntv2' has tokens of several letters, and this needs one token a letter"
    ):
        annotate(tmp_path / "shards", other_models / "ntv2", tmp_path / "out", device="cpu", threads=1)


def test_a_threshold_needs_the_column(toy_shards):
    with pytest.raises(InputError, match="has no entropies; `genotok entropy annotate` adds them"):
        threshold_of_shards(toy_shards, 4)


def test_settings_of_an_entropy_model():
    given = {"shards": "x", "steps": 3}
    wanted = TrainConfig(shards="x", steps=3, model="entropy_dna")
    assert entropy_train_config(given, "file") == wanted
    assert entropy_train_config({**given, "model": SMALL}, "file").model == SMALL
    with pytest.raises(InputError, match="model: has 2 stages; an entropy model has one"):
        entropy_train_config({**given, "model": TOY_MODEL}, "file")


def test_entropies_are_those_of_the_batch_or_alone(entropy_run):
    """Windows of different length in one call, and each alone: the same bits."""
    model, random = read_entropy_model(entropy_run), np.random.default_rng(0)
    windows = [random.integers(0, 5, length).astype(np.uint8) for length in (1, 30, 7)]
    for window, found in zip(windows, window_entropies(model, windows), strict=True):
        assert found.shape == (len(window) + 1,)
        assert np.array_equal(window_entropies(model, [window])[0], found)


def genotok(*words):
    """The standard output of a verb."""
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_by_the_verbs(toy_shards, tmp_path, monkeypatch):
    """From a genome to scores, chunks and made-up letters."""
    monkeypatch.chdir(tmp_path)
    fasta = tmp_path / "toy.fa"
    shutil.copy(toy_shards.parent / "toy.fa", fasta)
    shared = {key: value for key, value in TOY_SETTINGS.items() if key != "model"} | {
        "steps": 4,
        "threads": 1,
    }
    of_entropy = {**shared, "shards": "shards", "model": SMALL, "steps": 30, "learning_rate": 1e-2}
    of_model = {**shared, "shards": "annotated", "model": BY_LENGTH, "entropy_model": "entropy"}
    (tmp_path / "entropy.yaml").write_text(json.dumps(of_entropy))
    (tmp_path / "train.yaml").write_text(json.dumps(of_model))
    columns = "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"])
    variant = f"##fileformat=VCFv4.2\n##contig=<ID=a>\n{columns}\n"
    reference = fasta.read_text().splitlines()[1]
    (tmp_path / "in.vcf").write_text(
        f"{variant}a\t100\t.\t{reference[99]}\t{'A' if reference[99] != 'A' else 'C'}\t.\t.\t.\n"
    )
    one = ("--device", "cpu", "--threads", 1)
    genotok("tokenize", fasta, "-o", "shards", "--window", 64, "--valid", "b")
    genotok("entropy", "train", "entropy.yaml", "-o", "entropy")
    genotok("entropy", "annotate", "shards", "-m", "entropy", "-o", "annotated", *one)
    threshold = float(genotok("entropy", "threshold", "annotated", "--mean-length", 4, "--max-length", 12))
    genotok("train", "train.yaml", "-o", "run")
    (chunker,) = json.loads((tmp_path / "run" / "config.json").read_text())["chunkers"]
    assert chunker["threshold"] == threshold
    genotok("evaluate", "run", "shards", "-o", "metrics.json", "--split", "valid", *one)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["stages"][0]["mean_length"] == pytest.approx(4, abs=1)
    assert metrics["model"]["bits_per_base"] > 0
    genotok("score", "in.vcf", "-r", fasta, "-m", "run", "-o", "out.vcf", "--window", 64, *one)
    assert re.search(r"GENOTOK_LLR=-?\d", (tmp_path / "out.vcf").read_text())
    genotok("tokens", fasta, "-m", "run", "--region", "a:11-110", "-o", "out.bed", *one)
    lengths = [int(line.split()[2]) - int(line.split()[1]) for line in (tmp_path / "out.bed").open()]
    assert sum(lengths) == 100
    assert max(lengths) <= 12
    letters = genotok("generate", "run", "--prompt", "GATTACA", "--length", 40, *one).splitlines()[1]
    assert re.fullmatch("GATTACA[ACGT]{40}", letters)
    info = json.loads(genotok("info", "run", "--length", 100, "--json"))
    own = sum(parameter.numel() for parameter in GenomicLM.from_pretrained("entropy").parameters())
    assert info["parameters"]["entropy model"] == own
    assert info["flops_per_base"]["entropy model"]["total"] > 0

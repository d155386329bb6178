"""Workflows with tokens of several letters, and with chunks by entropy."""

import json

import pytest
from small_workflow import MODEL, Workflow

from genotok.models import GenomicLM
from genotok.shards.manifest import read_manifest
from genotok.tokenizers import train_bpe
from genotok.training.entropies import threshold_of_shards

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(600)]


def small(folder, **changes) -> Workflow:
    """A workflow without variants, pictures of chunks and further steps."""
    workflow = Workflow(folder / "work")
    short = {"steps": 2, "batch_size": 2, "threads": 1, "log_every": 1}
    workflow.config |= {"variants": "", "report": {}, "train": short, **changes}
    workflow.write_config()
    return workflow


def test_byte_pairs_are_learned_from_the_training_split(tmp_path):
    """From the genome to a model; the tokenizer knows nothing of the held-out genome."""
    workflow = small(tmp_path)
    workflow.config["tokenize"] |= {"tokenizer": {"bpe": 40}}
    workflow.write_config()
    workflow.run("results/model/config.json")
    results = workflow.folder / "results"
    letters = "".join((workflow.folder / "lambda.fa").read_text().split("\n")[1:])
    learned = json.loads((results / "tokenizer.json").read_text())
    assert learned == train_bpe([letters], 40).description
    model = GenomicLM.from_pretrained(results / "model")
    assert (model.tokenizer.name, model.tokenizer.vocab_size) == ("bpe", 40)
    assert read_manifest(results / "shards")[1].tokenizer == "nucleotide"


def test_chunks_by_entropy(tmp_path):
    """The small model is trained, its entropies go into the shards, and the model cuts by a mean length."""
    small_model = {**MODEL, "layout": ["m1"], "d_model": 16, "d_intermediate": 0}
    workflow = small(
        tmp_path,
        model={**MODEL, "chunkers": [{"kind": "entropy", "mean_length": 4}]},
        entropy_model={"model": small_model, "train": {"steps": 3, "batch_size": 2, "threads": 1}},
    )
    workflow.run("results/evaluation/metrics.json")
    results = workflow.folder / "results"
    model, own = (GenomicLM.from_pretrained(results / name) for name in ("model", "entropy_model"))
    assert model.entropy_model.content_hash() == own.content_hash()
    assert read_manifest(results / "entropies")[1].entropies["model"] == own.content_hash()
    (chunker,) = model.config.chunkers
    assert chunker["threshold"] == threshold_of_shards(results / "entropies", 4)
    metrics = json.loads((results / "evaluation" / "metrics.json").read_text())
    assert metrics["stages"][0]["mean_length"] > 1
    rules = workflow.rules_to_run_with("entropy_model", "dtype", "float16")
    assert {"annotate_genome", "train"} <= rules
    assert "train_entropy_model" not in rules


@pytest.mark.parametrize(
    ("tokenizer", "model", "of_shards", "of_model"),
    [
        ("byte", {**MODEL}, "byte", "byte"),
        ("kmer", "hnet_1stage_dna", "nucleotide", "kmer"),
        ("own.json", {**MODEL}, "nucleotide", "own.json"),
    ],
    ids=str,
)
def test_the_plan_for_a_tokenizer(tmp_path, tokenizer, model, of_shards, of_model):
    """What the commands are told."""
    workflow = small(tmp_path, model=model)
    workflow.config["tokenize"] |= {"tokenizer": tokenizer}
    workflow.write_config()
    (workflow.folder / "own.json").write_text(json.dumps({"type": "kmer", "k": 3}))
    plan = workflow.run("--dry-run", "--printshellcmds", "results/evaluation/metrics.json").stdout
    assert f"--tokenizer {of_shards}" in plan
    (line,) = [line for line in plan.splitlines() if "scripts/train.sh" in line]
    said = json.loads(line[line.index("{") : line.rindex("}") + 1])["model"]
    assert said["tokenizer"] == of_model


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"tokenize": {"tokenizer": "byte"}, "model": {**MODEL, "tokenizer": "kmer"}},
            "model.tokenizer: is 'kmer', and tokenize.tokenizer is 'byte'",
        ),
        (
            {"entropy_model": {}, "tokenize": {"tokenizer": "codon"}},
            "entropy_model: needs a token a letter, and tokenize.tokenizer is 'codon'",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_said(tmp_path, changes, complaint):
    done = small(tmp_path, **changes).run("--dry-run", check=False)
    assert done.returncode
    assert complaint in done.stdout + done.stderr

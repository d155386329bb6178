"""Where results come from, and that nothing but that decides about their bytes."""

import hashlib
import json
import re

import pysam
import pytest
from small_workflow import Workflow

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(600)]


def provenance(workflow: Workflow) -> dict:
    return json.loads((workflow.folder / "results" / "provenance.json").read_text())


def sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@pytest.mark.timeout(900)  # it may be the one that waits for both runs
def test_the_bytes_do_not_depend_on_the_cores(finished, interrupted):
    """Shards, model, scores, metrics and figures; the record differs in the command alone."""
    assert interrupted.results() == finished.results()
    one, two = provenance(interrupted), provenance(finished)
    assert one.pop("command").endswith("--cores 1")
    assert two.pop("command").endswith("--cores 2")
    assert one == two


def test_inputs_versions_and_commit_are_recorded(finished):
    record = provenance(finished)
    for name in ("variants.vcf", "genomes.tsv", "results/genomes/lambda.fa.gz"):
        digest = hashlib.sha256((finished.folder / name).read_bytes()).hexdigest()
        assert record["inputs"][name] == digest
    assert record["versions"].keys() >= {"genotok", "python", "torch", "numpy", "pysam", "snakemake"}
    assert record["commit"] is None or re.fullmatch("[0-9a-f]{40}[+]?", record["commit"])
    assert record["config"]["train"]["steps"] == 12
    assert record["config_sha256"] == sha256(record["config"])


def test_model_and_scores_carry_their_hashes(finished):
    """The hashes are those of the settings that stand beside them."""
    parts = provenance(finished)["provenance"]
    assert all(part["sha256"] == sha256(part["settings"]) for part in parts.values())
    card = (finished.folder / "results" / "model" / "README.md").read_text()
    assert f"| provenance | `{parts['model']['sha256']}` |" in card
    with pysam.VariantFile(str(finished.folder / "results" / "scores" / "fitness.vcf.gz")) as vcf:
        carried = [record.value for record in vcf.header.records if record.key == "genotok_provenance"]
    assert carried == [parts["scores/fitness"]["sha256"]]
    assert parts["scores/fitness"]["settings"]["model"] == parts["model"]["sha256"]

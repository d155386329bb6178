"""Reads and tables in the table of genomes."""

import json

import pytest
from small_workflow import Workflow

from genotok.shards.manifest import read_manifest

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(300)]
HEADER = "genome\tsource\tformat\talphabet\tsplit\tmin_quality\tsequence_column\n"


def test_reads_and_proteins_become_shards(tmp_path):
    workflow = Workflow(tmp_path / "work")
    (workflow.folder / "sample.fq").write_text("@a\nACGTA\n+\nIIIII\n@b\nACGTA\n+\n#####\n")
    (workflow.folder / "proteins.csv").write_text("seq\nMKVLA\n")
    genome = "sars_cov_2\tsars_cov_2.fa\t\t\ttest\t\t\n"
    reads = "reads\tsample.fq\tfastq\t\ttrain\t20\t\n"
    proteins = "proteins\tproteins.csv\tcsv\tprotein\tvalid\t\tseq\n"
    (workflow.folder / "genomes.tsv").write_text(HEADER + genome + reads + proteins)
    workflow.config["tokenize"] = {"window": 256, "tokenizer": "biological"}
    workflow.write_config()
    names = ("sars_cov_2", "reads", "proteins")
    workflow.run("results/provenance.json", *(f"results/shards/{name}" for name in names))
    found = {name: read_manifest(workflow.folder / "results" / "shards" / name)[1] for name in names}
    alphabets = {name: manifest.sources[0]["alphabet"] for name, manifest in found.items()}
    assert alphabets == {"sars_cov_2": "dna", "reads": "dna", "proteins": "protein"}
    (kept,) = found["reads"].collections
    assert (kept.genome, kept.split, kept.sequences) == ("reads", "train", 1)
    assert [(one.split, one.length) for one in found["proteins"].collections] == [("valid", 5)]
    record = json.loads((workflow.folder / "results" / "provenance.json").read_text())
    assert record["inputs"].keys() >= {"sample.fq", "proteins.csv", "results/genomes/sars_cov_2.fa.gz"}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            "p\tp.faa\t\tprotein\ttrain\t\t\n",
            "column 'alphabet': is protein, and the column 'format' is empty",
        ),
        ("p\tp.faa\tfastaq\t\ttrain\t\t\n", "column 'format': 'fastaq' is not one of"),
        ("sars_cov_2\tp.fq\tfastq\t\ttrain\t\t\n", "'sars_cov_2' is no genome, but fastq"),
    ],
)
def test_rows_that_cannot_be(row, sentence, tmp_path):
    workflow = Workflow(tmp_path / "work")
    (workflow.folder / "genomes.tsv").write_text(HEADER + row)
    done = workflow.run("--dry-run", check=False)
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr

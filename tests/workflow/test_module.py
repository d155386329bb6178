"""The workflow as a module of another one, which only scores its variants with a model that it brings along."""

import subprocess
import sys

import pysam
import pytest
import torch
from small_workflow import MODEL, REPOSITORY, Workflow

from genotok.models import GenomicLM, ModelConfig

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(300)]
SNAKEFILE = f"""
module genotok:
    snakefile: "{REPOSITORY}/Snakefile"
    config: config["scoring"]


use rule * from genotok as genotok_*


rule count:
    default_target: True
    input: "scored/scores/mine.model.vcf.gz"
    output: "count.txt"
    shell: "zcat {{input}} | grep -vc '^#' > {{output}}"
"""


def test_another_workflow_scores_its_variants(tmp_path):
    workflow = Workflow(tmp_path / "work")
    folder = workflow.folder
    torch.manual_seed(1)
    GenomicLM(ModelConfig.from_dict(MODEL)).save_pretrained(folder / "model")
    (folder / "genomes.tsv").write_text("genome\tsource\tsplit\nsars_cov_2\tsars_cov_2.fa\tnone\n")
    (folder / "variants.tsv").write_text("name\tvcf\tgenome\tmodel\nmine\tvariants.vcf\tsars_cov_2\tmodel\n")
    lines = (folder / "variants.vcf").read_text().splitlines(keepends=True)
    header = [line for line in lines if line.startswith("#")]
    (folder / "variants.vcf").write_text("".join(lines[: len(header) + 5]))
    workflow.config = {
        "scoring": {
            "genomes": "genomes.tsv",
            "variants": "variants.tsv",
            "results": "scored",
            "model": "hnet_1stage_dna",
            "score": {"window": 32, "pieces": 1},
        }
    }
    workflow.write_config()
    (folder / "Snakefile").write_text('configfile: "config.yaml"\n' + SNAKEFILE)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "count.txt").read_text() == "5\n"
    assert "genotok_train" not in done.stderr
    with pysam.VariantFile(str(folder / "scored" / "scores" / "mine.model.vcf.gz")) as vcf:
        assert all(set(record.info["GENOTOK_STATUS"]) == {"ok"} for record in vcf)

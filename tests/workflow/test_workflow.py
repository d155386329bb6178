"""The workflow, run by Snakemake for real."""

import hashlib
import json
import re
import shutil
import subprocess
import sys

import pyarrow.parquet
import pysam
import pysam.bcftools
import pytest
from small_workflow import REPOSITORY, Workflow
from waiting import wait_for

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(600)]


def test_all_results_are_there(finished):
    """Scores can be read with htslib and pyarrow, metrics are numbers, and the page holds its figures."""
    results = finished.folder / "results"
    scored = str(results / "scores" / "fitness.vcf.gz")
    with pysam.VariantFile(scored) as vcf, pysam.VariantFile(str(finished.folder / "variants.vcf")) as source:
        scored_records, records = list(vcf), list(source)
        in_region = list(vcf.fetch("NC_045512.2", 1000, 2000))
    assert [record.pos for record in scored_records] == [record.pos for record in records]
    assert in_region
    assert all(1000 < record.pos <= 2000 for record in in_region)
    for record in scored_records:
        assert len(record.info["GENOTOK_LLR"]) == len(record.alts)
        assert set(record.info["GENOTOK_STATUS"]) == {"ok"}
    table = pyarrow.parquet.read_table(results / "scores" / "fitness.parquet")
    assert table.num_rows == sum(len(record.alts) for record in records)
    metrics = json.loads((results / "evaluation" / "metrics.json").read_text())
    assert metrics["model"]["nucleotides"] == 4_000
    assert 1.5 < metrics["model"]["bits_per_base"] < 4.0  # 4 bits is what an untrained model says
    tokens = json.loads((results / "figures" / "tokens" / "tokens.json").read_text())
    assert tokens["bases"] == 800
    assert {row["kind"] for row in tokens["enrichment"]} >= {"codon_position_1", "start_codon", "gc"}
    regions = results / "figures" / "attribution" / "NC_045512.2_271-290"
    attributed = json.loads((regions / "attributions.json").read_text())["regions"]["NC_045512.2_271-290"]
    assert abs(attributed["completeness"]["gap"]) < 0.01
    assert (regions / "NC_045512.2_271-290" / "attribution.html").is_file()
    motifs = json.loads((results / "figures" / "motifs" / "motifs.json").read_text())
    assert (motifs["regions"], motifs["bases"], motifs["known"]) == (1, 20, 50)
    page = (results / "index.html").read_text()
    assert motifs["statement"] in page
    assert "NC_045512.2:271-290" in page
    assert page.count("data:image/svg+xml") >= 5
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", page)


def test_bcftools_filters_on_the_score(finished):
    """The fields are declared so that bcftools can compare them."""
    scored = str(finished.folder / "results" / "scores" / "fitness.vcf.gz")
    chosen = pysam.bcftools.view("-H", "-i", "INFO/GENOTOK_LLR<-0.01", scored).splitlines()
    with pysam.VariantFile(scored) as vcf:
        expected = [record for record in vcf if min(record.info["GENOTOK_LLR"]) < -0.01]
    assert len(chosen) == len(expected) > 0


def test_a_second_run_has_nothing_to_do(finished):
    """Unchanged files, parameters and code start nothing."""
    assert "Nothing to be done" in finished.run().stderr


@pytest.mark.parametrize(
    ("section", "key", "value", "starts", "leaves"),
    [
        ("score", "window", 32, "score_variants", "train"),
        ("train", "steps", 13, "train", "tokenize_genome"),
        ("tokenize", "window", 128, "tokenize_genome", "prepare_genome"),
        ("report", "region", "sars_cov_2/NC_045512.2:1-60", "report_chunks", "score_variants"),
    ],
)
def test_a_changed_parameter_starts_only_what_depends_on_it(finished, section, key, value, starts, leaves):
    """Snakemake's plan after one key was changed."""
    rules = finished.rules_to_run_with(section, key, value)
    assert starts in rules
    assert leaves not in rules


def test_the_report_is_made_offline(finished):
    """`snakemake --report` writes one file with all figures, without a network where this process may cut it off."""
    alone = ["unshare", "--net"]
    may = shutil.which("unshare") and subprocess.run([*alone, "true"], capture_output=True).returncode == 0
    command = [*(alone if may else []), *finished.command("--report", "report.html")]
    done = subprocess.run(command, cwd=finished.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = (finished.folder / "report.html").read_text()
    assert "variant_effect.svg" in report
    assert "bits_per_base.svg" in report
    assert "NC_045512.2_271-290/attribution.html" in report
    assert "motif_logos.svg" in report
    assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="https?:', report)


@pytest.mark.timeout(900)  # it may be the one that waits for both runs
def test_killed_at_any_rule_the_results_are_the_same(finished, interrupted):
    """The run that ended well after many that did not gives the same bytes, and leaves nothing to do."""
    assert interrupted.results() == finished.results()
    assert "Nothing to be done" in interrupted.run().stderr


def test_a_second_run_at_once_is_refused(tmp_path):
    """Two runs in one directory would write the same files; a dry run may look on."""
    workflow = Workflow(tmp_path / "work")
    first = workflow.start()
    wait_for(
        workflow.folder / "results" / "logs" / "prepare_genome" / "lambda.log",
        first,
        workflow.folder / "snakemake.log",
    )
    second = workflow.run(check=False)
    workflow.run("--dry-run")
    first.kill()
    first.wait()
    assert second.returncode
    assert "another Snakemake is at work in this directory" in second.stdout + second.stderr


def test_a_genome_is_downloaded_with_its_checksum(finished, tmp_path, busy_server):
    """A remote source that fails first is tried again; a wrong checksum ends in a sentence and no file."""
    genome = (finished.folder / "lambda.fa").read_bytes()
    digest = hashlib.sha256(genome).hexdigest()
    url = busy_server(genome)
    workflow = Workflow(tmp_path / "work")
    rows = f"genome\tsource\tsha256\nlambda\t{url}\t{digest}\n"
    (workflow.folder / "genomes.tsv").write_text(rows)
    workflow.config.update(variants="", report={})
    workflow.write_config()
    workflow.run("results/genomes/lambda.fa.gz")
    expected = (finished.folder / "results" / "genomes" / "lambda.fa.gz").read_bytes()
    assert (workflow.folder / "results" / "genomes" / "lambda.fa.gz").read_bytes() == expected
    (workflow.folder / "genomes.tsv").write_text(rows.replace(digest, "0" * 64))
    shutil.rmtree(workflow.folder / "results")
    failed = workflow.run("results/genomes/lambda.fa.gz", check=False)
    assert failed.returncode
    assert "0" * 64 in failed.stderr + failed.stdout
    assert not list((workflow.folder / "results").rglob("lambda.fa.gz"))


@pytest.mark.parametrize(
    ("section", "values", "complaint"),
    [
        ("train", {"stepz": 3}, "stepz"),
        ("train", {"main_network": {"freeze": True}}, "ntv2"),
        ("score", {"strands": "three"}, "strands"),
        ("tokenize", {"window": 0}, "window"),
        (
            "report",
            {"attribution": {"genome": "sars_cov_2", "regions": ["a:1-9"] * 2}},
            "the folder of a:1-9",
        ),
        ("report", {"motifs": {}}, "name regions in report.attribution"),
        ("report", {"motifs": {"min_seqlet": 2}}, "min_seqlet"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, section, values, complaint):
    """The schema's complaint names the key."""
    workflow = Workflow(tmp_path / "work")
    workflow.config[section] = values
    workflow.write_config()
    done = workflow.run("--dry-run", check=False)
    assert done.returncode
    assert complaint in done.stdout + done.stderr


def test_the_configuration_for_a_gpu_stands_alone():
    """Nothing of the demo leaks into it: the plan trains, and scores no variants."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run", "--quiet", "host"]
    plan = subprocess.run(
        [*command, "--nolock", "--configfile", "config/yeast.yaml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert "rule train" in plan.stdout
    assert "results_yeast/index.html" in plan.stdout
    assert "score_variants" not in plan.stdout


@pytest.mark.parametrize(
    ("example", "rule"),
    [("human", "download"), ("bacteria", "report_chunks"), ("bacteria_cpu", "evaluate"), ("virus", "truth")],
)
def test_the_examples_can_be_planned(tmp_path, example, rule):
    """From any working directory, each with its own tables."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run", "--quiet", "host"]
    files = [
        "--snakefile",
        str(REPOSITORY / "Snakefile"),
        "--configfile",
        str(REPOSITORY / f"config/{example}.yaml"),
    ]
    plan = subprocess.run([*command, *files], cwd=tmp_path, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert rule in plan.stdout
    assert f"results_{example}/index.html" in plan.stdout


def test_an_unknown_genome_is_named(tmp_path):
    """A set of variants on a genome that the table does not have."""
    workflow = Workflow(tmp_path / "work")
    table = workflow.folder / "variants.tsv"
    table.write_text(table.read_text().replace("\tsars_cov_2\t", "\tsars\t"))
    done = workflow.run("--dry-run", check=False)
    assert done.returncode
    assert "'sars'" in done.stdout + done.stderr

"""Several sets of variants with models of their own: pieces, truth, exports. No model is trained here."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pysam
import pytest
import torch
from small_workflow import MODEL, Workflow

from genotok.genomes.fasta import Reference
from genotok.models import GenomicLM, ModelConfig
from genotok.variants.pieces import gather_vcfs, split_vcf
from genotok.variants.score import score_vcf
from genotok.variants.table import gather_tables

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(300)]
CONTIG = "NC_045512.2"
GFF = f"##gff-version 3\n{CONTIG}\tx\tCDS\t266\t3999\t.\t+\t0\tID=cds\n"
SCORING = {"window": 32}
SETS = ("labelled.one", "labelled.org--two", "measured.one")


def save_model(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    GenomicLM(ModelConfig.from_dict(MODEL)).save_pretrained(folder)


def write_inputs(folder: Path) -> None:
    """28 records, of two alleles each: an uncompressed VCF with labels, and a table with numbers."""
    with Reference(folder / "sars_cov_2.fa") as reference:
        letters = reference.fetch(CONTIG)
    info = '##INFO=<ID=SIG,Number=.,Type=String,Description="x">\n'
    lines = ["##fileformat=VCFv4.3\n", info, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"]
    rows = ["chrom\tpos\tref\talt\tgrowth\n"]
    for number, pos in enumerate(range(200, 3000, 100)):
        ref = letters[pos - 1]
        alts = [alt for alt in "ACGT" if alt != ref][:2]
        sig = "Pathogenic" if number % 3 == 0 else "Benign" if number % 5 else "Unclear"
        lines.append(f"{CONTIG}\t{pos}\t.\t{ref}\t{','.join(alts)}\t.\t.\tSIG={sig}\n")
        rows += [f"{CONTIG}\t{pos}\t{ref}\t{alt}\t{(number * 7 + ord(alt)) % 11}\n" for alt in alts]
    (folder / "labels.vcf").write_text("".join(lines))
    (folder / "growth.tsv").write_text("".join(rows))
    (folder / "genes.gff3").write_text(GFF)


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Workflow:
    """Two models on one VCF in two pieces, with labels, and one of them on a table of numbers."""
    workflow = Workflow(tmp_path_factory.mktemp("sets") / "work")
    for name, seed in (("one", 1), ("two", 2)):
        save_model(workflow.folder / "models" / name, seed)
    (workflow.folder / "models" / "two").rename(workflow.folder / "org--two")
    write_inputs(workflow.folder)
    (workflow.folder / "variants.tsv").write_text(
        "name\tvcf\tgenome\tmodel\ttruth\tlabel\tpositive\tnegative\tgff\ttable\n"
        "labelled\tlabels.vcf\tsars_cov_2\tmodels/one\t\tSIG\tPathogenic\tBenign\tgenes.gff3\t\n"
        "labelled\tlabels.vcf\tsars_cov_2\torg--two\t\tSIG\tPathogenic\tBenign\tgenes.gff3\t\n"
        "measured\tlabels.vcf\tsars_cov_2\tmodels/one/\tgrowth\t\t\t\t\tgrowth.tsv\n"
    )
    workflow.config["score"] = SCORING | {"pieces": 2, "exports": ["traitgym", "cadd"]}
    workflow.write_config()
    exports = "results/traitgym/labelled/features/one.parquet", "results/cadd/labelled/org--two.tsv.gz"
    workflow.run("results/figures/score_sets/score_sets.json", *exports)
    return workflow


def carry_hash_of(vcf: Path, monkeypatch) -> None:
    """Let the verbs write the hash of settings that the workflow let them write."""
    with pysam.VariantFile(str(vcf)) as scored:
        (carried,) = (record.value for record in scored.header.records if record.key == "genotok_provenance")
    monkeypatch.setenv("GENOTOK_PROVENANCE", carried)


@pytest.mark.parametrize("number", [1, 3, 7])
def test_the_bytes_do_not_depend_on_the_pieces(scored, tmp_path, number, monkeypatch):
    """The verbs, by hand, with other numbers of pieces than the workflow's two."""
    folder = scored.folder
    carry_hash_of(folder / "results" / "scores" / "labelled.one.vcf.gz", monkeypatch)
    pieces = [tmp_path / f"{i}.vcf.gz" for i in range(number)]
    sizes = split_vcf(folder / "labels.vcf", pieces)
    assert sum(sizes) == 28
    for piece in pieces:
        score_vcf(
            str(piece), folder / "results" / "genomes" / "sars_cov_2.fa.gz", folder / "models" / "one",
            f"{piece}.scored.vcf", parquet=Path(f"{piece}.parquet"), threads=1, device="cpu",
            command=str(piece), **SCORING,
        )  # fmt: skip
    gather_vcfs([f"{piece}.scored.vcf" for piece in pieces], tmp_path / "all.vcf.gz")
    gather_tables([Path(f"{piece}.parquet") for piece in pieces], tmp_path / "all.parquet")
    for end in ("vcf.gz", "vcf.gz.tbi", "parquet"):
        expected = (folder / "results" / "scores" / f"labelled.one.{end}").read_bytes()
        assert (tmp_path / f"all.{end}").read_bytes() == expected


def test_every_set_has_its_own_scores(scored):
    scores = {
        name: pq.read_table(scored.folder / "results" / "scores" / f"{name}.parquet")["llr"].to_pylist()
        for name in SETS
    }
    assert scores["labelled.one"] == scores["measured.one"] != scores["labelled.org--two"]
    assert not (scored.folder / "results" / "model").exists()


def test_exports_hold_the_scores(scored):
    results = scored.folder / "results"
    one, two = (
        pq.read_table(results / "scores" / f"labelled.{model}.parquet")["llr"].to_pylist()
        for model in ("one", "org--two")
    )
    exported = pq.read_table(results / "traitgym" / "labelled" / "features" / "one.parquet")
    assert exported["score"].to_pylist() == pytest.approx([-value for value in one])
    with pysam.TabixFile(str(results / "cadd" / "labelled" / "org--two.tsv.gz")) as table:
        found = [float(line.split("\t")[-1]) for line in table.fetch(CONTIG, 299, 300)]
    assert found == pytest.approx([-value for value in two[2:4]], rel=1e-5)


def test_all_exports_are_planned(scored):
    """The rule `scores` makes those of every set that the configuration asks for."""
    plan = scored.run("scores", "--dry-run").stdout
    for name, model in (("labelled", "org--two"), ("measured", "one")):
        assert f"results/traitgym/{name}/features/{model}.parquet" in plan
    assert "results/cadd/measured/one.tsv.gz" in plan


def test_agreement_with_the_truth_stands_beside_each_other(scored):
    figures = scored.folder / "results" / "figures"
    labels = json.loads((figures / "variants" / "labelled.one" / "variant_effect.json").read_text())["labels"]
    assert (labels["n"], labels["n_missing"], labels["positives"]) == (48, 8, 20)
    assert set(labels["per_consequence"]) <= {"intergenic", "synonymous", "missense", "nonsense"}
    assert labels["predictors"]["low_gc"]["n"] == 48
    measured = json.loads((figures / "variants" / "measured.one" / "variant_effect.json").read_text())
    assert measured["statistics"]["n"] == 56
    rows = json.loads((figures / "score_sets" / "score_sets.json").read_text())["rows"]
    own = {(row["set"], row["measure"]) for row in rows if row["predictor"] == "model"}
    assert own == {("measured.one", "spearman"), *((name, "auroc") for name in SETS[:2])}


def write_phased(folder: Path) -> None:
    """300 records, so that a piece ends between two that lie in each other's windows."""
    with Reference(folder / "sars_cov_2.fa") as reference:
        letters = reference.fetch(CONTIG)
    sample = '##FORMAT=<ID=GT,Number=1,Type=String,Description="x">\n'
    lines = [f"##fileformat=VCFv4.3\n{sample}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tme\n"]
    for number in range(300):
        pos = 100 + 7 * number
        ref, genotype = letters[pos - 1], ("0|1", "1|1", "1|0", "0/1")[number % 4]
        alt = "ACGT".replace(ref, "")[number % 3]
        lines.append(f"{CONTIG}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t{genotype}\n")
    (folder / "phased.vcf").write_text("".join(lines))


def test_fields_and_haplotypes_are_settings(tmp_path, monkeypatch):
    """Of the section `score`; pieces know their neighbours, so that the bytes are those of one run of the verb."""
    workflow = Workflow(tmp_path / "work")
    folder = workflow.folder
    save_model(folder / "models" / "one", 1)
    write_phased(folder)
    rows = "name\tvcf\tgenome\tmodel\nphased\tphased.vcf\tsars_cov_2\tmodels/one\n"
    (folder / "variants.tsv").write_text(rows)
    further = {"fields": ["boundaries"], "haplotypes": "me", "horizon": 8, "share_prefixes": False}
    workflow.config["score"] = SCORING | further | {"pieces": 2, "unphased": "skip", "batch_size": 32}
    workflow.write_config()
    workflow.run("results/scores/phased.one.vcf.gz")
    carry_hash_of(folder / "results" / "scores" / "phased.one.vcf.gz", monkeypatch)
    score_vcf(
        str(folder / "phased.vcf"), folder / "results" / "genomes" / "sars_cov_2.fa.gz", folder / "models" / "one",
        str(tmp_path / "whole.vcf.gz"), parquet=tmp_path / "whole.parquet", threads=1, device="cpu", batch_size=32,
        **SCORING, **further,
    )  # fmt: skip
    for end in ("vcf.gz", "vcf.gz.tbi", "parquet"):
        found = (folder / "results" / "scores" / f"phased.one.{end}").read_bytes()
        assert found == (tmp_path / f"whole.{end}").read_bytes()
    table = pq.read_table(tmp_path / "whole.parquet")
    assert table.column_names[-4:] == ["boundary_shift", "llr_h1", "llr_h2", "haplotype_status"]
    assert set(table["haplotype_status"].to_pylist()) == {"ok", "unphased", "unphased_neighbour"}
    plan = workflow.rules_to_run_with("score", "haplotypes", "you")
    assert {"split_variants", "score_variants", "gather_scores"} & plan


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("fields", ["gravity"], "'gravity' is not one of ['embedding', 'boundaries']"),
        ("masked", "x", "'x' is not one of ['marginal', 'pseudo']"),
        ("horizon", -1, "-1 is less than the minimum of 0"),
    ],
)
def test_a_wrong_setting_of_scores_is_named(tmp_path, key, value, complaint):
    workflow = Workflow(tmp_path / "work")
    workflow.config["score"] |= {key: value}
    workflow.write_config()
    done = workflow.run("--dry-run", check=False)
    assert done.returncode
    assert complaint in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("column", "cell", "complaint"),
    [
        ("genome", "", "row 2: 'genome' is a required property"),
        ("name", "a/b", "row 2: column 'name': 'a/b' does not match"),
        ("nonsense", "x", "'nonsense' is no column of this table"),
        ("name", "fitness", "row 2: 'fitness' stands in the column 'name' twice"),
        ("label", "L", "row 2: columns 'truth' and 'label': give one of the two"),
    ],
)
def test_a_wrong_row_and_key_are_named(tmp_path, column, cell, complaint):
    workflow = Workflow(tmp_path / "work")
    row = {"name": "second", "vcf": "variants.vcf", "genome": "sars_cov_2", "truth": "FITNESS"} | {
        column: cell
    }
    first = {"name": "fitness", "vcf": "variants.vcf", "genome": "sars_cov_2"}
    lines = ["\t".join(row), "\t".join(first.get(key, "") for key in row), "\t".join(row.values())]
    (workflow.folder / "variants.tsv").write_text("\n".join(lines) + "\n")
    done = workflow.run("--dry-run", check=False)
    assert done.returncode
    assert f"variants.tsv: {complaint}" in done.stdout + done.stderr

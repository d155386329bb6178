"""Every variant of one base, drawn: the numbers of the table, the marks in the SVG, and the groups."""

import json
import random
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from genotok.cli import app
from genotok.errors import InputError
from genotok.genomes.fasta import write_fasta
from genotok.report.page import write_page
from genotok.report.saturation import report_saturation

# Codons from base 3 on: ATG AAA TAT TAA, then letters of no gene.
LETTERS = "CCATGAAATATTAACCGT"
GENE = "c\t.\tCDS\t3\t14\t.\t+\t0\tID=a;gene=tiny\n"
HEADER = """##fileformat=VCFv4.3
##contig=<ID=c,length=18>
##INFO=<ID=GENOTOK_LLR,Number=A,Type=Float,Description="Score">
##genotok_window=32
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A genome, its gene, and scores of all substitutions, drawn by chance; base 16 has none."""
    folder, draw = tmp_path_factory.mktemp("saturation"), random.Random(5)
    write_fasta([("c", [LETTERS.encode()])], folder / "c.fa")
    (folder / "genes.gff3").write_text(GENE)
    scores, lines = {}, []
    for position, ref in enumerate(LETTERS, 1):
        if position == 16:
            continue
        alts = [letter for letter in "ACGT" if letter != ref]
        values = [round(draw.gauss(-0.3, 1), 4) for _ in alts]
        scores |= {(position, alt): value for alt, value in zip(alts, values, strict=True)}
        score = ",".join(map(str, values))
        lines.append(f"c\t{position}\t.\t{ref}\t{','.join(alts)}\t.\t.\tGENOTOK_LLR={score}\n")
    lines.insert(3, "c\t3\t.\tAT\tA\t.\t.\tGENOTOK_LLR=0.75\n")
    (folder / "all.vcf").write_text(HEADER + "".join(lines))
    report_saturation(folder / "all.vcf", folder / "out", gff=folder / "genes.gff3", fasta=folder / "c.fa")
    return folder, scores


def test_scores_and_consequences_of_the_table(files):
    """Consequences against those spelled by hand."""
    folder, scores = files
    table = pd.read_csv(folder / "out" / "saturation.tsv", sep="\t", keep_default_na=False)
    assert table["position"].tolist() == [position for position in range(1, 19) if position != 16]
    rows = table.set_index("position")
    for (position, alt), score in scores.items():
        assert float(rows.loc[position, f"score_{alt}"]) == pytest.approx(score, rel=1e-5)
    assert rows.loc[4, "score_deletion"] == "0.75"
    assert (rows["score_deletion"] != "").sum() == 1
    assert "".join(rows["codon_position"]) == "123" * 4
    assert {letter: rows.loc[11, f"consequence_{letter}"] for letter in "ACGT"} == {
        "A": "nonsense",
        "C": "synonymous",
        "G": "nonsense",
        "T": "",
    }
    assert rows.loc[8, "consequence_G"] == "synonymous"
    assert rows.loc[8, "consequence_T"] == "missense"
    assert rows.loc[3, "consequence_C"] == "start_lost"
    assert rows.loc[13, "consequence_G"] == "synonymous"
    assert rows.loc[13, "consequence_C"] == "stop_lost"
    assert rows.loc[1, "consequence_A"] == "intergenic"


def test_marks_and_labels_of_the_figure(files):
    """As many marks as the table has variants of the kind, and the gene with its place."""
    folder, _ = files
    svg = (folder / "out" / "saturation.svg").read_text()
    table = pd.read_csv(folder / "out" / "saturation.tsv", sep="\t", keep_default_na=False)
    assert "<!-- tiny ▶ 3-14 -->" in svg
    assert len(re.findall("<!-- [MKY*] -->", svg)) == 4
    for kind in ("synonymous", "nonsense"):
        drawn = 0
        for letter in "ACGT":
            group = re.search(rf'<g id="{kind}-{letter}-1">.*?</g>\s*</g>', svg, re.DOTALL)
            drawn += group[0].count("<use ") if group else 0
        assert drawn == sum((table[f"consequence_{letter}"] == kind).sum() for letter in "ACGT") > 0


def test_groups(files):
    """Against means and quantiles of the drawn scores."""
    folder, scores = files
    groups = pd.read_csv(folder / "out" / "saturation_groups.tsv", sep="\t", dtype={"group": str})
    rows = groups.set_index(["by", "group"])
    third = [score for (position, _), score in scores.items() if position in (5, 8, 11, 14)]
    assert rows.loc[("codon_position", "3"), "n"] == len(third) == 12
    assert rows.loc[("codon_position", "3"), "mean"] == pytest.approx(np.mean(third), rel=1e-5)
    assert rows.loc[("codon_position", "3"), "q25"] == pytest.approx(np.quantile(third, 0.25), rel=1e-5)
    assert rows.loc[("change", "deletion"), "median"] == 0.75
    assert rows.loc[("change", "transition"), "n"] == 17
    assert rows.loc[("change", "transversion"), "n"] == 34
    assert groups.loc[groups["by"] == "consequence", "n"].sum() == 51


def test_same_bytes_page_and_summary(files, tmp_path):
    folder, _ = files
    report_saturation(folder / "all.vcf", tmp_path / "out", gff=folder / "genes.gff3", fasta=folder / "c.fa")
    names = [f"saturation{ending}" for ending in (".svg", ".tsv", ".json", "_groups.svg", "_groups.tsv")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (folder / "out" / name).read_bytes()
    assert json.loads((folder / "out" / "saturation.json").read_text())["regions"] == ["c:1-18"]
    write_page([tmp_path / "out"], tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert "Every variant of one base: out" in page
    assert "c:1-18" in page


def test_a_real_scoring_without_annotation(results, tmp_path):
    """Two regions of a real model, by the verbs: each has its lines, and no mark is drawn."""
    words = ["score", "--region", "valid1:1-70", "--region", "test2:11-20", "-r", results.fasta]
    words += ["-m", results.run, "-o", tmp_path / "all.vcf.gz", "--window", 32, "--device", "cpu"]
    for command in (
        [*words, "--threads", 1, "--strands", "forward"],
        ["report", "saturation", tmp_path / "all.vcf.gz", "-o", tmp_path / "out"],
    ):
        done = CliRunner().invoke(app, [str(word) for word in command])
        assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "out" / "saturation.tsv", sep="\t")
    assert table.groupby("contig").size().to_dict() == {"valid1": 70, "test2": 10}
    assert table[[f"score_{letter}" for letter in "ACGT"]].notna().sum().sum() == 3 * 80
    summary = json.loads((tmp_path / "out" / "saturation.json").read_text())
    assert sorted(summary["regions"]) == ["test2:11-20", "valid1:1-70"]
    assert {group["by"] for group in summary["groups"]} == {"change"}
    assert "synonymous" not in (tmp_path / "out" / "saturation.svg").read_text()


def test_bad_input(files, tmp_path):
    folder, _ = files
    (tmp_path / "none.vcf").write_text(HEADER)
    with pytest.raises(InputError, match="holds no single-nucleotide variant"):
        report_saturation(tmp_path / "none.vcf", tmp_path / "out")
    with pytest.raises(InputError, match="give --reference"):
        report_saturation(folder / "all.vcf", tmp_path / "out", gff=folder / "genes.gff3")
    line = "c\t{}\t.\tA\tC,G,T\t.\t.\tGENOTOK_LLR=1,2,3\n"
    (tmp_path / "long.vcf").write_text(HEADER + "".join(line.format(n) for n in range(1, 1002)))
    with pytest.raises(InputError, match="has 1,001 bases, and a picture shows at most 1,000"):
        report_saturation(tmp_path / "long.vcf", tmp_path / "out")
    assert not (tmp_path / "out").exists()

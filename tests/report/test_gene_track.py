"""Genes under a picture: rows, labels, codons, and what the table says of each base."""

import random

import pandas as pd
import pytest
from matplotlib.figure import Figure

from genotok.errors import InputError
from genotok.evaluation.consequences import GENETIC_CODES
from genotok.genomes.fasta import Reference, write_fasta
from genotok.genomes.regions import Region
from genotok.report.chunks import report_chunks
from genotok.report.gene_track import (
    MOST_ROWS,
    base_annotation,
    draw_genes,
    genes_of_region,
    read_genes,
    rows_of,
)

LETTER = 0.5
GENES = """##gff-version 3
c\t.\tgene\t11\t60\t.\t+\t.\tID=g1;Name=alpha
c\t.\tmRNA\t11\t60\t.\t+\t.\tID=t1;Parent=g1;Name=alpha-201
c\t.\texon\t11\t25\t.\t+\t.\tParent=t1;Name=exon1
c\t.\texon\t41\t60\t.\t+\t.\tParent=t1
c\t.\tCDS\t16\t25\t.\t+\t0\tParent=t1;ID=p1
c\t.\tCDS\t41\t51\t.\t+\t2\tParent=t1;ID=p1
c\t.\tCDS\t46\t57\t.\t-\t0\tID=p2;gene=beta%3B
c\t.\tCDS\t201\t212\t.\t+\t0\tID=p3
"""


@pytest.fixture
def genome(tmp_path):
    draw = random.Random(3)
    letters = bytearray(draw.choices(b"ACGT", k=240))
    letters[15:25], letters[40:45] = b"ATGAAATTCA", b"AATTC"  # ATG AAA TTC A|AA TTC, then TTA CAT
    letters[45:57] = b"TTACATTTCCAT"  # read backwards: ATG GAA ATG TAA
    write_fasta([("c", [bytes(letters)])], tmp_path / "c.fa")
    (tmp_path / "genes.gff3").write_text(GENES)
    return Reference(tmp_path / "c.fa"), tmp_path / "genes.gff3"


def test_names_places_and_rows(genome):
    reference, gff = genome
    genes = read_genes(gff, reference, Region("c", 0, 100), LETTER)
    assert [(gene.label, gene.row) for gene in genes] == [("alpha ▶ 11-60", 0), ("◀ beta; 46-57", 1)]
    assert genes[0].exons == ((10, 25), (40, 60))
    assert genes[0].coding == ((15, 25), (40, 51))
    far = read_genes(gff, reference, Region("c", 0, 240), LETTER)
    assert [(gene.name, gene.row) for gene in far] == [("alpha", 0), ("beta;", 1), ("p3", 0)]


def test_labels_keep_rows_apart(genome):
    """Where letters are wide, the third gene's box would be free, but its label is not."""
    reference, gff = genome
    wide = read_genes(gff, reference, Region("c", 0, 240), 16)
    assert [gene.row for gene in wide] == [0, 1, 2]


def test_codons_on_both_strands_and_over_an_intron(genome):
    """Against codons spelled by hand."""
    reference, gff = genome
    table = base_annotation(read_genes(gff, reference, Region("c", 10, 60), LETTER), Region("c", 10, 60))
    letters = reference.fetch("c")
    base = {10 + row: values for row, values in enumerate(table.to_dict("records"))}
    assert base[10] == {
        "gene": "alpha",
        "strand": "+",
        "gene_part": "exon",
        "codon_position": "",
        "amino_acid": "",
    }
    assert "".join(base[position]["codon_position"] for position in range(15, 25)) == "1231231231"
    assert [base[position]["amino_acid"] for position in (15, 18, 21, 24)] == ["M", "K", "F", "K"]
    assert letters[24] + letters[40:42] == "AAA"
    assert base[30]["gene_part"] == "intron"
    assert [base[position]["codon_position"] for position in (40, 41, 42)] == ["2", "3", "1"]
    # Bases 45 to 50 are of both genes; behind base 50 alpha is not coding any more.
    assert base[45]["codon_position"] == "1,3"
    assert base[45]["strand"] == "+,-"
    assert base[45]["amino_acid"].split(",")[1] == "*"
    assert [base[position]["amino_acid"].split(",")[1] for position in (56, 53, 50, 47)] == list("MEM*")
    assert base[55]["gene_part"] == "exon,cds"


def test_transcripts_that_look_alike_are_one(genome):
    reference, gff = genome
    same = GENES.replace("ID=t1", "ID=t2").replace("Parent=t1", "Parent=t2").replace("##gff-version 3\n", "")
    gff.write_text(GENES + same)
    assert len(read_genes(gff, reference, Region("c", 0, 100), LETTER)) == 2


def test_what_is_drawn(genome):
    """A label stands on the line where it fits, and rows beyond the sixth are counted."""
    reference, gff = genome
    lines = [(0, 50), (50, 100)]
    genes = read_genes(gff, reference, Region("c", 0, 100), LETTER)
    drawn = []
    for line in range(2):
        axes = Figure().add_subplot()
        draw_genes(axes, genes, lines, line, LETTER)
        drawn.append([text.get_text() for text in axes.texts])
    assert "alpha ▶ 11-60" in drawn[0]
    assert "alpha ▶ 11-60" in drawn[1]
    assert "◀ beta; 46-57" not in drawn[0]
    assert drawn[1].count("◀ beta; 46-57") == 1
    assert sorted(text for text in drawn[0] if len(text) == 1) == sorted("MKFKFLH" + "M*")
    many = "".join(f"c\t.\tCDS\t11\t40\t.\t+\t0\tID=x{number}\n" for number in range(9))
    gff.write_text("##gff-version 3\n" + many)
    genes = read_genes(gff, reference, Region("c", 0, 50), LETTER)
    axes = Figure().add_subplot()
    draw_genes(axes, genes, [(0, 50)], 0, LETTER)
    assert rows_of(genes) == MOST_ROWS
    assert axes.texts[-1].get_text() == "and 3 more"


def test_without_genes(genome):
    reference, _ = genome
    assert genes_of_region([], Region("c", 0, 9), LETTER, reference) == []
    assert rows_of([]) == 0
    assert (base_annotation([], Region("c", 0, 9)) == "").all(axis=None)


def test_report_with_genes(results, tmp_path):
    """The verb's files: labels in the SVG, 1-based and closed, and columns in the table."""
    gff = tmp_path / "genes.gff3"
    gff.write_text("c&1$x$\t.\tCDS\t111\t140\t.\t-\t0\tID=a;gene=first\n")
    for name in ("one", "two"):
        report_chunks(
            results.run, results.fasta, "c&1$x$:101-160", tmp_path / name, gff=gff, window=64, device="cpu"
        )
    svg = (tmp_path / "one" / "chunks.svg").read_bytes()
    assert svg == (tmp_path / "two" / "chunks.svg").read_bytes()
    assert "<!-- ◀ first 111-140 -->" in svg.decode()
    table = pd.read_csv(tmp_path / "one" / "chunks.tsv", sep="\t", keep_default_na=False)
    inside = table["position"].between(111, 140)
    assert (table["gene"] == "first").tolist() == inside.tolist()
    assert table.loc[inside, "codon_position"].astype(int).tolist() == [3, 2, 1] * 10
    with Reference(results.fasta) as reference:
        word = reference.fetch("c&1$x$", 137, 140)[::-1].translate(str.maketrans("ACGT", "TGCA"))
    assert table.loc[39, "amino_acid"] == GENETIC_CODES[1][word]


def test_an_annotation_of_another_genome(results, tmp_path):
    gff = tmp_path / "genes.gff3"
    gff.write_text("elsewhere\t.\tCDS\t1\t30\t.\t-\t0\tID=a\n")
    with pytest.raises(InputError, match="is it of another assembly"):
        report_chunks(results.run, results.fasta, "valid1:1-60", tmp_path / "out", gff=gff, device="cpu")
    assert not (tmp_path / "out").exists()

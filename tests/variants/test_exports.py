"""Scores in the layouts of TraitGym and CADD."""

import pandas as pd
import pyarrow.parquet as pq
import pysam
import pytest

from genotok.errors import InputError
from genotok.variants.exports import export_cadd, export_traitgym

HEADER = """##fileformat=VCFv4.3
##contig=<ID=10>
##contig=<ID=2>
##genotok_version=1
##genotok_window=64
##genotok_model_sha256=abc
##INFO=<ID=GENOTOK_LLR,Number=A,Type=Float,Description="x">
##INFO=<ID=OTHER_GENOTOK_LLR,Number=A,Type=Float,Description="x">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""
# Unsorted, with an allele in two records, alleles and records without a score, a zero, and an indel.
RECORDS = [
    ("10", 9, "A", "G,C", "GENOTOK_LLR=-1.5,0"),
    ("2", 4, "T", "A", "X;GENOTOK_LLR=2.25e-05"),
    ("10", 3, "AT", "A,<DEL>", "OTHER_GENOTOK_LLR=7,7;GENOTOK_LLR=0.25,."),
    ("10", 9, "A", "G", "GENOTOK_LLR=-1.5"),
    ("10", 5, "A", ".", "."),
    ("10", 6, "A", "*", "GENOTOK_LLR=."),
]
EXPECTED = [
    ("10", 3, "AT", "A", -0.25),
    ("10", 9, "A", "C", 0.0),
    ("10", 9, "A", "G", 1.5),
    ("2", 4, "T", "A", -2.25e-05),
]


@pytest.fixture
def scored(tmp_path):
    path = tmp_path / "scored.vcf"
    lines = [f"{c}\t{p}\t.\t{ref}\t{alt}\t.\t.\t{info}\n" for c, p, ref, alt, info in RECORDS]
    path.write_text(HEADER + "".join(lines))
    return path


def test_traitgym(scored, tmp_path):
    assert export_traitgym(scored, tmp_path / "features" / "m.parquet") == 4
    table = pq.read_table(tmp_path / "features" / "m.parquet")
    assert table.column_names == ["chrom", "pos", "ref", "alt", "score", "minus_llr", "abs_llr"]
    expected = [(*row, row[-1], abs(row[-1])) for row in EXPECTED]
    assert [tuple(row.values()) for row in table.to_pylist()] == expected


def test_cadd_is_found_by_position(scored, tmp_path):
    output = tmp_path / "scores.tsv.gz"
    assert export_cadd(scored, output) == 4
    with pysam.TabixFile(str(output), parser=pysam.asTuple()) as table:
        assert table.header[-1] == "#Chrom\tPos\tRef\tAlt\tRawScore"
        assert "model_sha256=abc" in table.header[0]
        assert table.contigs == ["10", "2"]
        assert [tuple(row) for row in table.fetch("10", 8, 9)] == [
            ("10", "9", "A", "C", "0"),
            ("10", "9", "A", "G", "1.5"),
        ]
        assert [row[1] for row in table.fetch("10", 0, 8)] == ["3"]
        assert [tuple(row) for row in table.fetch("2")] == [("2", "4", "T", "A", "-2.25e-05")]
    with pysam.BGZFile(str(output)) as text:
        assert len(text.read().splitlines()) == 2 + 4
    first = output.read_bytes()
    export_cadd(scored, output)
    assert output.read_bytes() == first


def test_positions_that_tabix_cannot_hold(scored, tmp_path):
    scored.write_text(scored.read_text().replace("2\t4\t", "2\t600000000\t"))
    output = tmp_path / "scores.tsv.gz"
    (tmp_path / "scores.tsv.gz.tbi").write_text("old")
    export_cadd(scored, output)
    assert not (tmp_path / "scores.tsv.gz.tbi").exists()
    with pysam.TabixFile(str(output), index=f"{output}.csi") as table:
        assert list(table.fetch("2", 599_999_999, 600_000_000)) == ["2\t600000000\tT\tA\t-2.25e-05"]


def test_nothing_scored(scored, tmp_path):
    scored.write_text(HEADER)
    assert export_cadd(scored, tmp_path / "scores.tsv.gz") == 0
    assert export_traitgym(scored, tmp_path / "m.parquet") == 0
    with pysam.TabixFile(str(tmp_path / "scores.tsv.gz")) as table:
        assert list(table.fetch()) == []
    assert list(pd.read_parquet(tmp_path / "m.parquet")["score"]) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEADER.replace("ID=GENOTOK_LLR", "ID=SCORE"), "its header has no GENOTOK_LLR"),
        (HEADER + "2\t4\t.\tT\tA,C\t.\t.\tGENOTOK_LLR=1\n", "2:4: GENOTOK_LLR holds 1 values for 2 ALT"),
        (HEADER + "2\t4\t.\tT\tA\t.\t.\tGENOTOK_LLR=x\n", "2:4: GENOTOK_LLR holds what is no number"),
    ],
)
def test_what_was_not_scored(scored, tmp_path, text, sentence):
    scored.write_text(text)
    for export, output in ((export_cadd, "x.tsv.gz"), (export_traitgym, "x.parquet")):
        with pytest.raises(InputError, match=sentence):
            export(scored, tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == ["scored.vcf"]


def test_the_table_is_compressed(scored, tmp_path):
    with pytest.raises(InputError, match=r"must end in \.gz"):
        export_cadd(scored, tmp_path / "scores.tsv")


@pytest.mark.parametrize("export", [export_cadd, export_traitgym])
def test_the_scored_vcf_is_not_written_over(scored, export):
    path = scored.rename(scored.with_name("scored.vcf.gz"))
    with pytest.raises(InputError, match="is named twice among input and outputs"):
        export(path, path)
    assert path.read_text().startswith(HEADER)

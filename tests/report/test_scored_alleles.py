"""Scores and INFO fields, joined allele by allele."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pysam
import pytest

from genotok.errors import InputError
from genotok.report.scored_alleles import about_scoring, read_alleles, read_scores
from genotok.variants.fields import DEFAULT_FIELDS
from genotok.variants.table import schema_of

SCHEMA = schema_of(DEFAULT_FIELDS)
HEADER = """##fileformat=VCFv4.3
##contig=<ID=c>
##contig=<ID=d>
##genotok_window=64
##other_window=3
##INFO=<ID=F,Number=A,Type=Float,Description="x">
##INFO=<ID=I,Number=A,Type=Integer,Description="x">
##INFO=<ID=C,Number=A,Type=String,Description="x">
##INFO=<ID=ONE,Number=1,Type=Float,Description="x">
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts
"""
RECORDS = [  # contig, position, REF, ALT, INFO
    ("c", 5, "A", "C,G", "F=1.5,.;I=3,4;C=missense,."),
    ("c", 5, "A", "C", "F=-2"),
    ("c", 6, "AT", "A,<DEL>,*", "F=1,2,3;C=a,b,c"),
    ("c", 7, "T", ".", "."),
    ("d", 5, "A", "C", "ONE=1;F=8"),
]
ROWS = [
    ("c", 5, "A", "C", 0.5, 0.25, 0.75, "ok"),
    ("c", 5, "A", "G", -1.0, -1.0, None, "ok"),
    ("c", 5, "A", "C", 0.5, 0.25, 0.75, "ok"),
    ("c", 6, "AT", "A", 2.0, 2.0, 2.0, "ok"),
    ("c", 6, "AT", "<DEL>", None, None, None, "symbolic"),
    ("c", 6, "AT", "*", None, None, None, "symbolic"),
    ("c", 7, "T", ".", None, None, None, "missing"),
    ("d", 5, "A", "C", 4.0, 4.0, 4.0, "ok"),
]


@pytest.fixture
def vcf(tmp_path):
    path = tmp_path / "x.vcf"
    lines = [f"{c}\t{p}\t.\t{ref}\t{alt}\t.\t.\t{info}\tGT\t0/1\n" for c, p, ref, alt, info in RECORDS]
    path.write_text(HEADER + "".join(lines))
    return path


def write_parquet(path, rows, schema=SCHEMA):
    columns = [
        pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), path)
    return path


@pytest.fixture
def parquet(tmp_path):
    return write_parquet(tmp_path / "x.parquet", ROWS)


def as_values(column):
    return [None if value != value else value for value in column]


def test_each_allele_gets_its_own_values(parquet, vcf):
    """The second record of c:5 A>C has another value than the first, and keeps it."""
    table = read_alleles(parquet, vcf, "F", "C")
    assert as_values(table["truth"]) == [1.5, None, -2, 1, 2, 3, None, 8]
    assert as_values(table["consequence"]) == ["missense", None, None, "a", "b", "c", None, None]
    assert as_values(table["llr"]) == [0.5, -1, 0.5, 2, None, None, None, 4]
    assert list(table["alt"]) == [row[3] for row in ROWS]


def test_the_order_of_the_table_does_not_matter(parquet, vcf, tmp_path):
    backwards = write_parquet(tmp_path / "b.parquet", ROWS[3:] + ROWS[:3])
    assert as_values(read_alleles(backwards, vcf, "F", None)["truth"]) == [1, 2, 3, None, 8, 1.5, None, -2]


def test_bgzf_and_whole_numbers(parquet, vcf):
    packed = pysam.tabix_index(str(vcf), preset="vcf", keep_original=True, force=True)
    table = read_alleles(parquet, packed, "I", None)
    assert as_values(table["truth"]) == [3, 4, None, None, None, None, None, None]
    assert "consequence" not in table


def test_without_fields_the_vcf_is_not_read(parquet, tmp_path):
    table = read_alleles(parquet, tmp_path / "absent.vcf", None, "")
    assert list(table["status"]) == [row[7] for row in ROWS]


def test_header_lines(vcf):
    assert about_scoring(vcf) == {"window": "64"}


def test_real_files(results):
    table = read_alleles(results.parquet, results.vcf, "FITNESS", "CLASS")
    assert len(table) == 82
    assert table["truth"].notna().sum() == 73
    assert table["consequence"].notna().sum() == 81
    about = about_scoring(results.vcf)
    assert about["window"] == "32"
    assert len(about["model_sha256"]) == 64


def test_tables_of_other_scorings(vcf, tmp_path):
    other = write_parquet(tmp_path / "o.parquet", [*ROWS, ("d", 9, "G", "T", 1.0, 1.0, 1.0, "ok")])
    with pytest.raises(
        InputError, match=r"o\.parquet: d:9 G>T is not in .*x\.vcf; give the two files of one"
    ):
        read_alleles(other, vcf, "F", None)


def test_tables_that_are_none(tmp_path, vcf):
    (tmp_path / "text.parquet").write_text("chrom\tpos\n")
    with pytest.raises(InputError, match=r"text\.parquet: cannot be read as Parquet"):
        read_scores(tmp_path / "text.parquet")
    with pytest.raises(InputError, match=r"absent\.parquet: cannot be read as Parquet"):
        read_scores(tmp_path / "absent.parquet")
    short = write_parquet(tmp_path / "short.parquet", [row[:7] for row in ROWS], pa.schema(list(SCHEMA)[:7]))
    with pytest.raises(InputError, match=r"short\.parquet: has no column 'status'"):
        read_scores(short)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (("X", None), "its header has no INFO field X; it has C, F, I, ONE"),
        (("F", "X"), "its header has no INFO field X"),
        (("ONE", None), "INFO field ONE has Number=1; a value for each ALT (A) is needed"),
        (("C", None), "INFO field C holds text (Type=String); numbers are needed"),
    ],
)
def test_bad_fields(parquet, vcf, fields, sentence):
    with pytest.raises(InputError) as caught:
        read_alleles(parquet, vcf, *fields)
    assert sentence in str(caught.value)


def test_bad_vcfs(parquet, tmp_path, vcf):
    with pytest.raises(InputError, match=r"absent\.vcf: cannot be read as VCF"):
        read_alleles(parquet, tmp_path / "absent.vcf", "F", None)
    (tmp_path / "text.vcf").write_text("no header\n")
    with pytest.raises(InputError, match=r"text\.vcf: cannot be read as VCF"):
        read_alleles(parquet, tmp_path / "text.vcf", "F", None)
    packed = pysam.tabix_index(str(vcf), preset="vcf", keep_original=True, force=True)
    (tmp_path / "cut.vcf.gz").write_bytes(Path(packed).read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cut\.vcf\.gz: "):
        read_alleles(parquet, tmp_path / "cut.vcf.gz", "F", None)


def test_fields_of_another_length(parquet, vcf):
    """A single dot stands for all alleles; two values for three alleles are an error."""
    text = vcf.read_text()
    vcf.write_text(text.replace("F=1,2,3", "F=.").replace("C=a,b,c", "C=."))
    assert as_values(read_alleles(parquet, vcf, "F", "C")["truth"]) == [1.5, None, -2, *[None] * 4, 8]
    vcf.write_text(text.replace("F=1,2,3", "F=1,2"))
    with pytest.raises(InputError, match=r"x\.vcf: c:6: F holds 2 values for 3 ALT alleles"):
        read_alleles(parquet, vcf, "F", "C")

"""Input that cannot be scored: one sentence, and nothing left behind."""

import gzip
import sys

import pytest
from pysam import BGZFile, bcftools
from variant_files import HEADER, write_fasta, write_vcf

from genotok.errors import InputError
from genotok.variants.score import score_vcf

LINE = "c\t5\t.\tA\tC\t.\t.\t.\n"
EMPTY = HEADER.format(meta="")


@pytest.fixture
def attempt(tmp_path, model_folder):
    """Scores a file; returns the complaint."""
    folder = tmp_path / "work"
    folder.mkdir()
    fasta = write_fasta(folder / "genome.fa", {"c": "ACGTACGTAC" * 5})

    def run(vcf, output=None, **options):
        output = output or folder / "out.vcf.gz"
        with pytest.raises(InputError) as caught:
            score_vcf(str(vcf), fasta, model_folder, str(output), **{"window": 16, "threads": 1} | options)
        assert {path.name for path in folder.iterdir()} <= {"genome.fa", "genome.fa.fai"}
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; give a VCF"),
        (b">chr1\nACGT\n", r"begins with '>chr1\nACGT\n' and not with ##fileformat=VCF, so it is no VCF"),
        (gzip.compress(b">chr1\nACGT\n"), "is compressed and holds no VCF"),
        (b"\x1f\x8b nothing", "is compressed and holds no VCF"),
        (b"##fileformat=VCFv4.2\n", "ends inside its header"),
        (b"##fileformat=VCFv4.2\n" + LINE.encode(), "line 2: is no header line, and #CHROM has not come yet"),
        (b"##fileformat=VCFv4.2\n#CHROM\tPOS\n", "line 2: #CHROM is to be followed by 7 more columns"),
        (
            (EMPTY + LINE + LINE[:9]).encode(),
            "line 4: has 5 columns, and the header has 8; is the file truncated?",
        ),
        ((EMPTY + LINE.replace("\t.\n", "\t.\tGT\n")).encode(), "line 3: has 9 columns"),
        ((EMPTY + LINE.replace("\t5\t", "\t5.0\t")).encode(), "line 3: POS is '5.0', not a number"),
        ((EMPTY + LINE.replace("\t5\t", "\t-1\t")).encode(), "line 3: POS is '-1', not a number"),
        ((EMPTY + LINE.replace("\t5\t", "\t\t")).encode(), "line 3: POS is '', not a number"),
    ],
)
def test_what_is_no_vcf(tmp_path, attempt, content, sentence):
    path = tmp_path / "in.vcf"
    path.write_bytes(content)
    complaint = attempt(path)
    assert complaint.startswith(f"{path}: ")
    assert sentence in complaint


def test_absent_files(tmp_path, attempt):
    assert (
        attempt(tmp_path / "absent.vcf")
        == f"{tmp_path}/absent.vcf: cannot be read: No such file or directory"
    )
    assert attempt(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def long_text():
    return (EMPTY + "".join(f"c\t5\trs{i * 7919 % 10_007}\tA\tC\t.\t.\t.\n" for i in range(20_000))).encode()


def test_truncated_and_damaged_compression(tmp_path, attempt):
    path = tmp_path / "in.vcf.gz"
    with BGZFile(str(path), "wb") as handle:
        handle.write(long_text())
    whole = path.read_bytes()
    path.write_bytes(whole[:-28])
    assert "is truncated (the BGZF end marker is missing); get the file again" in attempt(path)
    path.write_bytes(whole[: len(whole) // 2] + whole[-28:])
    assert "is damaged" in attempt(path)
    compressed = gzip.compress(long_text())
    path.write_bytes(compressed[: len(compressed) // 2])
    assert "is truncated (the gzip stream breaks off)" in attempt(path)


def test_truncated_bcf(tmp_path, attempt, capfd):
    path = tmp_path / "in.bcf"
    text = tmp_path / "in.vcf"
    text.write_bytes(long_text().replace(b"#CHROM", b"##contig=<ID=c>\n#CHROM"))
    bcftools.view("-Ob", "-o", str(path), str(text), catch_stdout=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    capfd.readouterr()
    assert "is truncated" in attempt(path)
    assert "[E::" not in capfd.readouterr().err


def test_a_bad_record_on_standard_input(tmp_path, attempt, monkeypatch):
    (tmp_path / "in.vcf").write_text(EMPTY + LINE + "c\n")
    with open(tmp_path / "in.vcf") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert attempt("-").startswith("standard input: line 4: has 1 columns")


def test_outputs_that_cannot_be(tmp_path, attempt):
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C")])
    assert "out.txt: an output is called *.vcf.gz" in attempt(vcf, tmp_path / "out.txt")
    assert "in.vcf: is named twice" in attempt(vcf, tmp_path / "." / "in.vcf")
    assert "in.vcf: is named twice" in attempt(vcf, parquet=vcf)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in attempt(vcf, tmp_path / "file" / "out.vcf")
    assert vcf.read_text().startswith("##fileformat")
    (tmp_path / "link.vcf").symlink_to(vcf)
    assert "is named twice" in attempt(vcf, tmp_path / "link.vcf")


def test_an_older_output_stays_when_scoring_fails(tmp_path, attempt):
    output = tmp_path / "out.vcf.gz"
    output.write_text("older")
    attempt(write_vcf(tmp_path / "in.vcf", [("c", 5, "C", "A")]), output, ref_mismatch="error")
    assert output.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.vcf", "out.vcf.gz", "work"]


def test_a_missing_model_and_a_missing_reference(tmp_path, attempt, model_folder):
    vcf = write_vcf(tmp_path / "in.vcf", [])
    with pytest.raises(InputError, match=r"no config.json here"):
        score_vcf(str(vcf), write_fasta(tmp_path / "g.fa", {"c": "A"}), tmp_path, str(tmp_path / "out.vcf"))
    with pytest.raises(InputError, match=r"absent.fa: cannot be read"):
        score_vcf(str(vcf), tmp_path / "absent.fa", model_folder, str(tmp_path / "out.vcf"))

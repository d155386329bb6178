"""Input that cannot be scored: one sentence, and nothing left behind."""

import gzip
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from full_disk import files_at_most
from pysam import BGZFile, VariantFile, bcftools
from variant_files import HEADER, read_scores, write_fasta, write_vcf

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.models import GenomicLM, ModelConfig
from genotok.variants.score import score_vcf

LINE = "c\t5\t.\tA\tC\t.\t.\t.\n"
EMPTY = HEADER.format(meta="")


@pytest.fixture
def attempt(tmp_path, model_folder):
    """Scores a file; returns the complaint."""
    folder = tmp_path / "work"
    folder.mkdir()
    fasta = write_fasta(folder / "genome.fa", {"c": "ACGTACGTAC" * 5})

    def run(vcf, output=None, *, fasta=fasta, model=model_folder, **options):
        output = output or folder / "out.vcf.gz"
        with pytest.raises(InputError) as caught:
            score_vcf(str(vcf), fasta, model, str(output), **{"window": 16, "threads": 1} | options)
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
        (
            (EMPTY + LINE + LINE.replace("\t5\t", f"\t{'9' * 5000}\t")).encode(),
            "line 4: POS is '99999999999999999999'... (5000 characters), and no contig is that long",
        ),
        ((EMPTY + LINE + LINE[1:]).encode(), "line 4: CHROM is '', not the name of a contig"),
        (EMPTY.encode() + b"\xff" + LINE.encode(), "line 3: CHROM is '\ufffdc', not the name of a contig"),
        ((EMPTY + LINE + LINE.replace("A", "A\0")).encode(), "line 4: holds a zero byte"),
        ((EMPTY + LINE + EMPTY + LINE).encode(), "line 4: has 1 columns, and the header has 8"),
        (
            (EMPTY + LINE).replace("\t", " ").encode(),
            "line 2: #CHROM is to be followed by 7 more columns, separated",
        ),
        ((EMPTY + LINE).replace("\n", "\r").encode(), "line 1: has old Macintosh line ends"),
        (
            b"##fileformat=VCFv4.2\n##contig=<ID=\xff>\n" + EMPTY.encode(),
            "has a contig in its header whose name is not UTF-8",
        ),
        (("##source=x\n" + EMPTY + LINE).encode(), "and not with ##fileformat=VCF, so it is no VCF"),
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


def test_outputs_in_folders_that_cannot_be_written_to(tmp_path, attempt, capsys):
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C")])
    for name in ("out.vcf", "out.vcf.gz", "out.bcf"):
        assert attempt(vcf, f"/proc/{name}") == f"/proc/{name}: cannot be written: No such file or directory"
    assert attempt(vcf, parquet=Path("/proc/t.parquet")).startswith("/proc/t.parquet: cannot be written: ")
    (tmp_path / "folder.vcf").mkdir()
    assert attempt(vcf, tmp_path / "folder.vcf").endswith("folder.vcf: cannot be written: Is a directory")
    assert attempt(vcf, parquet=tmp_path).endswith(f"{tmp_path}: cannot be written: Is a directory")
    assert capsys.readouterr().err == ""  # nothing was scored for it


def test_no_output_takes_the_place_of_an_input(tmp_path, attempt, model_folder):
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C")])
    os.link(vcf, tmp_path / "hard.vcf")
    assert attempt(vcf, tmp_path / "hard.vcf").endswith("hard.vcf: is named twice among input and outputs; "
                                                        "give each a file of its own")  # fmt: skip
    (tmp_path / "ring.vcf").symlink_to(tmp_path / "ring.vcf")
    assert "No such file" in attempt(tmp_path / "absent.vcf", tmp_path / "ring.vcf")
    for path in (tmp_path / "work" / "genome.fa", model_folder / "config.json"):
        assert "is named twice" in attempt(vcf, parquet=path)
    aliases = tmp_path / "names.tsv"
    aliases.write_text("")
    assert "is named twice" in attempt(vcf, parquet=aliases, contig_aliases=aliases)
    assert "is named twice" in attempt(vcf, tmp_path / "out.vcf", parquet=tmp_path / "." / "out.vcf")


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz", "out.bcf"])
@pytest.mark.parametrize("size", [100, 2000, 20_000])
def test_a_full_disk(tmp_path, attempt, name, size):
    text = long_text().replace(b"#CHROM", b"##contig=<ID=c>\n#CHROM")
    (tmp_path / "in.vcf").write_bytes(text.replace(b"\tA\tC\t", b"\tA\t<DEL>\t"))
    with files_at_most(size):
        complaint = attempt(tmp_path / "in.vcf", tmp_path / "results" / name)
    assert "cannot be written" in complaint
    assert "disk" in complaint
    assert {path.suffix for path in (tmp_path / "results").iterdir()} <= {".unfinished"}  # to be resumed


def test_a_full_disk_under_the_table(tmp_path, attempt):
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C")])
    with files_at_most(400):  # the VCF's body has 110 bytes
        complaint = attempt(vcf, tmp_path / "results" / "out.vcf", parquet=tmp_path / "results" / "t.parquet")
    assert "cannot be written" in complaint
    assert {path.suffix for path in (tmp_path / "results").iterdir()} <= {".unfinished"}  # to be resumed


def test_standard_output_on_a_full_disk(tmp_path, attempt, monkeypatch):
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C")])
    with suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        complaint = attempt(vcf, "-")
    assert complaint == "the output cannot be written (No space left on device); is the disk full?"


def other_model(folder, **values):
    attention = {"heads": 1, "rotary_dim": 8, "window": -1}
    GenomicLM(
        ModelConfig(layout=["T1"], d_model=[8], d_intermediate=[8], attention=attention, **values)
    ).save_pretrained(folder)
    return folder


def test_models_that_do_not_read_dna(tmp_path, attempt):
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C")])
    for alphabet, letters in (("rna", "ACGU"), ("protein", "ACDEFGHIKLMNPQRSTVWY")):
        model = other_model(tmp_path / alphabet, tokenizer={"type": "kmer", "k": 1, "alphabet": alphabet})
        assert (
            attempt(vcf, model=model)
            == f"{model}: is a model of the alphabet {letters}, and variants are scored in ACGT"
        )
    heads = {"x": {"kind": "regression", "outputs": 1}}
    model = other_model(tmp_path / "labels", tokenizer="nucleotide", tasks=["prediction"], heads=heads)
    assert attempt(vcf, model=model) == f"{model}: is a model for prediction, and a score needs lm or mlm"


def test_damaged_references(tmp_path, attempt):
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C")])
    fasta = tmp_path / "g.fa.gz"
    with BGZFile(str(fasta), "wb") as handle:
        handle.write(b">c\n" + b"ACGTACGTAC" * 5 + b"\n")
    fasta.write_bytes(fasta.read_bytes()[:-28])
    assert "g.fa.gz: is truncated" in attempt(vcf, fasta=fasta)
    fasta.write_bytes(b">c\nMKVLAAGIVGLCAKE\n")
    assert "'L' is no nucleotide letter" in attempt(vcf, fasta=fasta)
    assert "is empty" in attempt(vcf, fasta=write_fasta(tmp_path / "empty.fa", {}))


def test_a_stale_index_of_the_reference_is_refused(tmp_path, attempt):
    """Whether it is older than the FASTA or newer; the index of the same contents is used, whatever its date."""
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C")])
    for age in (-100, 100):
        fasta = write_fasta(tmp_path / "g.fa", {"other": "GGG"})
        Reference(fasta).close()
        fasta.write_text(f">c\n{'ACGTACGTAC' * 5}\n")
        changed = fasta.stat().st_mtime + age
        os.utime(tmp_path / "g.fa.fai", (changed, changed))
        said = attempt(vcf, fasta=fasta)
        assert "g.fa.fai: is not the index of g.fa as it is now" in said
        assert "remove it, or write it anew with: samtools faidx" in said
        (tmp_path / "g.fa.fai").unlink()


def test_a_position_that_a_format_cannot_hold(tmp_path, attempt):
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 1 << 31, "A", "C")])
    assert "out.bcf: cannot be written; BCF takes no POS over 2147483647" in attempt(
        vcf, tmp_path / "out.bcf"
    )
    vcf = write_vcf(tmp_path / "in.vcf", [("c", 1 << 34, "A", "C")])
    assert "out.vcf.gz: its index cannot be written" in attempt(vcf, tmp_path / "out.vcf.gz")
    assert [path.name for path in tmp_path.glob("*out*")] == []


def test_a_header_with_undeclared_formats_and_a_ref_beyond_the_contig(tmp_path, model_folder):
    """Neither keeps a file from being scored."""
    header = EMPTY.rstrip("\n") + "\tFORMAT\ts1\n"
    body = "c\t5\t.\tA\tC\t.\t.\t.\tGT:ZZ\t0/1:3\nc\t49\t.\tACGT\tA\t.\t.\t.\tGT:ZZ\t0/1:3\n"
    (tmp_path / "in.vcf").write_text(header + body)
    fasta = write_fasta(tmp_path / "g.fa", {"c": "ACGTACGTAC" * 5})
    for name in ("out.vcf", "out.vcf.gz", "out.bcf"):
        score_vcf(str(tmp_path / "in.vcf"), fasta, model_folder, str(tmp_path / name), window=16, threads=1)
        assert [record.status for record in read_scores(tmp_path / name)] == [("ok",), ("ref_mismatch",)]
        with VariantFile(str(tmp_path / name)) as scored:
            assert [record.samples["s1"]["ZZ"] for record in scored] == ["3", "3"]


def test_bcf_that_htslib_cannot_read_at_random_or_decode(tmp_path, attempt):
    bcf, vcf = tmp_path / "in.bcf", tmp_path / "in.vcf"
    vcf.write_bytes((EMPTY + LINE).encode().replace(b"#CHROM", b"##contig=<ID=c>\n##x=\xe4\n#CHROM"))
    bcftools.view("-Ob", "-o", str(bcf), str(vcf), catch_stdout=False)
    assert "holds text that is not UTF-8; convert it to VCF" in attempt(bcf)
    raw = gzip.decompress(bcf.read_bytes())
    bcf.write_bytes(gzip.compress(raw))
    assert "in.bcf: is a BCF compressed with gzip, not BGZF" in attempt(bcf)


def test_a_missing_model_and_a_missing_reference(tmp_path, attempt, model_folder):
    vcf = write_vcf(tmp_path / "in.vcf", [])
    with pytest.raises(InputError, match=r"no config.json here"):
        score_vcf(str(vcf), write_fasta(tmp_path / "g.fa", {"c": "A"}), tmp_path, str(tmp_path / "out.vcf"))
    with pytest.raises(InputError, match=r"absent.fa: cannot be read"):
        score_vcf(str(vcf), tmp_path / "absent.fa", model_folder, str(tmp_path / "out.vcf"))

"""Every form of record that VCF 4.3 to 4.5 know, and files in unusual but lawful states."""

import io
import os
import sys
import threading

import pysam
import pytest
from pysam import bcftools
from test_scored_vcf import assert_only_scores_added, lines_of
from variant_files import DATA, HEADER, read_scores, write_fasta, write_vcf

from genotok.variants.score import score_vcf
from genotok.variants.vcf_input import open_vcf

LETTERS = "ACGTTGCAATCGGATCACACACACTTGGCATGCAACNNRYACGTTTTTAGGC"
META = """\
##contig=<ID=c,length=52>
##ALT=<ID=DEL,Description="x">
##FILTER=<ID=q10,Description="x">
##FILTER=<ID=s50,Description="x">
##INFO=<ID=AF,Number=A,Type=Float,Description="x">
##INFO=<ID=AC,Number=R,Type=Integer,Description="x">
##INFO=<ID=DB,Number=0,Type=Flag,Description="x">
##INFO=<ID=NOTE,Number=1,Type=String,Description="x">
##INFO=<ID=END,Number=1,Type=Integer,Description="x">
##INFO=<ID=SVTYPE,Number=1,Type=String,Description="x">
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
##FORMAT=<ID=PL,Number=.,Type=Integer,Description="x">
##FORMAT=<ID=LEN,Number=1,Type=Integer,Description="x">
"""
# CHROM to INFO, and the expected statuses.
FORMS = [
    ("c 0 . N <DUP> . . SVTYPE=DUP", "symbolic"),
    ("c 1 first A G 30 PASS AF=0.5", "ok"),
    ("c 2 . CG TA . . .", "ok"),
    ("c 3 . G GTT . q10 DB", "ok"),
    ("c 4 . TTG T 1e-05 q10;s50 AF=1e-05;DB", "ok"),
    ("c 5 . TGC TAACC . . .", "ok"),
    ("c 7 rs1;rs2 C A,G,CAT,* . . AF=0.1,0.2,.,0;AC=1,2,3,4,5", "ok,ok,ok,symbolic"),
    ("c 8 . A <DEL> . . END=20;SVTYPE=DEL", "symbolic"),
    ("c 8 . A <INS:ME:ALU>,<CNV:TR>,<*> . . .", "symbolic,symbolic,symbolic"),
    ("c 9 bnd A A[c:30[ . . SVTYPE=BND", "symbolic"),
    ("c 9 . A ]c:30]A,[c:30[A,A]<x>:3],A.,.A . . SVTYPE=BND", "symbolic,symbolic,symbolic,symbolic,symbolic"),
    ("c 10 . T . 50 PASS DB", ""),
    ("c 11 . C <NON_REF> . . END=14", "symbolic"),
    ("c 15 . T C,<NON_REF> . . AF=0.5,0", "ok,symbolic"),
    ("c 15 . T C,<NON_REF> . . AF=0.5,0", "ok,symbolic"),
    ("c 16 . c t . . .", "ok"),
    ("c 18 . C R,M,CN . . .", "ambiguous_base,ambiguous_base,ambiguous_base"),
    ("c 25 . T u,TU . . NOTE=caf%C3%A9%3B%2C%25", "ok,ok"),
    ("c 37 . N A . . .", "ambiguous_base"),
    ("c 40 . C T . . NOTE=Y", "ambiguous_base"),
    ("c 52 last C T,CA . . .", "ok,ok"),
    ("c 53 . N <DEL>,]c:1]N . . .", "symbolic,symbolic"),
]
SAMPLES = "GT:PL\t0/1:1,2,3\t./."


@pytest.fixture
def site(tmp_path, model_folder):
    fasta = write_fasta(tmp_path / "genome.fa", {"c": LETTERS})

    def run(vcf, output, **options):
        return score_vcf(str(vcf), fasta, model_folder, str(output), **{"window": 16, "threads": 1} | options)

    return run


@pytest.fixture
def forms(tmp_path):
    """All of them in one file, with two samples."""
    columns = HEADER.format(meta=META).replace("VCFv4.2", "VCFv4.3").rstrip("\n") + "\tFORMAT\ts1\ts2\n"
    body = "".join("\t".join(line.split(" ")) + f"\t{SAMPLES}\n" for line, _ in FORMS)
    (tmp_path / "in.vcf").write_text(columns + body)
    return tmp_path / "in.vcf"


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz", "out.bcf"])
def test_all_forms_of_records_have_a_status_and_stay_in_order(tmp_path, site, forms, name):
    site(forms, tmp_path / name)
    found = read_scores(tmp_path / name)
    assert [",".join(record.status or ()) for record in found] == [statuses for _, statuses in FORMS]
    for record in found:
        scored = [number is not None for number in record.llr or ()]
        assert scored == [status == "ok" for status in record.status or ()]
    if name != "out.bcf":
        assert_only_scores_added(forms, tmp_path / name)
    else:  # htslib writes numbers its own way
        fields = "%CHROM %POS %ID %REF %ALT %FILTER %AF %AC %NOTE %END[ %GT:%PL]\n"
        assert bcftools.query("-f", fields, str(tmp_path / name)) == bcftools.query("-f", fields, str(forms))


def test_bcftools_works_on_the_output(tmp_path, site, forms):
    output = tmp_path / "out.vcf.gz"
    site(forms, output)
    asked = "%POS %REF %ALT %GENOTOK_LLR %GENOTOK_STATUS\n"
    together = [line.split(" ") for line in bcftools.query("-f", asked, str(output)).splitlines()]
    split = tmp_path / "split.vcf"
    bcftools.norm("-m-any", "-o", str(split), str(output), catch_stdout=False)
    apart = [line.split(" ") for line in bcftools.query("-f", asked, str(split)).splitlines()]
    expected = [
        [pos, ref, *values]
        for pos, ref, alts, llrs, statuses in together
        for values in zip(alts.split(","), llrs.split(","), statuses.split(","), strict=True)
    ]
    assert sorted(map(str, apart)) == sorted(map(str, expected))
    assert (
        len(bcftools.view("-H", "-r", "c:12-13", str(output)).splitlines()) == 2
    )  # the deletion and the block
    chosen = bcftools.view("-H", "-i", 'INFO/GENOTOK_STATUS[0]="ambiguous_base"', str(output))
    assert [line.split("\t")[1] for line in chosen.splitlines()] == ["18", "37", "40"]


def test_positions_at_both_ends_of_a_contig(site, tmp_path):
    records = [("c", 0, "N", "A"), ("c", 52, "CA", "C"), ("c", 53, "A", "C"), ("c", 60, "A", "<DEL>")]
    site(write_vcf(tmp_path / "in.vcf", records), tmp_path / "out.vcf.gz")
    found = read_scores(tmp_path / "out.vcf.gz")
    assert [record.status[0] for record in found] == ["ref_mismatch"] * 3 + ["symbolic"]
    assert (tmp_path / "out.vcf.gz.tbi").exists()


@pytest.mark.parametrize("info", ["END=536870999", "SVTYPE=DEL;SVLEN=-536870999"])
def test_a_record_that_reaches_beyond_tabix_gets_a_csi_index(tmp_path, site, info):
    meta = '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="x">\n' + META
    output = tmp_path / "out.vcf.gz"
    site(write_vcf(tmp_path / "in.vcf", [f"c\t5\t.\tT\t<DEL>\t.\t.\t{info}"], meta), output)
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.vcf.gz", "out.vcf.gz.csi"]
    with pysam.VariantFile(str(output)) as scored:
        assert [record.pos for record in scored.fetch("c", 536_870_950, 536_870_960)] == [5]


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz", "out.bcf"])
@pytest.mark.parametrize("samples", ["", "\tFORMAT\ts1"])
def test_a_header_alone(tmp_path, site, name, samples):
    (tmp_path / "in.vcf").write_text(HEADER.format(meta=META).rstrip("\n") + samples)
    assert sum(site(tmp_path / "in.vcf", tmp_path / name).values()) == 0
    assert read_scores(tmp_path / name) == []
    assert (tmp_path / f"{name}{'.csi' if name == 'out.bcf' else '.tbi'}").exists() == (name != "out.vcf")


def test_text_from_windows_editors(tmp_path, site):
    """A byte order mark, CRLF, and empty lines at the end."""
    plain = write_vcf(tmp_path / "plain.vcf", [("c", 1, "A", "G"), ("c", 2, "C", "T")])
    text = plain.read_bytes().replace(b"\n", b"\r\n")
    for number, odd in enumerate((b"\xef\xbb\xbf" + text, text + b"\r\n\r\n", plain.read_bytes() + b"\n\n")):
        (tmp_path / "odd.vcf").write_bytes(odd)
        site(plain, tmp_path / "a.vcf")
        site(tmp_path / "odd.vcf", tmp_path / f"{number}.vcf")
        assert (tmp_path / f"{number}.vcf").read_bytes() == (tmp_path / "a.vcf").read_bytes()
    with pysam.BGZFile(str(tmp_path / "odd.vcf"), "wb") as packed:
        packed.flush()
        packed.write(b"\xef\xbb\xbf" + text)
    site(tmp_path / "odd.vcf", tmp_path / "b.vcf")
    assert (tmp_path / "b.vcf").read_bytes() == (tmp_path / "a.vcf").read_bytes()


def test_a_format_column_without_samples_stays(tmp_path, site):
    text = HEADER.format(meta=META).rstrip("\n") + "\tFORMAT\nc\t1\t.\tA\tG\t.\t.\tDB\tGT:PL\n"
    (tmp_path / "in.vcf").write_text(text)
    site(tmp_path / "in.vcf", tmp_path / "out.vcf.gz")
    assert_only_scores_added(tmp_path / "in.vcf", tmp_path / "out.vcf.gz")


def test_long_lines(tmp_path, site):
    """3000 samples, and an INFO of 2 MB."""
    samples = "\t".join(f"s{i}" for i in range(3000))
    header = HEADER.format(meta=META).rstrip("\n") + f"\tFORMAT\t{samples}\n"
    genotypes = "\t".join(f"{i % 3}/1:{i},0,1,2,3,4" for i in range(3000))
    line = f"c\t1\t.\tA\tG,T\t.\t.\tNOTE={'x' * 2_000_000};DB\tGT:PL\t{genotypes}\n"
    (tmp_path / "in.vcf").write_text(header + line)
    site(tmp_path / "in.vcf", tmp_path / "out.vcf.gz")
    assert_only_scores_added(tmp_path / "in.vcf", tmp_path / "out.vcf.gz")
    assert len(lines_of(tmp_path / "out.vcf.gz")[1][0]) == 3009


def test_a_contig_of_the_assembly_file_gets_no_header_line(tmp_path, site):
    """`<name>` and names that the header cannot spell stay readable for bcftools."""
    records = [("<ctg1>", 5, "A", "C"), ("c", 1, "A", "G")]
    site(write_vcf(tmp_path / "in.vcf", records), tmp_path / "out.vcf.gz")
    header, _ = lines_of(tmp_path / "out.vcf.gz")
    assert [line for line in header if line.startswith(b"##contig")] == [b"##contig=<ID=c,length=52>"]
    assert len(bcftools.view("-H", str(tmp_path / "out.vcf.gz")).splitlines()) == 2


class Drops(io.RawIOBase):
    """Standard input whose writer is slow: few bytes at a time."""

    def __init__(self, data: bytes):
        self.data = data

    def readable(self):
        return True

    def readinto(self, into):
        drop, self.data = self.data[:5], self.data[5:]
        into[: len(drop)] = drop
        return len(drop)


@pytest.mark.parametrize("kind", ["v", "z", "b"])
def test_input_that_comes_in_drops(tmp_path, forms, kind, monkeypatch):
    source = tmp_path / "source"
    bcftools.view("--no-version", f"-O{kind}", "-o", str(source), str(forms), catch_stdout=False)
    stdin = io.TextIOWrapper(io.BufferedReader(Drops(source.read_bytes())))
    monkeypatch.setattr(sys, "stdin", stdin)
    with open_vcf("-") as vcf:
        assert [record.position for record in vcf] == [int(line.split(" ")[1]) for line, _ in FORMS]


@pytest.mark.parametrize("kind", ["v", "z", "b"])
def test_a_named_pipe(tmp_path, forms, kind):
    source, pipe = tmp_path / "source", tmp_path / "pipe"
    bcftools.view("--no-version", f"-O{kind}", "-o", str(source), str(forms), catch_stdout=False)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()))
    writer.start()
    with open_vcf(pipe) as vcf:
        assert len(list(vcf)) == len(FORMS)
    writer.join(10)


def test_the_calls_of_an_array_come_back_whole(tmp_path, model_folder):
    fasta = tmp_path / "rcrs.fa"
    fasta.write_bytes((DATA / "rCRS_NC_012920_derived.fa").read_bytes())
    vcf = DATA / "haplogrep_example-microarray.vcf.gz"
    counts = score_vcf(str(vcf), fasta, model_folder, str(tmp_path / "out.vcf.gz"), window=12, threads=1)
    assert {status: count for status, count in counts.items() if count} == {"ok": 326}
    assert_only_scores_added(vcf, tmp_path / "out.vcf.gz")
    assert len(lines_of(tmp_path / "out.vcf.gz")[1][0]) == 59

"""What is written: everything that was read, and the scores."""

import gzip
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pysam
import pytest
from pysam import bcftools
from variant_files import DATA, read_scores, write_fasta, write_vcf

import genotok
from genotok.genomes.fasta import Reference
from genotok.variants.score import score_vcf

LETTERS = "".join("ACGT"[(5 * i * i + i // 3) % 4] for i in range(300))
ADDED = {b"GENOTOK_LLR", b"GENOTOK_LLR_FWD", b"GENOTOK_LLR_RC", b"GENOTOK_STATUS"}
ADDED_NAMES = sorted(name.decode() for name in ADDED)
SAMPLES = """\
##fileformat=VCFv4.2
##INFO=<ID=AF,Number=A,Type=Float,Description="x">
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2
"""


def lines_of(path):
    opener = gzip.open if path.suffix in (".gz", ".bgz") else open
    with opener(path, "rb") as handle:
        lines = handle.read().splitlines()
    header = [line for line in lines if line.startswith(b"#")]
    return header, [line.split(b"\t") for line in lines[len(header) :]]


def assert_only_scores_added(before, after):
    old_header, old = lines_of(before)
    new_header, new = lines_of(after)
    assert [line for line in new_header if line in old_header] == old_header
    assert len(new) == len(old)
    for was, now in zip(old, new, strict=True):
        assert now[:7] + now[8:] == was[:7] + was[8:]
        entries = now[7].split(b";")
        kept = [entry for entry in entries if entry.split(b"=")[0] not in ADDED]
        assert (b";".join(kept) or b".") == was[7]
        assert len(entries) - len(kept) == (0 if was[4] == b"." else 4)


@pytest.fixture
def site(tmp_path, model_folder):
    """A FASTA with one contig `c`, and a function that scores a VCF on it."""
    fasta = write_fasta(tmp_path / "genome.fa", {"c": LETTERS, "d": LETTERS[::-1]})

    def run(vcf, output, **options):
        return score_vcf(str(vcf), fasta, model_folder, str(output), **{"window": 16, "threads": 1} | options)

    return run


def some_records(contig="c", positions=range(10, 290, 20)):
    sequence = {"c": LETTERS, "d": LETTERS[::-1]}[contig]
    return [
        (contig, pos, sequence[pos - 1], "ACGT".replace(sequence[pos - 1], "")[pos % 3]) for pos in positions
    ]


@pytest.mark.parametrize(
    ("vcf", "fasta", "aliases", "counts"),
    [
        (
            "haplogrep_example-wgs.vcf.gz",
            "rCRS_NC_012920_derived.fa",
            None,
            {"ok": 4220, "ambiguous_base": 2, "too_long": 20},
        ),
        (
            "haplogrep_example-wgs.vcf.gz",
            "MT-human.fa",
            "MT\tMT_human\n",
            {"ok": 4220, "ref_mismatch": 2, "too_long": 20},
        ),
        ("freebayes_NA12878.chr22.tiny.vcf", "freebayes_q.fa", None, {"ok": 154}),
        ("freebayes_q.vcf.gz", "freebayes_q.fa", None, {"ok": 16}),
        ("freebayes_hla.vcf.gz", "freebayes_hla.fa", None, {"ok": 3}),
    ],
)
def test_real_files_come_back_whole(tmp_path, model_folder, vcf, fasta, aliases, counts):
    fasta = tmp_path.joinpath(fasta)
    fasta.write_bytes((DATA / fasta.name).read_bytes())
    if aliases:
        (tmp_path / "aliases.tsv").write_text(aliases)
    table = tmp_path / "scores.parquet"
    found = score_vcf(
        str(DATA / vcf),
        fasta,
        model_folder,
        str(tmp_path / "out.vcf.gz"),
        window=12,
        threads=1,
        parquet=table,
        contig_aliases=tmp_path / "aliases.tsv" if aliases else None,
    )
    assert {status: count for status, count in found.items() if count} == counts
    assert_only_scores_added(DATA / vcf, tmp_path / "out.vcf.gz")
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as scored:
        records = list(scored)
        last = records[-1]
        assert last.pos in [record.pos for record in scored.fetch(last.chrom, last.start, last.stop)]
        assert all(scored.header.contigs[name].length for name in scored.header.contigs)
    table = pq.read_table(table).to_pylist()
    fields = {"llr": "GENOTOK_LLR", "llr_fwd": "GENOTOK_LLR_FWD", "llr_rc": "GENOTOK_LLR_RC"}
    fields["status"] = "GENOTOK_STATUS"
    assert table == [
        {"chrom": record.chrom, "pos": record.pos, "ref": record.ref, "alt": alt}
        | {column: record.info[name][i] for column, name in fields.items()}
        for record in records
        for i, alt in enumerate(record.alts)
    ]


def test_awkward_text_is_not_touched(tmp_path, site):
    base = LETTERS[9]
    other = "ACGT".replace(base, "")[0]
    body = (
        f"c\t10\trs1;rs2\t{base}\t{other},*\t30.00\tq10;s50\tAF=0.50,1e-05;DB;X=a%3Bb\tGT:DP\t0/1:3\t./.\n"
        f"c\t10\t.\t{base.lower()}\t{other.lower()}\t1.05177e-14\tPASS\t.\tGT\t0|1\t2\n"
        f"c\t10\t.\t{base}\t.\t.\t.\tAF=6.57030e-06;AF=0.1\tGT\t.\t.\n"
        f"c\t10\tv\u00e4r\t{base}\t{other}\t100.123456789\t.\tDB=1;END=12\tGT:DP\t0/1\t0/1:\n"
    )
    (tmp_path / "in.vcf").write_bytes(SAMPLES.encode() + body.encode("latin-1"))
    site(tmp_path / "in.vcf", tmp_path / "out.vcf")
    assert_only_scores_added(tmp_path / "in.vcf", tmp_path / "out.vcf")
    _, records = lines_of(tmp_path / "out.vcf")
    assert records[1][7].startswith(b"GENOTOK_LLR=")
    assert records[2][7] == b"AF=6.57030e-06;AF=0.1"


def test_windows_line_ends_and_a_missing_last_one(tmp_path, site):
    text = write_vcf(tmp_path / "unix.vcf", some_records()).read_text().rstrip("\n")
    (tmp_path / "dos.vcf").write_bytes(text.replace("\n", "\r\n").encode())
    site(tmp_path / "unix.vcf", tmp_path / "a.vcf")
    site(tmp_path / "dos.vcf", tmp_path / "b.vcf")
    assert (tmp_path / "a.vcf").read_bytes() == (tmp_path / "b.vcf").read_bytes()


def test_the_header_says_how_scores_were_made(tmp_path, site, model):
    meta = "##contig=<ID=d,length=300,assembly=x>\n"
    vcf = write_vcf(tmp_path / "in.vcf", [*some_records(), *some_records("d"), ("e", 1, "A", "C")], meta)
    site(vcf, tmp_path / "out.vcf", command="genotok score\nin.vcf")
    digest = Reference(tmp_path / "genome.fa").digest
    header, _ = lines_of(tmp_path / "out.vcf")
    assert [line.decode() for line in header[1:8]] == [
        "##contig=<ID=d,length=300,assembly=x>",
        "##contig=<ID=c,length=300>",
        "##contig=<ID=e>",
        f"##genotok_version={genotok.__version__}",
        f"##genotok_model_sha256={model.content_hash()}",
        f"##genotok_reference=genome.fa sha256:{digest}",
        "##genotok_window=16",
    ]
    assert b"##genotok_command=genotok score in.vcf" in header
    with pysam.VariantFile(str(tmp_path / "out.vcf")) as scored:
        kinds = {
            name: (scored.header.info[name].number, scored.header.info[name].type) for name in ADDED_NAMES
        }
    assert kinds == dict.fromkeys(ADDED_NAMES, ("A", "Float")) | {"GENOTOK_STATUS": ("A", "String")}


@pytest.mark.parametrize("name", ["out.vcf.gz", "out.vcf", "out.bcf", "out.vcf.bgz"])
def test_the_same_input_gives_the_same_bytes(tmp_path, site, name):
    vcf = write_vcf(tmp_path / "in.vcf", some_records() + some_records("d"))
    for folder in ("a", "b"):
        site(vcf, tmp_path / folder / name, parquet=tmp_path / folder / "scores.parquet", command="x")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    suffix = {"out.vcf": [], "out.bcf": [".csi"]}.get(name, [".tbi"])
    assert files == sorted([name, "scores.parquet", *(name + end for end in suffix)])
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with pysam.VariantFile(str(tmp_path / "a" / name)) as scored:
        assert len(list(scored)) == 28
        if suffix:
            assert [record.pos for record in scored.fetch("d", 20, 60)] == [30, 50]


@pytest.mark.parametrize("kind", ["vcf", "vcf.gz", "gzip", "bcf"])
@pytest.mark.parametrize("through", ["file", "stdin"])
def test_all_kinds_of_input(tmp_path, site, kind, through, monkeypatch):
    meta = '##contig=<ID=c,length=300>\n##FILTER=<ID=PASS,Description="All filters passed">\n'
    vcf = write_vcf(tmp_path / "in.vcf", some_records(), meta)
    site(vcf, tmp_path / "expected.vcf")
    source = tmp_path / f"input.{kind}"
    if kind == "gzip":
        source.write_bytes(gzip.compress(vcf.read_bytes()))
    else:
        flag = {"vcf": "-Ov", "vcf.gz": "-Oz", "bcf": "-Ob"}[kind]
        bcftools.view("--no-version", flag, "-o", str(source), str(vcf), catch_stdout=False)
    with open(source) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        site(source if through == "file" else "-", tmp_path / "out.vcf")
    assert lines_of(tmp_path / "out.vcf")[1] == lines_of(tmp_path / "expected.vcf")[1]


def test_text_to_standard_output(tmp_path, site, capsysbinary):
    vcf = write_vcf(tmp_path / "in.vcf", some_records() + some_records("d"))
    site(vcf, tmp_path / "out.vcf")
    capsysbinary.readouterr()
    site(vcf, "-")
    assert capsysbinary.readouterr().out == (tmp_path / "out.vcf").read_bytes()
    site(write_vcf(tmp_path / "empty.vcf", []), "-")
    out = capsysbinary.readouterr().out
    assert out.startswith(b"##fileformat=VCFv4.2\n##genotok_version=")
    assert out.endswith(b"\tINFO\n")


def test_scoring_again_replaces_the_scores(tmp_path, site):
    first = tmp_path / "first.vcf.gz"
    vcf = write_vcf(tmp_path / "in.vcf", [*some_records(), ("c", 290, LETTERS[289], ".")])
    site(vcf, first, window=8, command="first")
    assert read_scores(first)[0].llr is not None
    site(first, tmp_path / "again.vcf.gz", window=16, command="second")
    site(vcf, tmp_path / "once.vcf.gz", window=16, command="second")
    assert (tmp_path / "again.vcf.gz").read_bytes() == (tmp_path / "once.vcf.gz").read_bytes()
    text = gzip.decompress(first.read_bytes()).replace(b"##INFO=<ID=GENOTOK_LLR,", b"##INFO=<ID=OTHER,")
    text = text.replace(
        b"c\t290\t.\t%b\t.\t.\t.\t." % LETTERS[289].encode(), b"c\t290\t.\tA\t.\t.\t.\tGENOTOK_LLR=3"
    )
    (tmp_path / "strange.vcf").write_bytes(text)
    site(tmp_path / "strange.vcf", tmp_path / "out.vcf")
    assert lines_of(tmp_path / "out.vcf")[1][-1][7] == b"."


def test_records_out_of_order_keep_it_and_get_no_index(tmp_path, site, capsys):
    output = tmp_path / "out.vcf.gz"
    site(write_vcf(tmp_path / "in.vcf", some_records()), output)
    assert (tmp_path / "out.vcf.gz.tbi").exists()
    for records in (some_records()[::-1], [*some_records(), *some_records("d"), *some_records()]):
        capsys.readouterr()
        site(write_vcf(tmp_path / "in.vcf", records), output)
        assert "out.vcf.gz: the records are not sorted, so there is no index" in capsys.readouterr().err
        assert [record.place[:2] for record in read_scores(output)] == [record[:2] for record in records]
        assert not (tmp_path / "out.vcf.gz.tbi").exists()


def test_contigs_beyond_the_reach_of_tabix_get_a_csi_index(tmp_path, site):
    output = tmp_path / "out.vcf.gz"
    site(write_vcf(tmp_path / "in.vcf", some_records()), output)
    vcf = write_vcf(tmp_path / "in.vcf", [*some_records(), ("c", (1 << 29) + 5, "A", "C")])
    site(vcf, output)
    assert not (tmp_path / "out.vcf.gz.tbi").exists()
    with pysam.VariantFile(str(output)) as scored:
        assert [record.pos for record in scored.fetch("c", 1 << 29)] == [(1 << 29) + 5]
        assert [record.pos for record in scored.fetch("c", 20, 60)] == [30, 50]


@pytest.mark.parametrize("name", ["out.vcf.gz", "out.bcf"])
def test_a_record_in_front_of_the_contig_can_be_indexed(tmp_path, site, name, capfd):
    site(write_vcf(tmp_path / "in.vcf", [("c", 0, "N", "<DUP>"), *some_records()]), tmp_path / name)
    assert "[W::" not in capfd.readouterr().err
    assert [record.place[1] for record in read_scores(tmp_path / name)][:2] == [0, 10]


def test_bcf_declares_what_the_header_of_the_input_lacks(tmp_path, site):
    record = f"c\t10\t.\t{LETTERS[9]}\tN\t.\tq10\tFOO=3;GENOTOK_LLR=7"
    site(write_vcf(tmp_path / "in.vcf", [record]), tmp_path / "out.bcf")
    with pysam.VariantFile(str(tmp_path / "out.bcf")) as scored:
        found = next(iter(scored))
        assert (found.info["FOO"], list(found.filter), found.info["GENOTOK_LLR"]) == ("3", ["q10"], (None,))


def test_bcftools_reads_the_scores(tmp_path, site):
    site(write_vcf(tmp_path / "in.vcf", some_records()), tmp_path / "out.vcf.gz")
    found = [(record.place[1], record.llr[0]) for record in read_scores(tmp_path / "out.vcf.gz")]
    middle = sorted(llr for _, llr in found)[5]
    chosen = bcftools.query("-f", "%POS\n", "-i", f"INFO/GENOTOK_LLR<{middle}", str(tmp_path / "out.vcf.gz"))
    assert [int(pos) for pos in chosen.split()] == [pos for pos, llr in found if llr < middle]
    assert len(chosen.split()) == 5


def test_numbers_have_six_digits_and_are_the_same_in_the_table(tmp_path, site):
    table = tmp_path / "scores.parquet"
    site(write_vcf(tmp_path / "in.vcf", some_records()), tmp_path / "out.vcf", parquet=table)
    found = pq.read_table(table)
    assert found.schema.field("llr").type == pa.float32()
    assert found.schema.names == ["chrom", "pos", "ref", "alt", "llr", "llr_fwd", "llr_rc", "status"]
    _, records = lines_of(tmp_path / "out.vcf")
    written = [dict(entry.split("=") for entry in record[7].decode().split(";")) for record in records]
    for name, field in (("llr", "GENOTOK_LLR"), ("llr_fwd", "GENOTOK_LLR_FWD"), ("llr_rc", "GENOTOK_LLR_RC")):
        texts = [fields[field] for fields in written]
        assert [np.float32(text) for text in texts] == found[name].to_pylist()
        assert max(len(text.replace("-", "").replace(".", "").lstrip("0")) for text in texts) == 6


def test_an_empty_vcf(tmp_path, site):
    vcf = write_vcf(tmp_path / "in.vcf", [])
    assert sum(site(vcf, tmp_path / "out.vcf.gz", parquet=tmp_path / "t.parquet").values()) == 0
    assert read_scores(tmp_path / "out.vcf.gz") == []
    assert (tmp_path / "out.vcf.gz.tbi").exists()
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 0


def test_an_index_tells_how_much_is_left(tmp_path, site, monkeypatch):
    totals = []
    progress = sys.modules["genotok.variants.score"].progress
    monkeypatch.setattr(
        "genotok.variants.score.progress", lambda *args: totals.append(args[1]) or progress(*args)
    )
    vcf = write_vcf(tmp_path / "in.vcf", some_records())
    site(vcf, tmp_path / "out.vcf.gz")
    site(tmp_path / "out.vcf.gz", tmp_path / "again.bcf")
    site(tmp_path / "again.bcf", tmp_path / "more.vcf")
    assert totals == [None, 14, 14]

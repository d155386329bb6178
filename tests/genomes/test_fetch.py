"""A genome from each kind of source, through a real server, to an indexed FASTA."""

import gzip
import hashlib
import io
import zipfile

import pytest
from file_server import Step
from test_twobit import twobit

from genotok.errors import InputError
from genotok.genomes.fasta import Reference, index_fasta
from genotok.genomes.fetch import fetch_genome
from genotok.genomes.formats import genome_format

TEXT = b">chr1 the first\r\nACGTNacgtn\r\nAC\r\nACGT\r\n\r\n>empty\r\n>chr2\r\n" + b"GATTACA" * 30
CLEAN = (
    b">chr1 the first\nACGTNacgtnACACGT\n>chr2\n"
    + b"\n".join((b"GATTACA" * 30)[at : at + 60] for at in range(0, 210, 60))
    + b"\n"
)
QUICK = {"timeout": 0.3, "backoff": 0.01}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def zipped(**members):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return raw.getvalue()


def ncbi_zip(fasta):
    folder = "ncbi_dataset/data/GCF_000005845.2"
    return zipped(
        **{
            "README.md": b"# NCBI Datasets",
            "ncbi_dataset/data/assembly_data_report.jsonl": b"{}",
            f"{folder}/cds_from_genomic.fna": b">cds\nATG\n",
            f"{folder}/GCF_000005845.2_ASM584v2_genomic.fna": fasta,
            "md5sum.txt": b"",
        }
    )


@pytest.mark.parametrize(
    "body",
    [TEXT, gzip.compress(TEXT), gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:]), ncbi_zip(TEXT)],
    ids=["plain", "gzip", "gzip members", "zip"],
)
def test_every_format_gives_the_same_bytes(server, tmp_path, body):
    url = server.serve("/x", body)
    target = fetch_genome(url, tmp_path / "out" / "g.fa.gz", **QUICK)
    assert target == tmp_path / "out" / "g.fa.gz"
    assert gzip.decompress(target.read_bytes()) == CLEAN
    assert genome_format(target) == "bgzf"
    assert names(tmp_path / "out") == ["g.fa.gz", "g.fa.gz.fai", "g.fa.gz.gzi"]
    first = {path.name: path.read_bytes() for path in target.parent.iterdir()}
    fetch_genome(server.serve("/other", gzip.compress(CLEAN)), target, **QUICK)
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == first


def test_plain_target(server, tmp_path):
    target = fetch_genome(server.serve("/x", gzip.compress(TEXT)), tmp_path / "g.fa", **QUICK)
    assert target.read_bytes() == CLEAN
    assert names(tmp_path) == ["g.fa", "g.fa.fai"]
    assert target.with_name("g.fa.fai").read_text() == "chr1\t16\t16\t16\t17\nchr2\t210\t39\t60\t61\n"


def test_index_is_that_of_the_result(server, tmp_path):
    target = fetch_genome(server.serve("/x", TEXT), tmp_path / "g.fa.gz", **QUICK)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    reference = Reference(target)
    assert reference.contigs == {"chr1": 16, "chr2": 210}
    assert reference.fetch("chr1", 3, 9) == "TNACGT"
    index_fasta(target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_target_comes_last_and_newer_index_is_trusted(server, tmp_path):
    target = fetch_genome(server.serve("/x", TEXT), tmp_path / "g.fa.gz", **QUICK)
    for suffix in (".fai", ".gzi"):
        assert target.with_name(target.name + suffix).stat().st_mtime_ns >= target.stat().st_mtime_ns


@pytest.mark.parametrize("variable", ["GENOTOK_NCBI_DATASETS_URL"])
def test_ncbi_assembly(server, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, server.base + "/v2")
    server.serve("/v2/genome/accession/GCF_000005845.2/download", ncbi_zip(TEXT), Step(status=503), etag=None)
    target = fetch_genome("GCF_000005845.2", tmp_path / "g.fa.gz", **QUICK)
    assert gzip.decompress(target.read_bytes()) == CLEAN
    assert [request.path for request in server.seen] == [
        "/v2/genome/accession/GCF_000005845.2/download?include_annotation_type=GENOME_FASTA"
    ] * 2


def test_ncbi_nucleotide(server, tmp_path, monkeypatch):
    monkeypatch.setenv("GENOTOK_NCBI_EUTILS_URL", server.base)
    server.serve("/efetch.fcgi", TEXT)
    fetch_genome("NC_045512.2", tmp_path / "g.fa", **QUICK)
    assert (tmp_path / "g.fa").read_bytes() == CLEAN
    assert server.seen[0].path == "/efetch.fcgi?db=nuccore&id=NC_045512.2&rettype=fasta&retmode=text"


def test_ucsc_falls_back_to_twobit(server, tmp_path, monkeypatch):
    monkeypatch.setenv("GENOTOK_UCSC_URL", server.base)
    server.serve("/sacCer3/bigZips/sacCer3.2bit", twobit({"chrI": "ACGTNNacgt" * 20, "chrM": ""}))
    target = fetch_genome("sacCer3", tmp_path / "g.fa", **QUICK)
    assert Reference(target).fetch("chrI", 198) == "GT"
    assert target.read_bytes().startswith(b">chrI\nACGTNNacgt")
    assert [request.path.rsplit("/", 1)[1] for request in server.seen] == ["sacCer3.fa.gz", "sacCer3.2bit"]
    assert names(tmp_path) == ["g.fa", "g.fa.fai"]


def test_assembly_that_does_not_exist(server, tmp_path, monkeypatch):
    monkeypatch.setenv("GENOTOK_UCSC_URL", server.base)
    with pytest.raises(InputError, match="404"):
        fetch_genome("hg99", tmp_path / "g.fa", **QUICK)
    assert len(server.seen) == 2
    assert names(tmp_path) == []


def test_ensembl_over_a_bad_connection(server, tmp_path, monkeypatch):
    monkeypatch.setenv("GENOTOK_ENSEMBL_URL", server.base)
    path = "/release-110/fasta/homo_sapiens/dna/Homo_sapiens.GRCh38.dna.toplevel.fa.gz"
    body = gzip.compress(TEXT)
    server.serve(path, body, Step(cut_after=40), Step(stall_after=20), Step(status=502))
    sha256 = hashlib.sha256(body).hexdigest()
    fetch_genome("ensembl:110:homo_sapiens/GRCh38", tmp_path / "g.fa", sha256=sha256, **QUICK)
    assert (tmp_path / "g.fa").read_bytes() == CLEAN
    assert server.bytes_sent == len(body)
    assert names(tmp_path) == ["g.fa", "g.fa.fai"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<!DOCTYPE html><html>Service temporarily unavailable</html>", "web page"),
        (b"", "is empty"),
        (b">a\n>b\n", "holds no bases"),
        (b">sp|P0\nMKVLEW\n", "position 4: 'L'"),
        (gzip.compress(b"<html>"), "web page"),
        (gzip.compress(TEXT)[:-6], "truncated"),
        (ncbi_zip(TEXT)[:-60], "damaged zip"),
        (zipped(), "no genomic FASTA, but nothing"),
        (zipped(**{"README.md": b"no such accession"}), r"no genomic FASTA, but README\.md"),
        (twobit({"a": "ACGT" * 9})[:-2], "truncated"),
        (b"Error: 429 Too many requests", "instead of a FASTA header"),
    ],
)
def test_what_is_no_genome_leaves_nothing(server, tmp_path, body, sentence):
    url = server.serve("/x", body)
    with pytest.raises(InputError, match=sentence) as caught:
        fetch_genome(url, tmp_path / "g.fa.gz", **QUICK)
    assert url in str(caught.value)
    assert names(tmp_path) == []


def test_checksum_is_that_of_the_downloaded_bytes(server, tmp_path):
    body = gzip.compress(TEXT)
    url = server.serve("/x", body)
    fetch_genome(url, tmp_path / "g.fa", md5=hashlib.md5(body).hexdigest(), **QUICK)
    with pytest.raises(InputError, match="sha256"):
        fetch_genome(url, tmp_path / "h.fa", sha256=hashlib.sha256(TEXT).hexdigest(), **QUICK)
    assert names(tmp_path) == ["g.fa", "g.fa.fai"]


def test_failure_leaves_an_older_genome_whole(server, tmp_path):
    fetch_genome(server.serve("/x", TEXT), tmp_path / "g.fa.gz", **QUICK)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError):
        fetch_genome(server.serve("/x", TEXT + b"\n>z\nAC!"), tmp_path / "g.fa.gz", **QUICK)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_broken_download_is_resumed_by_the_next_call(server, tmp_path):
    url = server.serve("/x", TEXT, Step(cut_after=100))
    with pytest.raises(InputError, match="goes on from"):
        fetch_genome(url, tmp_path / "g.fa", retries=0, **QUICK)
    assert names(tmp_path) == [".g.fa.download.part", ".g.fa.download.part.json"]
    fetch_genome(url, tmp_path / "g.fa", retries=0, **QUICK)
    assert [request.range for request in server.seen] == [None, "bytes=100-"]
    assert names(tmp_path) == ["g.fa", "g.fa.fai"]


def test_local_files(tmp_path):
    source = tmp_path / "source.fa.gz"
    source.write_bytes(gzip.compress(TEXT))
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    fetch_genome(str(source), tmp_path / "a.fa", sha256=sha256)
    fetch_genome(source.as_uri(), tmp_path / "b.fa")
    assert (tmp_path / "a.fa").read_bytes() == (tmp_path / "b.fa").read_bytes() == CLEAN
    with pytest.raises(InputError, match="sha256"):
        fetch_genome(str(source), tmp_path / "c.fa", sha256="0" * 64)
    with pytest.raises(InputError, match="is no file"):
        fetch_genome((tmp_path / "none.fa").as_uri(), tmp_path / "c.fa")
    with pytest.raises(InputError, match="is no file"):
        fetch_genome(str(tmp_path), tmp_path / "c.fa")
    assert names(tmp_path) == ["a.fa", "a.fa.fai", "b.fa", "b.fa.fai", "source.fa.gz"]


def test_a_gzip_file_is_recompressed_in_place(tmp_path):
    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(TEXT))
    with pytest.raises(InputError, match="genotok fetch"):
        Reference(path)
    fetch_genome(str(path), path)
    assert Reference(path).contigs == {"chr1": 16, "chr2": 210}


@pytest.mark.parametrize("name", ["g.zip", "g.2bit", "g.fa.bz2", "g.fa.fai"])
def test_target_names_that_would_mislead(tmp_path, name):
    with pytest.raises(InputError, match="cannot be the output"):
        fetch_genome("hg38", tmp_path / name)


def test_target_that_cannot_be_written(tmp_path):
    source = tmp_path / "source.fa"
    source.write_bytes(TEXT)
    with pytest.raises(InputError, match="cannot be written"):
        fetch_genome(str(source), source / "g.fa")

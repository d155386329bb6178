"""What each kind of SOURCE means."""

import pytest

from genotok.errors import InputError
from genotok.genomes.sources import ARCHIVES, resolve_source

NCBI = "https://api.ncbi.nlm.nih.gov/datasets/v2/genome/accession"
EFETCH = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/efetch.fcgi?db=nuccore"
UCSC = "https://hgdownload.soe.ucsc.edu/goldenPath"
ENSEMBL = "https://ftp.ensembl.org/pub"


@pytest.fixture(autouse=True)
def _no_mirrors(monkeypatch):
    for variable in ARCHIVES:
        monkeypatch.delenv(variable, raising=False)


def ucsc(name):
    return [f"{UCSC}/{name}/bigZips/{name}.fa.gz", f"{UCSC}/{name}/bigZips/{name}.2bit"]


@pytest.mark.parametrize(
    ("source", "addresses"),
    [
        ("GCF_000005845.2", [f"{NCBI}/GCF_000005845.2/download?include_annotation_type=GENOME_FASTA"]),
        ("ncbi:GCA_000001405.29", [f"{NCBI}/GCA_000001405.29/download?include_annotation_type=GENOME_FASTA"]),
        ("NC_045512.2", [f"{EFETCH}&id=NC_045512.2&rettype=fasta&retmode=text"]),
        ("NZ_CP028414.1", [f"{EFETCH}&id=NZ_CP028414.1&rettype=fasta&retmode=text"]),
        ("U00096.3", [f"{EFETCH}&id=U00096.3&rettype=fasta&retmode=text"]),
        ("MN908947.3", [f"{EFETCH}&id=MN908947.3&rettype=fasta&retmode=text"]),
        ("ncbi:CP046654.1", [f"{EFETCH}&id=CP046654.1&rettype=fasta&retmode=text"]),
        ("hg38", ucsc("hg38")),
        (" hg38\n", ucsc("hg38")),
        ("mm39", ucsc("mm39")),
        ("hs1", ucsc("hs1")),
        ("danRer11", ucsc("danRer11")),
        ("ucsc:hg38", ucsc("hg38")),
        ("ucsc:mpxvRivers", ucsc("mpxvRivers")),
        (
            "ensembl:homo_sapiens/GRCh38",
            [f"{ENSEMBL}/current_fasta/homo_sapiens/dna/Homo_sapiens.GRCh38.dna.toplevel.fa.gz"],
        ),
        (
            "ensembl:110:homo_sapiens/GRCh38",
            [f"{ENSEMBL}/release-110/fasta/homo_sapiens/dna/Homo_sapiens.GRCh38.dna.toplevel.fa.gz"],
        ),
        (
            "ensembl:110:saccharomyces_cerevisiae/R64-1-1/dna_sm.toplevel",
            [
                f"{ENSEMBL}/release-110/fasta/saccharomyces_cerevisiae/dna/"
                "Saccharomyces_cerevisiae.R64-1-1.dna_sm.toplevel.fa.gz"
            ],
        ),
        (
            "ensembl:canis_lupus_familiaris/ROS_Cfam_1.0/dna.chromosome.22",
            [
                f"{ENSEMBL}/current_fasta/canis_lupus_familiaris/dna/"
                "Canis_lupus_familiaris.ROS_Cfam_1.0.dna.chromosome.22.fa.gz"
            ],
        ),
        ("https://example.org/x.fa.gz?a=b", ["https://example.org/x.fa.gz?a=b"]),
        ("ftp://example.org/x.fa", ["ftp://example.org/x.fa"]),
        ("file:///x.fa", ["file:///x.fa"]),
    ],
)
def test_known_sources(source, addresses):
    assert resolve_source(source) == addresses


def test_existing_file_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hg38").write_text(">a\nACGT\n")
    assert resolve_source("hg38") == ["hg38"]
    assert resolve_source("ucsc:hg38") == ucsc("hg38")


@pytest.mark.parametrize("source", ["GCF_000005845", "NC_045512", "ncbi:U00096"])
def test_accession_without_version(source):
    with pytest.raises(InputError, match=f"{source.removeprefix('ncbi:')}: give the version too"):
        resolve_source(source)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "human",
        "genome.fa",
        "GRCh38",
        "HG38",
        "GCF_12.1",
        "ucsc:",
        "ucsc:a/b",
        "ensembl:homo_sapiens",
        "ensembl:Homo_sapiens/GRCh38",
        "ensembl:x:homo_sapiens/GRCh38",
        "ensembl:homo_sapiens/GRCh38/../../etc",
    ],
)
def test_unknown_source_lists_what_is_accepted(source):
    with pytest.raises(InputError) as caught:
        resolve_source(source)
    for accepted in ("GCF_000005845.2", "NC_045512.2", "hg38", "ensembl:110:", "http", ".2bit"):
        assert accepted in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "source"),
    [
        ("GENOTOK_NCBI_DATASETS_URL", "GCF_000005845.2"),
        ("GENOTOK_NCBI_EUTILS_URL", "NC_045512.2"),
        ("GENOTOK_UCSC_URL", "hg38"),
        ("GENOTOK_ENSEMBL_URL", "ensembl:110:homo_sapiens/GRCh38"),
    ],
)
def test_mirrors(monkeypatch, variable, source):
    usual = resolve_source(source)
    monkeypatch.setenv(variable, "http://mirror/base/")
    assert resolve_source(source) == [url.replace(ARCHIVES[variable], "http://mirror/base") for url in usual]

"""What a SOURCE on the command line means: an accession, an assembly name, an address or a file.

Each archive's address can be set by an environment variable, to use a mirror:

| variable | default |
|---|---|
| `GENOTOK_NCBI_DATASETS_URL` | `https://api.ncbi.nlm.nih.gov/datasets/v2` |
| `GENOTOK_NCBI_EUTILS_URL` | `https://eutils.ncbi.nlm.nih.gov/entrez/eutils` |
| `GENOTOK_UCSC_URL` | `https://hgdownload.soe.ucsc.edu/goldenPath` |
| `GENOTOK_ENSEMBL_URL` | `https://ftp.ensembl.org/pub` (Ensembl Plants, Fungi ... have the same layout) |
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from genotok.errors import InputError

ARCHIVES = {
    "GENOTOK_NCBI_DATASETS_URL": "https://api.ncbi.nlm.nih.gov/datasets/v2",
    "GENOTOK_NCBI_EUTILS_URL": "https://eutils.ncbi.nlm.nih.gov/entrez/eutils",
    "GENOTOK_UCSC_URL": "https://hgdownload.soe.ucsc.edu/goldenPath",
    "GENOTOK_ENSEMBL_URL": "https://ftp.ensembl.org/pub",
}

ACCEPTED = (
    "a FASTA or .2bit file, an http, https or ftp address, an NCBI assembly (GCF_000005845.2) or nucleotide "
    "accession (NC_045512.2), a UCSC assembly (hg38, ucsc:wuhCor1), or an Ensembl genome "
    "(ensembl:homo_sapiens/GRCh38, ensembl:110:homo_sapiens/GRCh38/dna.primary_assembly)"
)

_ASSEMBLY = re.compile(r"(?:ncbi:)?(?P<accession>GC[AF]_\d{9})(?P<version>\.\d+)?")
_NUCLEOTIDE = re.compile(
    r"(?:ncbi:)?(?P<accession>[A-Z]{2}_[A-Z]{0,6}\d{6,}|[A-Z]\d{5}|[A-Z]{2}\d{6,8}|[A-Z]{4,6}\d{8,})(?P<version>\.\d+)?"
)
# UCSC names an assembly after two letters of the genus (hg38) or three and three of the species (danRer11).
_UCSC = re.compile(
    r"(?:ucsc:(?P<chosen>[A-Za-z]\w+)|(?P<usual>[a-z]{2}\d{1,2}|[a-z]{3}[A-Z][a-z]{2}\d{1,2}))"
)
_ENSEMBL = re.compile(
    r"ensembl:(?:(?P<release>\d+):)?(?P<species>[a-z][a-z0-9_]+)/(?P<assembly>[\w.-]+?)"
    r"(?:/(?P<part>dna(?:_sm|_rm)?\.(?:toplevel|primary_assembly|nonchromosomal|chromosome\.[\w.-]+)))?"
)


def resolve_source(source: str) -> list[str]:
    """The addresses that a SOURCE stands for, in the order to try them.

    Accepted, the first that fits:
        - an address with `http://`, `https://`, `ftp://` or `file://`, as it is;
        - the path of an existing file (prefix an assembly name, `ucsc:hg38`, if a file has its name);
        - `GCF_000005845.2`, `GCA_...`, also with `ncbi:` before it: an NCBI assembly with its version. NCBI
          Datasets makes the zip archive anew for each request, so its checksum is not stable;
        - `NC_045512.2`, `U00096.3` ...: one NCBI nucleotide record with its version;
        - `hg38`, `mm39`, `danRer11`, or `ucsc:NAME` for any other: UCSC's `NAME.fa.gz`, and `NAME.2bit` where
          UCSC has no such file. Lower case is repeats;
        - `ensembl:[RELEASE:]SPECIES/ASSEMBLY[/PART]`: Ensembl's FASTA of that release, or the current one.
          PART is as in Ensembl's file names: `dna.toplevel` (default), `dna.primary_assembly` (without
          alternative haplotypes; human and mouse), `dna_sm.primary_assembly` (repeats in lower case),
          `dna.chromosome.22`.

    Args:
        source: what the user wrote.

    Returns:
        One or more addresses (or one path). A later one is meant only when an earlier one does not exist.

    Raises:
        InputError: nothing of the above, or an accession without its version.
    """
    source = source.strip()
    if "://" in source:
        return [source]
    if source and Path(source).exists():
        return [source]
    resolvers: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], list[str]]], ...] = (
        (_ASSEMBLY, _ncbi_assembly),
        (_NUCLEOTIDE, _ncbi_nucleotide),
        (_UCSC, _ucsc),
        (_ENSEMBL, _ensembl),
    )
    for pattern, resolver in resolvers:
        if found := pattern.fullmatch(source):
            return resolver(found)
    raise InputError(
        f"{source or 'the empty source'}: no such file, and no known kind of source; give {ACCEPTED}"
    )


def _base(variable: str) -> str:
    return os.environ.get(variable, ARCHIVES[variable]).rstrip("/")


def _versioned(found: re.Match[str]) -> str:
    accession, version = found["accession"], found["version"]
    if version is None:
        raise InputError(
            f"{accession}: give the version too, e.g. {accession}.1, so that the sequence is certain"
        )
    return accession + version


def _ncbi_assembly(found: re.Match[str]) -> list[str]:
    base = _base("GENOTOK_NCBI_DATASETS_URL")
    return [f"{base}/genome/accession/{_versioned(found)}/download?include_annotation_type=GENOME_FASTA"]


def _ncbi_nucleotide(found: re.Match[str]) -> list[str]:
    base = _base("GENOTOK_NCBI_EUTILS_URL")
    return [f"{base}/efetch.fcgi?db=nuccore&id={_versioned(found)}&rettype=fasta&retmode=text"]


def _ucsc(found: re.Match[str]) -> list[str]:
    name = found["chosen"] or found["usual"]
    folder = f"{_base('GENOTOK_UCSC_URL')}/{name}/bigZips"
    return [f"{folder}/{name}.fa.gz", f"{folder}/{name}.2bit"]


def _ensembl(found: re.Match[str]) -> list[str]:
    release = f"release-{found['release']}/fasta" if found["release"] else "current_fasta"
    species, part = found["species"], found["part"] or "dna.toplevel"
    file = f"{species.capitalize()}.{found['assembly']}.{part}.fa.gz"
    return [f"{_base('GENOTOK_ENSEMBL_URL')}/{release}/{species}/dna/{file}"]

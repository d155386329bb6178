"""Names that differ between sources and mean the same contig."""

import re
from collections.abc import Container, Iterator

_PREFIXES = ("", "chr", "Chr", "CHR")
_MITOCHONDRION = ("M", "MT", "Mito", "MtDNA", "mitochondrion_genome", "NC_012920.1")
_HUMAN = [*map(str, range(1, 23)), "X", "Y"]  # NC_000001 to NC_000024 in RefSeq
_HUMAN_ACCESSION = re.compile(r"NC_0000(0[1-9]|1\d|2[0-4])\.\d+")
_VERSIONS = range(8, 15)  # of these accessions from NCBI36 to GRCh38


def match_contig(name: str, contigs: Container[str]) -> str | None:
    """The name under which `contigs` holds the contig `name`, or None.

    The exact name wins. Otherwise a `chr` prefix is added or taken away (`1`, `chr1`, `Chr1`, `CHR1`), and
    the usual names of the mitochondrion stand for each other (`chrM`, `M`, `MT`, `chrMT`; `Mito` in
    Ensembl's yeast, `MtDNA` in its worm, `mitochondrion_genome` in its fly; `NC_012920.1` in RefSeq's human). The
    human chromosomes have their RefSeq accessions as well (`NC_000001.11` is `1`, `NC_000023.10` is `X`); two
    versions of an accession are different sequences and never match. Case is kept otherwise. Whether the
    sequences agree is not looked at: UCSC's hg19 `chrM` is another sequence than `MT` of GRCh37.

    Args:
        name: a contig name, e.g. from a VCF.
        contigs: the names to choose from; a dict or set, since it is asked `in` a few times per call.
    """
    candidates = (name, *_other_names(name))
    return next((candidate for candidate in candidates if candidate in contigs and candidate), None)


def _other_names(name: str) -> Iterator[str]:
    core = next((name[len(prefix) :] for prefix in _PREFIXES[1:] if name.startswith(prefix)), name)
    accession = _HUMAN_ACCESSION.fullmatch(name)
    if accession:
        core = _HUMAN[int(accession[1]) - 1]
    for one in _MITOCHONDRION if core in _MITOCHONDRION else (core,):
        yield from (prefix + one for prefix in _PREFIXES)
    if core in _HUMAN and not accession:
        yield from (f"NC_{_HUMAN.index(core) + 1:06d}.{version}" for version in _VERSIONS)

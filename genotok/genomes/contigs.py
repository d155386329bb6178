"""Names that differ between sources and mean the same contig."""

from collections.abc import Container

_PREFIXES = ("", "chr", "Chr", "CHR")
_MITOCHONDRION = ("M", "MT", "Mito", "MtDNA", "mitochondrion_genome")


def match_contig(name: str, contigs: Container[str]) -> str | None:
    """The name under which `contigs` holds the contig `name`, or None.

    The exact name wins. Otherwise a `chr` prefix is added or taken away (`1`, `chr1`, `Chr1`, `CHR1`), and
    the usual names of the mitochondrion stand for each other (`chrM`, `M`, `MT`, `chrMT`; `Mito` in
    Ensembl's yeast, `MtDNA` in its worm, `mitochondrion_genome` in its fly). Case is kept otherwise. Whether
    the sequences agree is not looked at: UCSC's hg19 `chrM` is another sequence than `MT` of GRCh37.

    Args:
        name: a contig name, e.g. from a VCF.
        contigs: the names to choose from; a dict or set, since it is asked `in` a few times per call.
    """
    if name in contigs:
        return name
    core = next((name[len(prefix) :] for prefix in _PREFIXES[1:] if name.startswith(prefix)), name)
    cores = _MITOCHONDRION if core in _MITOCHONDRION else (core,)
    candidates = (prefix + core for core in cores for prefix in _PREFIXES)
    return next((candidate for candidate in candidates if candidate in contigs and candidate), None)

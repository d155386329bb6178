"""Contig names of a VCF and those of a FASTA."""

from pathlib import Path

from genotok.errors import InputError
from genotok.genomes.fasta import Reference


def read_contig_aliases(path: str | Path, reference: Reference) -> dict[str, str]:
    """Read a table of two columns, separated by a tab: the VCF's name of a contig and the FASTA's.

    Empty lines and lines that begin with `#` do not count.

    Raises:
        InputError: the file cannot be read, a line has not two columns, a name stands twice, or the FASTA has
            no such contig; names the line.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a table of contig names: {error}") from error
    aliases: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        names = line.split("\t")
        if len(names) != 2:
            raise InputError(f"{path}: line {number}: write the VCF's name, a tab and the FASTA's name")
        if names[0] in aliases:
            raise InputError(f"{path}: line {number}: {names[0]} stands there twice; remove one line")
        if names[1] not in reference.contigs:
            raise InputError(f"{path}: line {number}: {reference.path} has no contig {names[1]}")
        aliases[names[0]] = names[1]
    return aliases

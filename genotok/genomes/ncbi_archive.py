"""The genome inside a zip archive, as NCBI Datasets sends it (`ncbi_dataset/data/<accession>/*.fna`)."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from genotok.errors import InputError
from genotok.genomes.formats import BLOCK

SUFFIXES = (".fna", ".fa", ".fasta")
NOT_GENOMIC = ("cds_from_genomic.fna", "rna.fna", "gene.fna", "protein.fna")


def read_archive(path: str | Path, label: str | None = None) -> Iterator[bytes]:
    """The text of all genomic FASTA members of a zip archive, in the order of their names.

    Args:
        path: the archive.
        label: how error sentences call the file; default the path.

    Yields:
        Blocks of decompressed text, each member ending with a line end.

    Raises:
        InputError: the archive is damaged (each member's checksum is verified) or holds no genomic FASTA.
    """
    label = label or str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _genomic(archive.namelist())
            if not members:
                inside = ", ".join(archive.namelist()[:5]) or "nothing"
                raise InputError(
                    f"{label}: the archive holds no genomic FASTA, but {inside}; check the accession"
                )
            for member in members:
                with archive.open(member) as handle:
                    while block := handle.read(BLOCK):
                        yield block
                yield b"\n"
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{label}: is a damaged zip archive ({error}); get the file again") from error


def _genomic(names: list[str]) -> list[str]:
    """The members that hold the genome, leaving out coding sequences and transcripts."""
    paths = [PurePosixPath(name) for name in sorted(names)]
    return [str(p) for p in paths if p.suffix in SUFFIXES and p.name not in NOT_GENOMIC]

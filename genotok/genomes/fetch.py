"""A genome from anywhere to an indexed FASTA on disk."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from genotok.errors import InputError
from genotok.genomes.download import AddressNotFound, checksum_complaint, download, local_path
from genotok.genomes.fasta_index import index_fasta
from genotok.genomes.fasta_text import fasta_records, write_fasta
from genotok.genomes.formats import genome_format, read_blocks
from genotok.genomes.ncbi_archive import read_archive
from genotok.genomes.sources import resolve_source
from genotok.genomes.twobit import read_twobit

WRONG_SUFFIXES = (".zip", ".2bit", ".bz2", ".xz", ".zst", ".fai", ".gzi")


def fetch_genome(
    source: str,
    target: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    **patience: float,
) -> Path:
    """Get a genome and write it as FASTA with its index.

    The source is downloaded beside the target (a local file is read where it lies), its checksum is
    verified, every letter is checked, and the genome is rewritten with lines of 60 letters. `target` appears
    last, after `target.fai` and `target.gzi`, so its presence means that all is done. The same source gives
    the same bytes.

    Args:
        source: what `resolve_source` accepts; FASTA (plain, gzip, BGZF), .2bit, or a zip from NCBI Datasets.
        target: the file to write: BGZF when its name ends in `.gz` or `.bgz`, else plain. May be the source.
        sha256: expected SHA-256 of the source's bytes as downloaded (not of the target), in hexadecimal.
        md5: likewise MD5.
        patience: `timeout`, `retries`, `backoff` and `longest_wait`, as `genotok.genomes.download.download` takes
            them.

    Returns:
        `target`.

    Raises:
        InputError: an unknown source, a download that does not succeed, a wrong checksum, or no valid genome.
            Nothing is left but, after a broken download, the hidden part from which the next call goes on.
    """
    target = Path(target)
    if target.name.endswith(WRONG_SUFFIXES) or target.is_dir():
        raise InputError(f"{target}: cannot be the output; name a file NAME.fa.gz or NAME.fa")
    addresses = resolve_source(source)
    local = local_path(addresses[0])
    if local is not None:
        if not local.is_file():
            raise InputError(f"{local}: is no file; give a genome")
        if complaint := checksum_complaint(local, sha256, md5):
            raise InputError(f"{local}: {complaint}")
        _convert(local, target, str(local))
        return target
    downloaded = target.with_name(f".{target.name}.download")
    try:
        address = _download_first(addresses, downloaded, sha256=sha256, md5=md5, **patience)
        _convert(downloaded, target, address)
    finally:
        downloaded.unlink(missing_ok=True)
    return target


def download_source(source: str, target: str | Path, **options: Any) -> Path:
    """Download what a source names as it is, for machines where only one node reaches the network.

    `fetch_genome` makes an indexed FASTA of the file later. Arguments and errors are those of `fetch_genome`.

    Returns:
        `target`, whose bytes can be those of a genome: a web page is refused.
    """
    target = Path(target)
    address = _download_first(resolve_source(source), target, **options)
    try:
        genome_format(target, str(address))
    except InputError:
        target.unlink()
        raise
    return target


def _download_first(addresses: list[str], target: Path, **options: Any) -> str:
    """Download the first address that exists; returns it."""
    for address in addresses[:-1]:
        try:
            download(address, target, **options)
            return address
        except AddressNotFound:
            continue
    download(addresses[-1], target, **options)
    return addresses[-1]


def _convert(source: Path, target: Path, label: str) -> None:
    """Rewrite `source` as `target` with its index, the target last."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workplace = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from error
    with workplace as folder:
        genome = Path(folder) / target.name
        write_fasta(_genome_records(source, label), genome, label)
        index = index_fasta(genome, checked=True)
        for made in (index.gzi, index.fai, genome):
            if made is not None:
                os.replace(made, target.with_name(made.name))


def _genome_records(path: Path, label: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The contigs of a file in any of the accepted formats."""
    kind = genome_format(path, label)
    if kind == "2bit":
        return read_twobit(path, label)
    text = read_archive(path, label) if kind == "zip" else read_blocks(path, label)
    return fasta_records(text, label)

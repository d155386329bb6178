"""Which kind of sequence file this is, told from its bytes, and its decompressed text in blocks."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genotok.errors import InputError

BLOCK = 1 << 17
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
TWOBIT_SIGNATURES = (b"\x1a\x41\x27\x43", b"\x43\x27\x41\x1a")

ZSTD = b"\x28\xb5\x2f\xfd"
FOREIGN = {
    b"BZh": "is compressed with bzip2; decompress it first",
    b"\xfd7zXZ\x00": "is compressed with xz; decompress it first",
    b"CRAM": "holds aligned reads (CRAM), not a genome; give the FASTA that they were aligned to",
}


_ENDINGS = {
    "fasta": (".fa", ".fasta", ".fna", ".ffn", ".faa", ".frn", ".fas"),
    "fastq": (".fq", ".fastq"),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "json": (".json",),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet",),
}
SEQUENCE_FORMATS = tuple(_ENDINGS)
_COMPRESSED = (".gz", ".bgz", ".zst")


def bare_name(name: str) -> str:
    """The last part of a path or an address, without the endings of a format and of compression."""
    name = _last_part(name)
    for endings in (_COMPRESSED, *_ENDINGS.values()):
        name = next((name[: -len(one)] for one in endings if name.endswith(one)), name)
    return name


def named_format(name: str) -> str | None:
    """The format that the ending of a path or an address speaks of, one of `SEQUENCE_FORMATS`, or None."""
    name = _last_part(name)
    name = next((name[: -len(one)] for one in _COMPRESSED if name.endswith(one)), name)
    return next((kind for kind, endings in _ENDINGS.items() if name.endswith(endings)), None)


def _last_part(name: str) -> str:
    if "://" in name:
        name = name.split("?")[0].split("#")[0]
    return name.rstrip("/").rsplit("/", 1)[-1]


def genome_format(path: str | Path, label: str | None = None) -> str:
    """The format of a genome file, told from its first bytes and never from its suffix.

    Args:
        path: the file.
        label: how error sentences call the file, e.g. the address it came from; default the path.

    Returns:
        `fasta`, `gzip` or `bgzf` (FASTA compressed so), `2bit`, or `zip`.

    Raises:
        InputError: the file is absent, empty, a web page, or anything else that cannot hold a genome.
    """
    path, label = Path(path), label or str(path)
    head = _head(path, label)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(TWOBIT_SIGNATURES):
        return "2bit"
    for magic, complaint in (FOREIGN | {ZSTD: "is compressed with zstd; decompress it first"}).items():
        if head.startswith(magic):
            raise InputError(f"{label}: {complaint}")
    kind = "fasta"
    if head.startswith(b"\x1f\x8b"):
        kind = "bgzf" if head[3:4] == b"\x04" and head[12:16] == b"BC\x02\x00" else "gzip"
        head = _decompressed_head(head)
    complaint = not_fasta_because(head)
    if complaint:
        raise InputError(f"{label}: {complaint}")
    return kind


def is_genome(path: str | Path) -> bool:
    """Whether the file starts as a genome does; `genome_format` says why it does not."""
    try:
        genome_format(path)
    except InputError:
        return False
    return True


def _head(path: Path, label: str) -> bytes:
    """The first 64 KiB of a file."""
    try:
        with open(path, "rb") as handle:
            return handle.read(1 << 16)
    except OSError as error:
        raise InputError(f"{label}: cannot be read: {error.strerror}") from error


def _decompressed_head(head: bytes) -> bytes:
    """What the start of a gzip file holds; empty when it is damaged from the beginning."""
    text = b""
    try:
        while head.startswith(b"\x1f\x8b") and not text.strip():
            member = zlib.decompressobj(wbits=31)
            text += member.decompress(head, 1 << 16)
            head = member.unused_data
    except zlib.error:
        pass
    return text


def not_fasta_because(head: bytes) -> str | None:
    """Why these first bytes cannot start a FASTA file, or None when they can."""
    text = head.lstrip(b"\r\n \t")
    if text.startswith(b">"):
        return None
    if not text:
        return "is empty"
    if text.startswith(b"<"):
        return "is a web page or XML, not a genome; check the address"
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it and give the FASTA file"
    if text.startswith(b"@"):
        return "holds reads (FASTQ or SAM), not a genome; give a FASTA file"
    if b"\0" in head or sum(byte < 9 or 13 < byte < 32 for byte in text[:1000]) > 10:
        return "is binary, not FASTA"
    first_line = text.splitlines()[0][:40].decode("latin-1")
    return f"starts with {first_line!r} instead of a FASTA header ('>name'); give a FASTA file"


def read_blocks(path: str | Path, label: str | None = None) -> Iterator[bytes]:
    """The decompressed bytes of a plain, gzip or BGZF FASTA file, in blocks of at most 128 KiB.

    Args:
        path: the file.
        label: how error sentences call the file; default the path.

    Raises:
        InputError: the file is of another kind, truncated, or damaged.
    """
    label = label or str(path)
    kind = genome_format(path, label)
    if kind in ("zip", "2bit"):
        raise InputError(f"{label}: is a {kind} file; convert it with: genotok fetch {path} -o NAME.fa.gz")
    if kind == "bgzf" and not _ends_with(path, BGZF_END):
        raise InputError(f"{label}: is truncated (the BGZF end marker is missing); get the file again")
    with sentences_of_gzip(label), open(path, "rb") if kind == "fasta" else gzip.open(path, "rb") as handle:
        while block := handle.read(BLOCK):
            yield block


@contextmanager
def sentences_of_gzip(label: str) -> Iterator[None]:
    """Say in a sentence why a file that may be compressed with gzip cannot be read to its end.

    Raises:
        InputError: it is truncated or damaged, or cannot be read at all.
    """
    try:
        yield
    except EOFError as error:
        raise InputError(f"{label}: is truncated (the gzip stream breaks off); get the file again") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{label}: is damaged ({error}); get the file again") from error
    except OSError as error:
        raise InputError(f"{label}: cannot be read: {error.strerror}") from error


def _ends_with(path: str | Path, ending: bytes) -> bool:
    with open(path, "rb") as handle:
        handle.seek(0, 2)
        handle.seek(max(0, handle.tell() - len(ending)))
        return handle.read() == ending

"""The faidx index of a FASTA: made, found, and checked against the file that it describes.

Formats: `.fai` as in the samtools manual page faidx(5), `.gzi` as in bgzip(1).
"""

import bisect
import gzip
import hashlib
import logging
import os
import struct
import tempfile
from pathlib import Path
from typing import NamedTuple

import pysam

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.genomes.fasta_text import read_fasta
from genotok.genomes.formats import genome_format

log = logging.getLogger(__name__)

_LOOK = 4096  # bytes that are looked at before and behind a contig


class Index(NamedTuple):
    """Where the index files of one FASTA lie; `gzi` is None for a plain file."""

    fai: Path
    gzi: Path | None


def index_beside(path: str | Path) -> Index:
    """The index files' usual places: `<path>.fai`, and for BGZF `<path>.gzi`."""
    path = Path(path)
    bgzf = genome_format(path) == "bgzf"
    return Index(path.with_name(path.name + ".fai"), path.with_name(path.name + ".gzi") if bgzf else None)


def index_fasta(path: str | Path, index: Index | None = None, *, checked: bool = False) -> Index:
    """Write the `.fai` index of a FASTA, and the `.gzi` index of a BGZF one, as `samtools faidx` does.

    Records without sequence get no line in the index, as in samtools; as the last record they make it fail.

    Args:
        path: a plain or BGZF FASTA.
        index: where to write; default beside the file.
        checked: the file is known to be a valid FASTA. Otherwise it is read once through `read_fasta` first,
            because faidx itself drops repeated names without an error.

    Raises:
        InputError: a plain gzip file, lines of different widths inside one contig, an empty last record, all
            that `read_fasta` raises, or a directory that cannot be written to.
    """
    path = Path(path)
    if genome_format(path) not in ("fasta", "bgzf"):
        raise InputError(recompress_advice(path, "is not plain or BGZF FASTA, so it cannot be indexed"))
    if not checked and sum(len(block) for _, blocks in read_fasta(path) for block in blocks) == 0:
        raise InputError(f"{path}: holds no bases; give a FASTA with sequence")
    index = index or index_beside(path)
    with atomic_path(index.fai) as fai:
        if index.gzi is None:
            _faidx(path, "--fai-idx", str(fai))
        else:
            with atomic_path(index.gzi) as gzi:
                _faidx(path, "--fai-idx", str(fai), "--gzi-idx", str(gzi))
    return index


def _faidx(path: Path, *options: str) -> None:
    verbosity = pysam.set_verbosity(0)
    try:
        pysam.faidx(*options, str(path))
    except pysam.SamtoolsError as error:
        raise InputError(
            recompress_advice(
                path, "has lines of different widths or an empty last record, so it cannot be indexed"
            )
        ) from error
    finally:
        pysam.set_verbosity(verbosity)


def recompress_advice(path: Path, complaint: str) -> str:
    """An error sentence with the command that turns the file into an indexed BGZF FASTA."""
    plain = path.name.removesuffix(".gz").removesuffix(".zip")
    return f"{path}: {complaint}; rewrite it with: genotok fetch {path} -o {Path(plain).stem}.bgzf.fa.gz"


def usable_index(path: Path) -> Index:
    """The index beside the file or in the temporary directory, made anew when absent or stale."""
    beside = index_beside(path)
    if _fits(path, beside):
        return beside
    if beside.fai.exists():
        log.warning("%s: is older than %s or not of it, and is not used", beside.fai, path.name)
    if _may_write(path.parent):
        return index_fasta(path, beside)
    private = _private_index(path, beside.gzi is not None)
    return private if _fits(path, private) else index_fasta(path, private)


def _may_write(folder: Path) -> bool:
    """Whether files may be made in a folder; one marked read-only for all is respected by root too."""
    marked = folder.stat().st_mode & 0o222
    return bool(marked) and os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _private_index(path: Path, bgzf: bool) -> Index:
    """A place for the index of a file in a read-only directory, named after the file's identity."""
    folder = Path(tempfile.gettempdir()) / f"genotok-index-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: has no usable index, and none can be made in {folder}: {error.strerror}"
        ) from error
    if folder.lstat().st_uid != os.geteuid():
        raise InputError(f"{folder}: belongs to another user; set TMPDIR to a directory of your own")
    state = path.stat()
    identity = f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    name = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return Index(folder / f"{name}.fai", folder / f"{name}.gzi" if bgzf else None)


class _Entry(NamedTuple):
    """One line of a `.fai`: see the samtools manual, faidx."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_bytes: int

    @property
    def end(self) -> int:
        """Offset just behind the contig's last letter."""
        rows, rest = divmod(self.length, self.line_bases)
        return self.offset + rows * self.line_bytes + (rest or self.line_bases - self.line_bytes)


def _fits(path: Path, index: Index) -> bool:
    """Whether an index is newer than its FASTA and its first and last contig are where it says."""
    files = [index.fai] if index.gzi is None else [index.fai, index.gzi]
    try:
        if any(file.stat().st_mtime_ns < path.stat().st_mtime_ns for file in files):
            return False
        lines = [line.split("\t") for line in index.fai.read_text().splitlines()]
        first, last = (_Entry(name, *map(int, numbers)) for name, *numbers in (lines[0], lines[-1]))
        return all(
            _header_precedes(path, index.gzi, entry) and _ends_in_place(path, index.gzi, entry, entry is last)
            for entry in (first, last)
        )
    except (OSError, EOFError, ValueError, TypeError, IndexError, ArithmeticError, struct.error):
        return False  # absent, or not an index of this file at all


def _header_precedes(path: Path, gzi: Path | None, entry: _Entry) -> bool:
    """Whether the line before the contig's first letter is its header (a very long one is taken on trust)."""
    before = _bytes_at(path, gzi, max(0, entry.offset - _LOOK), entry.offset)
    if not before.endswith(b"\n"):
        return False
    lines = before.rstrip().split(b"\n")
    if len(lines) == 1 and entry.offset > _LOOK:
        return True
    return lines[-1].split(maxsplit=1)[:1] == [b">" + entry.name.encode()]


def _ends_in_place(path: Path, gzi: Path | None, entry: _Entry, last: bool) -> bool:
    """Whether the contig's last letter is one, and a header or the end of the file follows its line."""
    text = _bytes_at(path, gzi, entry.end - 1, entry.end + _LOOK)
    rest = text[1:]
    followed = rest.strip()[:1] in ((b"",) if last else (b"", b">"))
    return text[:1].isalpha() and rest[:1] in (b"", b"\r", b"\n") and followed


def _bytes_at(path: Path, gzi: Path | None, start: int, end: int) -> bytes:
    """Uncompressed bytes `[start, end)` of a plain FASTA, or of a BGZF one through its `.gzi`."""
    if gzi is None:
        with open(path, "rb") as handle:
            handle.seek(start)
            return handle.read(end - start)
    raw = gzi.read_bytes()
    if struct.unpack_from("<Q", raw) != ((len(raw) - 8) / 16,):
        raise ValueError(f"{gzi} does not hold as many entries as it says")
    pairs = [(0, 0), *struct.iter_unpack("<QQ", raw[8:])]
    compressed, uncompressed = pairs[bisect.bisect_right([pair[1] for pair in pairs], start) - 1]
    with open(path, "rb") as handle:
        handle.seek(compressed)
        with gzip.GzipFile(fileobj=handle) as text:
            text.read(start - uncompressed)
            return text.read(end - start)

"""The faidx index of a FASTA: made, found, and checked against the file that it describes.

Formats: `.fai` as in the samtools manual page faidx(5), `.gzi` as in bgzip(1).
"""

import bisect
import gzip
import hashlib
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import pysam

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.genomes.fasta_text import read_fasta
from genotok.genomes.formats import genome_format

_LOOK = 4096  # bytes that are looked at before and behind a contig
_CONTIGS_LOOKED_AT, _ROWS_LOOKED_AT = 64, 8


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
    """The index beside the file, or one in the temporary directory; made where there is none.

    An index counts by what it says, not by its age: copies and checkouts of repositories give files any date.

    Raises:
        InputError: the index beside the file is not of this file.
    """
    beside = index_beside(path)
    if beside.fai.exists() and not (beside.gzi and not beside.gzi.exists()):
        if not _fits(path, beside):
            raise _stale(path, beside)
        return beside
    if _may_write(path.parent):
        return _missing_part(path, beside) if beside.fai.exists() else index_fasta(path, beside)
    if beside.fai.exists():
        beside = Index(beside.fai, _private_index(path, True).gzi)
        return beside if _fits(path, beside) else _missing_part(path, beside)
    private = _private_index(path, beside.gzi is not None)
    return private if _fits(path, private) else index_fasta(path, private)


def _stale(path: Path, index: Index) -> InputError:
    gzi = f" and {index.gzi.name}" if index.gzi else ""
    return InputError(
        f"{index.fai}: is not the index of {path.name} as it is now, so that letters would be read at wrong places; "
        f"remove it{gzi}, or write it anew with: samtools faidx {path}"
    )


def _missing_part(path: Path, index: Index) -> Index:
    """Write the `.gzi` that a BGZF FASTA lacks beside its `.fai`, and see that the latter fits."""
    with tempfile.TemporaryDirectory(dir=index.gzi.parent, prefix=f".{path.name}.") as folder:
        made = index_fasta(path, Index(Path(folder) / "fai", Path(folder) / "gzi"))
        if not _fits(path, Index(index.fai, made.gzi)):
            raise _stale(path, index)
        os.replace(made.gzi, index.gzi)
    return index


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
    """Whether contigs and lines are where an index says, at up to 64 contigs, the first and the last among them."""
    try:
        text = _Text(path, index.gzi)
        lines = [line.split("\t") for line in index.fai.read_text().splitlines()]
        entries = [_Entry(name, *map(int, numbers)) for name, *numbers in lines]
        number = min(len(entries), _CONTIGS_LOOKED_AT)
        chosen = {i * (len(entries) - 1) // max(1, number - 1) for i in range(number)} | {len(entries) - 1}
        return all(
            _header_precedes(text, entries[i])
            and _lines_break(text, entries[i])
            and _ends_in_place(text, entries[i], i == len(entries) - 1)
            for i in sorted(chosen)
        )
    except (OSError, EOFError, ValueError, TypeError, IndexError, ArithmeticError, struct.error, zlib.error):
        return False  # absent, or not an index of this file at all


def _header_precedes(text: "_Text", entry: _Entry) -> bool:
    """Whether the line before the contig's first letter is its header (a very long one is taken on trust)."""
    before = text.read(max(0, entry.offset - _LOOK), entry.offset)
    if not before.endswith(b"\n"):
        return False
    lines = before.rstrip().split(b"\n")
    if len(lines) == 1 and entry.offset > _LOOK:
        return True
    return lines[-1].split(maxsplit=1)[:1] == [b">" + entry.name.encode()]


def _lines_break(text: "_Text", entry: _Entry) -> bool:
    """Whether lines end where lines of this width do, at some places of the contig."""
    rows = (entry.length - 1) // entry.line_bases  # that are followed by another one
    for i in range(min(rows, _ROWS_LOOKED_AT)):
        row = i * (rows - 1) // max(1, min(rows, _ROWS_LOOKED_AT) - 1)
        last = entry.offset + row * entry.line_bytes + entry.line_bases - 1
        found = text.read(last, last + 2 + entry.line_bytes - entry.line_bases)
        if not (_is_letter(found[:1]) and not found[1:-1].strip() and _is_letter(found[-1:])):
            return False
    return True


def _ends_in_place(text: "_Text", entry: _Entry, last: bool) -> bool:
    """Whether the contig's last letter is one, and a header or the end of the file follows its line."""
    found = text.read(entry.end - 1, entry.end + _LOOK)
    rest = found[1:]
    followed = rest.strip()[:1] in ((b"",) if last else (b"", b">"))
    return _is_letter(found[:1]) and rest[:1] in (b"", b"\r", b"\n") and followed


def _is_letter(found: bytes) -> bool:
    return found.strip() not in (b"", b">")


class _Text:
    """The bytes of a plain FASTA, or of a BGZF one through its `.gzi`."""

    def __init__(self, path: Path, gzi: Path | None):
        self.path = path
        self._blocks = [(0, 0)]
        if gzi is not None:
            raw = gzi.read_bytes()
            if struct.unpack_from("<Q", raw) != ((len(raw) - 8) / 16,):
                raise ValueError(f"{gzi} does not hold as many entries as it says")
            self._blocks += struct.iter_unpack("<QQ", raw[8:])
        self._begins = None if gzi is None else [begin for _, begin in self._blocks]

    def read(self, start: int, end: int) -> bytes:
        """Uncompressed bytes `[start, end)`."""
        if start < 0:
            raise ValueError("there is nothing in front of a file")
        with open(self.path, "rb") as handle:
            if self._begins is None:
                handle.seek(start)
                return handle.read(end - start)
            compressed, uncompressed = self._blocks[bisect.bisect_right(self._begins, start) - 1]
            handle.seek(compressed)
            with gzip.GzipFile(fileobj=handle) as text:
                text.read(start - uncompressed)
                return text.read(end - start)

"""Reading variants, record by record: VCF as text, plain or compressed, and BCF through htslib.

The text of a VCF is kept as it stands. htslib would round its numbers to six digits and declare what its
header lacks; only BCF, which has no text of its own, takes that way.
"""

import gzip
import io
import os
import shutil
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import pysam

from genotok.errors import InputError
from genotok.genomes.formats import BGZF_END, sentences_of_gzip
from genotok.variants.vcf_header import VcfHeader

_GZIP, _VCF, _BCF = b"\x1f\x8b", b"##fileformat=VCF", b"BCF"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # what editors on Windows put in front of a text
_START = 1 << 16  # bytes in which the kind of a file shows; a block of BGZF is no longer
_POSITION_DIGITS = 18
_CONTIG, _POSITION, _REF, _ALT = 0, 1, 3, 4
INFO = 7
Item = TypeVar("Item")
BLOCK_RECORDS = 256  # of a file, counted from its first: where blocks end in any case, and pieces may be cut


class Record:
    """One record: its columns up to INFO, and the samples' columns as one.

    Attributes:
        columns: the text of each column, without the line's end.
    """

    __slots__ = ("columns",)

    def __init__(self, line: bytes):
        self.columns = line.split(b"\t", INFO + 1)

    @property
    def contig(self) -> str:
        """The name in CHROM."""
        return self.columns[_CONTIG].decode("utf-8", "replace")

    @property
    def position(self) -> int:
        """POS, 1-based; 0 stands for the end in front of the contig."""
        return int(self.columns[_POSITION])

    @property
    def ref(self) -> bytes:
        """The REF allele as it stands there."""
        return self.columns[_REF]

    @property
    def alts(self) -> list[bytes]:
        """The ALT alleles as they stand there; none where the column is `.`."""
        alt = self.columns[_ALT]
        return [] if alt == b"." else alt.split(b",")

    @property
    def line(self) -> bytes:
        """The whole line with its end."""
        return b"\t".join(self.columns) + b"\n"


class VcfInput:
    """An opened VCF or BCF.

    Attributes:
        label: how error sentences call it.
        header: its header, less what it says of a piece.
        piece: which piece of a VCF it is; None for a whole one.
        columns: how many columns the header has.
    """

    def __init__(self, label: str, lines: Iterator[bytes]):
        self.label = label
        self._lines = enumerate(lines, 1)
        self.header = VcfHeader(self._header_lines())
        self.piece, self.header.piece = self.header.piece, None
        self.columns = self.header.columns.count(b"\t") + 1
        if any("\ufffd" in name for name in self.header.contigs):
            raise InputError(f"{label}: has a contig in its header whose name is not UTF-8 text; rename it")

    def _header_lines(self) -> Iterator[bytes]:
        for number, line in self._lines:
            line = line.rstrip(b"\r\n")
            yield line
            if line.startswith(b"#CHROM"):
                if line.count(b"\t") < INFO:
                    raise self._at(number, "#CHROM is to be followed by 7 more columns, separated by tabs")
                return
            if not line.startswith(b"##"):
                raise self._at(number, "is no header line, and #CHROM has not come yet")
            if b"\r" in line:
                raise self._at(number, "has old Macintosh line ends; convert them to \\n")
        raise InputError(f"{self.label}: ends inside its header; get the file again")

    def _at(self, number: int, complaint: str) -> InputError:
        return InputError(f"{self.label}: line {number}: {complaint}")

    def __iter__(self) -> Iterator[Record]:
        """The records in their order, of a piece of a VCF its own.

        Raises:
            InputError: a line has not the columns of the header, a zero byte, no name in CHROM or no number in POS;
            names the line.
        """
        return records_of_lines(self._own_lines(), self.columns, self.label)

    def with_context(self) -> Iterator[Record]:
        """As the iterator, with the records that a piece of a VCF holds for the sake of its own."""
        return records_of_lines(self._lines, self.columns, self.label)

    def own(self, items: Iterator[Item]) -> Iterator[Item]:
        """Of what there is one of for each record of `with_context`, that of the piece's own records."""
        piece = self.piece
        return islice(items, piece.before, piece.before + piece.records) if piece else items

    def _own_lines(self) -> Iterator[tuple[int, bytes]]:
        return self.own(self._lines)

    def blocks(self, alleles: int, size: int) -> "Iterator[Block]":
        """The records in their order, as blocks of lines that nobody has looked at.

        Where a block ends depends on the records alone, and one ends behind every `BLOCK_RECORDS`-th record in any
        case: a file that begins behind such a record is cut at the same places, and scored to the same last digit.

        Args:
            alleles: a block ends behind so many ALT alleles,
            size: or so many bytes.
        """
        first, lines, found, length, records = 0, [], 0, 0, 0
        for number, line in self._own_lines():
            first = first or number
            lines.append(line)
            records += bool(line.strip())
            found += 1 + b"".join(line.split(b"\t", _ALT + 1)[_ALT : _ALT + 1]).count(b",")
            length += len(line)
            full = records == BLOCK_RECORDS
            if full or found >= alleles or length >= size:
                records = 0 if full else records
                yield Block(first, b"".join(lines))
                first, lines, found, length = 0, [], 0, 0
        if lines:
            yield Block(first, b"".join(lines))


class Block(NamedTuple):
    """Consecutive lines of a VCF: the number of the first of them, and all with their ends."""

    first: int
    text: bytes

    def records(self, columns: int, label: str) -> Iterator[Record]:
        """See `records_of_lines`."""
        return records_of_lines(enumerate(self.text.split(b"\n"), self.first), columns, label)


def records_of_lines(lines: Iterable[tuple[int, bytes]], columns: int, label: str) -> Iterator[Record]:
    """The records on numbered lines; empty lines hold none.

    Args:
        lines: number and text.
        columns: how many columns the header has.
        label: how error sentences call the file.

    Raises:
        InputError: a line has not the columns of the header, a zero byte, no name in CHROM or no number in POS;
            names the line.
    """
    contig = b""
    for number, line in lines:
        line = line.rstrip(b"\r\n")
        if not line:
            continue
        found = line.count(b"\t") + 1
        if found != columns:
            raise InputError(
                f"{label}: line {number}: has {found} columns, and the header has {columns}; is the file truncated?"
            )
        record = Record(line)
        if b"\0" in line or record.columns[_CONTIG] != contig or not _is_position(record.columns[_POSITION]):
            contig = record.columns[_CONTIG]
            complaint = _complaint(record)
            if complaint:
                raise InputError(f"{label}: line {number}: {complaint}")
        yield record


def _complaint(record: Record) -> str:
    contig, position = record.columns[_CONTIG], record.columns[_POSITION]
    if any(b"\0" in column for column in record.columns):
        return "holds a zero byte; the file is damaged, get it again"
    if not contig or "\ufffd" in record.contig:
        return f"CHROM is {_shown(contig)}, not the name of a contig"
    if not position.isdigit():
        return f"POS is {_shown(position)}, not a number"
    return "" if _is_position(position) else f"POS is {_shown(position)}, and no contig is that long"


def _is_position(text: bytes) -> bool:
    """Whether this is a whole number that htslib reads, which it does up to 18 digits."""
    return len(text) <= _POSITION_DIGITS and text.isdigit()


def _shown(text: bytes) -> str:
    shown = text[:20].decode("utf-8", "replace")
    return repr(shown) if len(text) <= 20 else f"{shown!r}... ({len(text)} characters)"


@contextmanager
def open_vcf(vcf: str | Path) -> Iterator[VcfInput]:
    """Open a VCF (plain, gzip or BGZF) or a BCF; `-` is standard input. Kinds are told apart by their bytes.

    A byte order mark in front of the text is left out.

    Raises:
        InputError: the file is absent, truncated, damaged, or no VCF.
    """
    label = "standard input" if str(vcf) == "-" else str(vcf)
    with quiet_htslib(), _opened(vcf, label) as source:
        start = source.read(_START)  # a pipe gives less to peek
        stream = io.BufferedReader(_Rewound(start, source), _START)
        compressed = start.startswith(_GZIP)
        text = _decompressed(start) if compressed else start
        if text.startswith(_BCF):
            lines = _bcf_lines(vcf if _is_file(source, vcf) else stream, label)
        elif text.removeprefix(_BYTE_ORDER_MARK).startswith(_VCF):
            lines = _text_lines(gzip.GzipFile(fileobj=stream) if compressed else stream, label)
        else:
            raise InputError(f"{label}: {_why_no_vcf(start)}")
        yield VcfInput(label, lines)


class _Rewound(io.RawIOBase):
    """A stream of which the start has been read, from its beginning."""

    def __init__(self, start: bytes, rest: BinaryIO):
        self._start, self._rest = memoryview(start), rest

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:
        if not self._start:
            return self._rest.readinto(into)
        count = min(len(into), len(self._start))
        into[:count] = self._start[:count]
        self._start = self._start[count:]
        return count


def _is_file(source: BinaryIO, vcf: str | Path) -> bool:
    """Whether a file can be opened once more by its name."""
    return str(vcf) != "-" and source.seekable()


@contextmanager
def _opened(vcf: str | Path, label: str) -> Iterator[BinaryIO]:
    if str(vcf) == "-":
        yield sys.stdin.buffer
        return
    try:
        with open(vcf, "rb") as stream:
            _refuse_truncated(stream, label)
            yield stream
    except OSError as error:
        if error.filename != str(vcf):
            raise
        raise InputError(f"{label}: cannot be read: {error.strerror}") from error


def _refuse_truncated(stream: BinaryIO, label: str) -> None:
    """A BGZF file that was cut between two blocks looks whole but for the empty block at its end."""
    start = stream.peek(18) if stream.seekable() else b""
    if not (start.startswith(_GZIP) and start[12:16] == b"BC\x02\x00"):
        return
    stream.seek(-min(len(BGZF_END), stream.seek(0, 2)), 2)
    whole = stream.read() == BGZF_END
    stream.seek(0)
    if not whole:
        raise InputError(f"{label}: is truncated (the BGZF end marker is missing); get the file again")


def _decompressed(start: bytes) -> bytes:
    """The first letters of a gzip file; members in front of them may be empty."""
    text = b""
    try:
        while start.startswith(_GZIP) and not text:
            member = zlib.decompressobj(wbits=31)
            text = member.decompress(start, len(_BYTE_ORDER_MARK + _VCF))
            start = member.unused_data
    except zlib.error:
        pass
    return text


def _why_no_vcf(start: bytes) -> str:
    if not start:
        return "is empty; give a VCF"
    if start.startswith(_GZIP):
        return "is compressed and holds no VCF (its text should begin with ##fileformat=VCF)"
    return f"begins with {start[:20].decode('latin-1')!r} and not with ##fileformat=VCF, so it is no VCF"


def _text_lines(stream: BinaryIO, label: str) -> Iterator[bytes]:
    with sentences_of_gzip(label):
        first = stream.readline()
        yield first.removeprefix(_BYTE_ORDER_MARK)
        yield from stream


def _bcf_lines(source: str | Path | BinaryIO, label: str) -> Iterator[bytes]:
    """The lines of a BCF as htslib writes them in VCF."""
    try:
        place = str(source) if isinstance(source, str | Path) else _through_pipe(source)
        with pysam.VariantFile(place) as records:
            yield from str(records.header).encode().splitlines()
            for record in records:
                yield str(record).encode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{label}: holds text that is not UTF-8; convert it to VCF with bcftools view"
        ) from error
    except NotImplementedError as error:
        raise InputError(
            f"{label}: is a BCF compressed with gzip, not BGZF; decompress it, or write it anew with bcftools"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{label}: is truncated or damaged ({error}); get the file again") from error


def _through_pipe(stream: BinaryIO) -> BinaryIO:
    """A pipe with all of a stream, for htslib, which cannot see what has been read ahead from it."""
    reading, writing = os.pipe()

    def pump() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb") as sink:
            shutil.copyfileobj(stream, sink)

    threading.Thread(target=pump, daemon=True).start()
    return os.fdopen(reading, "rb")


@contextmanager
def quiet_htslib() -> Iterator[None]:
    """Keep htslib from writing to standard error on its own."""
    verbosity = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(verbosity)

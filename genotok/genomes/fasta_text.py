"""FASTA text: a streaming reader that checks every letter, and a writer (plain or BGZF)."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pysam

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.genomes.alphabets import DNA, Alphabet
from genotok.genomes.formats import read_blocks
from genotok.progress import Progress, progress

Blocks = Iterator[bytes]

log = logging.getLogger(__name__)

LINE_WIDTH = 60
COMPRESSION_LEVEL = 4  # level 6 packs nucleotides 4 % smaller and takes six times as long
LONGEST_HEADER = 1 << 20
_LINE_ENDS = b"\r\n"


def read_fasta(path: str | Path) -> Iterator[tuple[str, Blocks]]:
    """Stream a FASTA file contig by contig, in memory that depends on neither genome nor contig size.

    Plain, gzip and BGZF files are told apart by their bytes. Line widths may vary; CRLF, blank lines, a
    missing final newline and records without sequence (zero blocks) are fine. Case is kept.

    Args:
        path: the file.

    Yields:
        (name, blocks): the header up to its first white space, and an iterator of non-empty `bytes` of at
        most 128 KiB without line ends. Going on to the next contig skips blocks that were not consumed.

    Raises:
        InputError: a header without a name, a name given twice, sequence before the first header, a character
            that is no IUPAC nucleotide letter (ACGTURYSWKMBDHVN in either case), a truncated or damaged file,
            or a file that is no FASTA at all.
    """
    for header, blocks in fasta_records(read_blocks(path), str(path)):
        yield header.split(maxsplit=1)[0], blocks


def fasta_records(
    text: Iterable[bytes], label: str, alphabet: Alphabet = DNA, *, unique_names: bool = True
) -> Iterator[tuple[str, Blocks]]:
    """As `read_fasta`, from blocks of decompressed text, with whole header lines (without `>`).

    Args:
        text: the bytes of a FASTA file, cut anywhere.
        label: how error sentences call the file.
        alphabet: the letters that sequences may have.
        unique_names: whether a name that comes twice is an error, for which all names are held in memory.
    """
    events = _Scanner(label, alphabet, unique_names).events(text)
    header = next(events, None)
    if header is None:
        raise InputError(f"{label}: holds no sequence; give a FASTA file")
    while header is not None:
        following: list[str] = []
        blocks = _until_header(events, following)
        yield header, blocks
        for _ in blocks:
            pass
        header = following[0] if following else None


def _until_header(events: Iterator[str | bytes], following: list[str]) -> Blocks:
    """Pass on sequence; put the header that ends it into `following`."""
    for event in events:
        if isinstance(event, str):
            following.append(event)
            return
        yield event


class _Scanner:
    """Splits FASTA text into header lines (str) and runs of checked letters (bytes)."""

    def __init__(self, label: str, alphabet: Alphabet, unique_names: bool):
        self.label, self.alphabet, self.unique_names = label, alphabet, unique_names
        self.line = 1
        self.contig: str | None = None
        self.bases = 0
        self.line_of: dict[str, int] = {}

    def events(self, text: Iterable[bytes]) -> Iterator[str | bytes]:
        unfinished = b""  # a header line that goes on in the next block
        line_begins = True
        for block in text:
            data, unfinished, start = unfinished + block, b"", 0
            while start < len(data):
                if line_begins and data[start] == ord(">"):
                    end = data.find(b"\n", start)
                    if end < 0:
                        unfinished = self._bounded(data[start:])
                        break
                    yield self._header(data[start + 1 : end])
                    start = end + 1
                    continue
                end = data.find(b">", start)
                if end <= start or data[end - 1] != ord("\n"):
                    end = len(data)  # a `>` inside a line is found to be a bad letter
                letters = self._letters(data[start:end])
                if letters:
                    yield letters
                line_begins = data[end - 1] == ord("\n")
                start = end
        if unfinished:
            yield self._header(unfinished[1:])

    def _letters(self, raw: bytes) -> bytes:
        letters = raw.translate(self.alphabet.checked, _LINE_ENDS)
        if letters and self.contig is None:
            blank = raw[: len(raw) - len(raw.lstrip(_LINE_ENDS))].count(b"\n")
            raise InputError(
                f"{self.label}: line {self.line + blank}: sequence before the first header ('>name')"
            )
        if 0 in letters:
            at = letters.index(0)
            complaint = self.alphabet.complaint(raw.translate(None, _LINE_ENDS)[at])
            raise InputError(
                f"{self.label}: contig {self.contig}, position {self.bases + at + 1}: {complaint}"
            )
        self.bases += len(letters)
        self.line += len(raw) - len(letters) - raw.count(b"\r")  # faster by far than to count the line ends
        return letters

    def _header(self, raw: bytes) -> str:
        raw = raw.removesuffix(b"\r")
        if b"\r" in raw:
            raise InputError(
                f"{self.label}: line {self.line}: has old Macintosh line ends; convert them to \\n"
            )
        header = raw.decode("utf-8", "surrogateescape")
        name = header.split(maxsplit=1)[0] if header and not header[0].isspace() else ""
        if not name:
            raise InputError(f"{self.label}: line {self.line}: header without a name; write '>name'")
        if not (name.isascii() and name.isprintable()):
            raise InputError(
                f"{self.label}: line {self.line}: contig name {name!r} is not plain ASCII; rename it"
            )
        if name in self.line_of:
            raise InputError(
                f"{self.label}: contig name {name} occurs twice, in line {self.line_of[name]} and in line "
                f"{self.line}; rename or remove one"
            )
        if self.unique_names:
            self.line_of[name] = self.line
        self.contig, self.bases = name, 0
        self.line += 1
        return header

    def _bounded(self, header: bytes) -> bytes:
        if len(header) > LONGEST_HEADER:
            raise InputError(
                f"{self.label}: line {self.line}: header longer than 1 MiB; this is no FASTA file"
            )
        return header


def write_fasta(
    records: Iterable[tuple[str, Iterable[bytes]]], target: str | Path, label: str | None = None
) -> int:
    """Write contigs as FASTA with 60 letters per line, BGZF when the name ends in `.gz` or `.bgz`.

    Records without letters are left out, with a warning, since faidx cannot index them. The same records give
    the same bytes. The file appears when it is whole.

    Args:
        records: (header line without `>`, blocks of letters), as `fasta_records` yields.
        target: the file to write.
        label: how error sentences call the source of the records; default the target.

    Returns:
        The number of letters written, never 0.

    Raises:
        InputError: there are no letters, or `target` cannot be written.
    """
    target = Path(target)
    with atomic_path(target) as temporary, progress(f"write {target.name}", None, "bases") as bar:
        try:
            empty = _write_records(records, temporary, bar)
        except OSError as error:  # pysam's carry no error number
            raise InputError(
                f"{target.name}: cannot be written: {error.strerror or error}; is the disk full?"
            ) from error
        if bar.done == 0:
            raise InputError(f"{label or target}: holds no bases; give a genome")
    if empty:
        log.warning(
            "%s: %d contigs without sequence left out, the first %s", target.name, len(empty), empty[0]
        )
    return bar.done


def _write_records(records: Iterable[tuple[str, Iterable[bytes]]], path: Path, bar: Progress) -> list[str]:
    """Write all records that have letters; returns the headers of those that have none."""
    empty: list[str] = []
    compressed = path.name.endswith((".gz", ".bgz"))
    with pysam.BGZFile(str(path), f"wb{COMPRESSION_LEVEL}") if compressed else open(path, "wb") as handle:
        for header, blocks in records:
            heading = b">" + header.encode("utf-8", "surrogateescape") + b"\n"
            for lines, bases in _wrapped(blocks):
                handle.write(heading + lines)
                bar.advance(bases)
                heading = b""
            if heading:
                empty.append(header)
    return empty


def _wrapped(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Cut one contig into lines; yields (text with line ends, number of letters in it)."""
    rest = b""
    for block in blocks:
        data = rest + block
        count = len(data) // LINE_WIDTH
        if count:
            lines = np.full((count, LINE_WIDTH + 1), ord("\n"), dtype=np.uint8)
            letters = np.frombuffer(data, dtype=np.uint8, count=count * LINE_WIDTH)
            lines[:, :LINE_WIDTH] = letters.reshape(count, LINE_WIDTH)
            yield lines.tobytes(), count * LINE_WIDTH
        rest = data[count * LINE_WIDTH :]
    if rest:
        yield rest + b"\n", len(rest)


def compress_to_bgzf(source: str | Path, target: str | Path) -> Path:
    """Rewrite a plain, gzip or BGZF FASTA as BGZF that can be indexed.

    Lines get one width; CRLF, blank lines and records without sequence go; header lines, case, U and ambiguity
    letters stay.

    Args:
        source: the FASTA; may be the target itself.
        target: the file to write; its name must end in `.gz` or `.bgz`.

    Raises:
        InputError: as `read_fasta`, or for another suffix.
    """
    target = Path(target)
    if not target.name.endswith((".gz", ".bgz")):
        raise InputError(f"{target}: the name of a BGZF file must end in .gz")
    write_fasta(fasta_records(read_blocks(source), str(source)), target, str(source))
    return target

"""Reads of FASTQ with their qualities (Cock et al. 2010, doi:10.1093/nar/gkp1137; Phred+33).

A record is four lines: `@name`, letters, `+`, qualities; so that it can be told where one ends.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from genotok.errors import InputError
from genotok.genomes.alphabets import DNA, Alphabet

LINES = 4
LETTERS_AT_ONCE = 1 << 20
_OFFSET, _HIGHEST = 33, 93


class Read(NamedTuple):
    """One read: its name, what stands behind it, letters, and as many Phred qualities (L,) uint8."""

    name: str
    description: str
    letters: bytes
    qualities: np.ndarray


class ReadFilter:
    """Which reads and letters are good enough.

    Args:
        min_quality: least mean of a read's Phred qualities, as `AVGQUAL` of Trimmomatic and `--average_qual` of fastp
            have it; reads below it are left out. 0 keeps all.
        mask_quality: letters of a lower quality become N. 0 keeps all.

    Attributes:
        dropped: how many reads were left out.
    """

    def __init__(self, min_quality: float = 0, mask_quality: int = 0):
        self.min_quality, self.mask_quality, self.dropped = min_quality, mask_quality, 0

    def kept(self, qualities: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """(reads,) bool, of the qualities of reads one behind the other; `ends` (reads,) says where each ends."""
        lengths = np.diff(ends, prepend=0)
        sums = np.diff(np.concatenate([[0], np.cumsum(qualities, dtype=np.int64)])[ends], prepend=0)
        kept = (sums >= self.min_quality * lengths) if self.min_quality > 0 else np.ones(len(ends), bool)
        self.dropped += int((~kept).sum())
        return kept

    def masked(self, letters: bytes, qualities: np.ndarray) -> bytes:
        """The letters, with N for those of a low quality."""
        if self.mask_quality <= 0:
            return letters
        found = np.frombuffer(letters, np.uint8)
        return np.where(qualities < self.mask_quality, np.uint8(ord("N")), found).tobytes()


def read_fastq(
    text: Iterable[bytes], label: str, alphabet: Alphabet = DNA, chosen: ReadFilter | None = None
) -> Iterator[Read]:
    """Stream reads, in memory that depends on the longest read alone.

    Args:
        text: the bytes of a FASTQ file, cut anywhere.
        label: how sentences call the file.
        alphabet: the letters that reads may have.
        chosen: leaves reads out and masks letters.

    Raises:
        InputError: the text is no FASTQ, breaks off, holds another number of qualities than letters, or what is no
            letter or quality; names the line.
    """
    chosen = chosen or ReadFilter()
    for first, lines in _whole_records(text, label):
        place = _Place(label, first)
        _check_form(lines, place)
        yield from _reads(lines, place, alphabet, chosen)


class _Place(NamedTuple):
    label: str
    first: int

    def of(self, record: int, line: int = 0) -> str:
        """How a sentence about a line of a record begins."""
        return f"{self.label}: line {self.first + record * LINES + line}"


def _whole_records(text: Iterable[bytes], label: str) -> Iterator[tuple[int, list[bytes]]]:
    """The number of the first line, and lines of whole records."""
    held, size, wanted, first = [], 0, LETTERS_AT_ONCE, 1
    for block in text:
        held.append(block)
        size += len(block)
        if size < wanted:
            continue
        lines = b"".join(held).split(b"\n")
        whole = (len(lines) - 1) // LINES * LINES  # the last line goes on in the next block
        held, size = [b"\n".join(lines[whole:])], 0
        wanted = max(
            LETTERS_AT_ONCE, len(held[0])
        )  # a long read is looked at again when twice as much is there
        if whole:
            yield first, lines[:whole]
            first += whole
    lines = b"".join(held).rstrip(b"\r\n").split(b"\n") if held else []
    if lines in ([], [b""]):
        return
    if len(lines) % LINES == LINES - 1 and lines[-1].startswith(b"+") and not lines[-2].strip():
        lines.append(b"")  # the last read is empty
    whole = len(lines) // LINES * LINES
    yield first, lines[:whole]
    if whole < len(lines):
        raise InputError(
            f"{label}: is truncated (the record of line {first + whole} breaks off); get the file again"
        )


def _check_form(lines: list[bytes], place: _Place) -> None:
    """Refuse lines that do not begin as those of FASTQ do, or differ in length."""
    for k in range(0, len(lines), LINES):
        header, letters, plus, qualities = lines[k : k + LINES]
        if header[:1] != b"@" or not header[1:2].strip():
            raise InputError(f"{place.of(k // LINES)}: should be '@name', where a read of FASTQ begins")
        if plus[:1] != b"+":
            raise InputError(
                f"{place.of(k // LINES, 2)}: should begin with '+'; reads of more than four lines are not read"
            )
        if len(letters.rstrip(b"\r")) != len(qualities.rstrip(b"\r")):
            name = header[1:].split()[0].decode("ascii", "replace")
            raise InputError(
                f"{place.of(k // LINES, 3)}: read {name} has {len(qualities.rstrip())} qualities and "
                f"{len(letters.rstrip())} letters; the file is damaged, get it again"
            )


def _reads(lines: list[bytes], place: _Place, alphabet: Alphabet, chosen: ReadFilter) -> Iterator[Read]:
    texts = [line.rstrip(b"\r") for line in lines[1::LINES]]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    written = b"".join(texts)
    letters = written.translate(alphabet.checked)
    if 0 in letters:
        at = letters.index(0)
        record = int(np.searchsorted(ends, at, side="right"))
        within = at - (int(ends[record - 1]) if record else 0)
        raise InputError(f"{place.of(record, 1)}, position {within + 1}: {alphabet.complaint(written[at])}")
    codes = np.frombuffer(b"".join([line.rstrip(b"\r") for line in lines[3::LINES]]), np.uint8)
    qualities = codes - np.uint8(_OFFSET)  # what is below the offset becomes large
    if len(qualities) and qualities.max() > _HIGHEST:
        record = int(np.searchsorted(ends, int((qualities > _HIGHEST).argmax()), side="right"))
        raise InputError(f"{place.of(record, 3)}: holds what is no quality (Phred+33, from '!' to '~')")
    kept = chosen.kept(qualities, ends)
    letters = chosen.masked(letters, qualities)
    begin = 0
    for record, end in enumerate(ends.tolist()):
        if kept[record]:
            words = lines[record * LINES][1:].decode("utf-8", "replace").split(None, 1)
            described = words[1].rstrip() if len(words) > 1 else ""
            yield Read(words[0], described, letters[begin:end], qualities[begin:end])
        begin = end

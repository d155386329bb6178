"""Writing variants: VCF (plain or BGZF with a tabix index), BCF (with a CSI index), or text to standard output.

The header of a file is written last and put in front, since it names all contigs and their names are known
only when the records have been seen. The same records and header give the same bytes.
"""

import operator
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pysam
from pysam import bcftools

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.genomes.formats import BGZF_END
from genotok.variants.vcf_header import VcfHeader
from genotok.variants.vcf_input import Record, quiet_htslib

COMPRESSION_LEVEL = 6
TABIX_LONGEST = 1 << 29  # a .tbi index reaches 512 Mb (tabix specification); beyond, CSI is needed

ContigLength = Callable[[str], int | None]


class NotWritten(InputError):
    """The disk, not the input, is why there is no output."""


class VcfBody:
    """The records of one output, in the order in which they are given.

    Args:
        sink: where the text goes.
        header: of the output.
        length_of: the length of a contig, where it is known, for a line in a header that lacks it; None leaves
            the header as it is.
        header_first: whether to write the header in front of the first records, with the contigs of those.

    Attributes:
        sorted: whether the records so far can be indexed: contigs in one piece each, positions ascending.
        farthest: the highest position so far, or length of a contig.
    """

    def __init__(self, sink: BinaryIO, header: VcfHeader, length_of: ContigLength | None, header_first: bool):
        self.sink, self.header, self.length_of = sink, header, length_of
        self.sorted, self.farthest = True, 0
        self._header_due = header_first
        self._seen: set[str] = set()
        self._contig, self._position = "", -1

    def write(self, records: Iterable[Record]) -> None:
        """Add records.

        Raises:
            InputError: the disk is full.
        """
        records = list(records)
        self.add(b"".join(record.line for record in records), stretches(records))

    def add(self, text: bytes, stretches: Iterable["Stretch"]) -> None:
        """Add records as text; `stretches` says where they lie.

        Raises:
            InputError: the disk is full.
        """
        for stretch in stretches:
            self._note(stretch)
        if self._header_due:
            text = self.header.to_bytes() + text
            self._header_due = False
        with _full_disk_is_said():
            self.sink.write(text)

    def _note(self, stretch: "Stretch") -> None:
        contig = stretch.contig
        if contig != self._contig:
            self.sorted = self.sorted and contig not in self._seen
            self._seen.add(contig)
            if self.length_of:
                self.header.add_contig(contig, self.length_of(contig))
            self.farthest = max(self.farthest, self.header.contigs.get(contig) or 0)
            self._contig, self._position = contig, -1
        self.sorted = self.sorted and stretch.ascending and stretch.first >= self._position
        self.farthest = max(self.farthest, stretch.farthest)
        self._position = stretch.last


class Stretch(NamedTuple):
    """Consecutive records on one contig: their first, last and highest position, and whether these ascend."""

    contig: str
    first: int
    last: int
    farthest: int
    ascending: bool


def stretches(records: Iterable[Record]) -> list[Stretch]:
    """Where records lie; a contig that comes again makes a stretch of its own."""
    found = []
    for contig, group in groupby(records, key=lambda record: record.columns[0]):
        positions = [record.position for record in group]
        ascending = all(map(operator.le, positions, positions[1:]))
        name = contig.decode("utf-8", "replace")
        found.append(Stretch(name, positions[0], positions[-1], max(positions), ascending))
    return found


@contextmanager
def _full_disk_is_said() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:  # pysam's names no file
        raise NotWritten(
            f"the output cannot be written ({error.strerror or error}); is the disk full?"
        ) from error


def output_kind(output: str | Path) -> str:
    """`text` (standard output), `vcf`, `vcf.gz` or `bcf`, by the name's end.

    Raises:
        InputError: the name ends otherwise.
    """
    name = str(output)
    kinds = {".vcf": "vcf", ".vcf.gz": "vcf.gz", ".bgz": "vcf.gz", ".bcf": "bcf"}
    if name == "-":
        return "text"
    for suffix, kind in kinds.items():
        if name.endswith(suffix):
            return kind
    raise InputError(
        f"{name}: an output is called *.vcf.gz, *.vcf.bgz, *.vcf, *.bcf, or - for standard output"
    )


@contextmanager
def open_vcf_output(
    output: str | Path, header: VcfHeader, length_of: ContigLength | None = None, indexed: bool = True
) -> Iterator[VcfBody]:
    """Open an output; the file and its index appear when the block ends well.

    Args:
        output: a path, its kind told by `output_kind`, or `-`.
        header: of the output; that of a file may change until the block ends.
        length_of: see `VcfBody`.
        indexed: whether to write an index beside a compressed file. Records that are not sorted get none, and
            a line on standard error says so.

    Raises:
        InputError: the file cannot be written.
    """
    kind = output_kind(output)
    if kind == "text":
        body = VcfBody(sys.stdout.buffer, header, length_of, header_first=True)
        yield body
        body.write([])
        with _full_disk_is_said():
            sys.stdout.buffer.flush()
        return
    with quiet_htslib(), ExitStack() as leftovers:
        with atomic_path(output) as whole:
            records, index = (whole.with_name(whole.name + end) for end in (".body", ".index"))
            for path in (records, index):
                leftovers.callback(path.unlink, missing_ok=True)
            sink = _open_sink(records, kind == "vcf.gz")
            leftovers.callback(_close_anyway, sink)
            body = VcfBody(sink, header, length_of, header_first=False)
            yield body
            suffix = _assemble(Path(output), whole, records, body, index if indexed else None)
            for old in (".tbi", ".csi"):
                Path(f"{output}{old}").unlink(missing_ok=True)
        if suffix:
            os.replace(index, f"{output}{suffix}")


def _open_sink(path: Path, compressed: bool) -> BinaryIO:
    return pysam.BGZFile(str(path), f"wb{COMPRESSION_LEVEL}") if compressed else open(path, "wb")


def _close_anyway(sink: BinaryIO) -> None:
    """Close what is to be thrown away, or has been closed; a full disk has been reported by then."""
    with suppress(OSError):
        sink.close()


def _assemble(output: Path, whole: Path, records: Path, body: VcfBody, index: Path | None) -> str:
    """Put the header in front of the records; returns the suffix of the index, empty when there is none."""
    kind = output_kind(output)
    try:
        body.sink.close()
        if kind == "bcf":
            _write_bcf(output, body.header.to_bytes(), records, whole)
        else:
            _put_in_front(body.header.to_bytes(), records, whole, kind == "vcf.gz")
    except OSError as error:
        raise NotWritten(
            f"{output}: cannot be written ({error.strerror or error}); is the disk full?"
        ) from error
    return _index(output, whole, body, index) if index and kind != "vcf" else ""


def _put_in_front(header: bytes, records: Path, whole: Path, compressed: bool) -> None:
    with _open_sink(whole, compressed) as sink:
        sink.write(header)
    with open(whole, "r+b") as sink, open(records, "rb") as source:
        if compressed:
            sink.truncate(sink.seek(-len(BGZF_END), 2))
        sink.seek(0, 2)
        shutil.copyfileobj(source, sink, 1 << 20)


def _write_bcf(output: Path, header: bytes, records: Path, whole: Path) -> None:
    """Convert to BCF. It holds only what its header declares; htslib declares the rest while it reads all once."""
    text, declared = (records.with_name(records.name + end) for end in (".vcf", ".header.vcf"))
    try:
        _put_in_front(header, records, text, compressed=False)
        with pysam.VariantFile(str(text)) as reader:
            for _ in reader:
                pass
            pysam.VariantFile(str(declared), "w", header=reader.header).close()
        _put_in_front(declared.read_bytes(), records, text, compressed=False)
        bcftools.view("--no-version", "-Ob", "-o", str(whole), str(text), catch_stdout=False)
    except (pysam.SamtoolsError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(
            f"{output}: cannot be written; BCF takes no POS over 2147483647 and only what htslib can read, and "
            "room on the disk: try *.vcf.gz"
        ) from None  # the message is htslib's and tells nothing
    finally:
        for path in (text, declared):
            path.unlink(missing_ok=True)


def _index(output: Path, whole: Path, body: VcfBody, index: Path) -> str:
    """Write the index; returns its suffix, empty when the records are not sorted."""
    if not body.sorted:
        print(
            f"{output}: the records are not sorted, so there is no index; their order is kept",
            file=sys.stderr,
        )
        return ""
    if output_kind(output) == "bcf":
        kinds = [".csi"]
    else:
        kinds = [".csi"] if body.farthest >= TABIX_LONGEST else [".tbi", ".csi"]  # END may reach farther
    for kind in kinds:
        try:
            _write_index(whole, index, kind)
            return kind
        except (pysam.SamtoolsError, OSError, ValueError):
            continue
    raise InputError(
        f"{output}: its index cannot be written; is the disk full, or a POS or END beyond 4 Gb? (*.vcf needs none)"
    )


def _write_index(whole: Path, index: Path, kind: str) -> None:
    if whole.suffix == ".bcf":
        bcftools.index("--force", "--csi", "-o", str(index), str(whole))
    else:
        tabix = {"preset": "vcf", "force": True, "keep_original": True}
        pysam.tabix_index(str(whole), csi=kind == ".csi", index=str(index), **tabix)

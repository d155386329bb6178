"""Sequences of every kind of source as one stream of records."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genotok.errors import InputError
from genotok.genomes.alphabets import DNA, Alphabet
from genotok.genomes.byte_streams import (
    STANDARD_INPUT,
    ByteStream,
    is_address,
    local_copy,
    public_address,
    source_label,
)
from genotok.genomes.fasta_text import fasta_records
from genotok.genomes.fastq import ReadFilter, read_fastq
from genotok.genomes.formats import (
    SEQUENCE_FORMATS,
    TWOBIT_SIGNATURES,
    bare_name,
    named_format,
    not_fasta_because,
)
from genotok.genomes.table_rows import TABLE_FORMATS, parquet_rows, stream_rows

_SPLIT_NAMES = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid"}
_SPLIT_NAMES |= {"test": "test"}
DESCRIPTION = "description"


class SequenceRecord(NamedTuple):
    """One sequence.

    Attributes:
        name: of the contig, read, row or region.
        blocks: its letters in order, checked, in the case of the source; none of a sequence without letters.
        qualities: (L,) uint8, the Phred quality of each letter; None where the source has none.
        values: of the columns that are to be kept, as text; None where a table holds nothing.
        split: the split that a table names; None otherwise.
    """

    name: str
    blocks: Iterable[bytes]
    qualities: np.ndarray | None = None
    values: dict[str, str | None] = {}  # noqa: RUF012 (never changed)
    split: str | None = None


@dataclass(frozen=True)
class Reading:
    """How sources are read.

    Attributes:
        format: one of `SEQUENCE_FORMATS`; None tells it from the first bytes (FASTA, FASTQ, Parquet) or the name.
        alphabet: of the letters.
        min_quality, mask_quality: of FASTQ, see `genotok.genomes.fastq.ReadFilter`.
        sequence_column, name_column, split_column: of tables; without names rows are called `row1`, `row2` ...
        keep: columns of tables whose values are kept; of FASTA and FASTQ `description`, what stands behind a name.
        regions: BED, GFF3 or GTF: of FASTA only these stretches, see `genotok.genomes.region_records`.
        features: of GFF3 and GTF the kinds that count.
        many: whether a FASTA of nucleotides holds many short sequences, of which several may have one name, as those
            of other formats and of proteins may.
    """

    format: str | None = None
    alphabet: Alphabet = DNA
    min_quality: float = 0
    mask_quality: int = 0
    sequence_column: str = "sequence"
    name_column: str | None = None
    split_column: str | None = None
    keep: tuple[str, ...] = ()
    regions: Path | None = None
    features: tuple[str, ...] = ()
    many: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.format is not None and self.format not in SEQUENCE_FORMATS:
            raise InputError(f"format {self.format!r} is unknown; there are {', '.join(SEQUENCE_FORMATS)}")
        if self.features and self.regions is None:
            raise InputError("features belong to a file of regions, and none was given; add --regions")
        if len(set(self.keep)) < len(self.keep):
            raise InputError(f"the columns to keep, {', '.join(self.keep)}, are named twice")


@dataclass
class SequenceSource:
    """An open source.

    Attributes:
        label: how sentences call it.
        format: one of `SEQUENCE_FORMATS`, or `regions`.
        records: its sequences; each one's blocks are to be read before the next record is asked for.
        many: whether it holds so many short sequences that they are counted, not listed one by one.
        facts: what is known of it once all records have been read: `sha256`, and what was left out.
    """

    label: str
    format: str
    records: Iterator[SequenceRecord]
    many: bool
    facts: dict[str, Any] = field(default_factory=dict)


def source_name(source: str | Path) -> str:
    """What a source is called: the end of its path or address without its endings."""
    return "stdin" if str(source) == STANDARD_INPUT else bare_name(str(source))


def source_file(source: str | Path) -> str:
    """What a manifest calls a source: a file's name, or an address without what may be secret."""
    text = str(source)
    if is_address(source):
        return public_address(text)
    return text if text == STANDARD_INPUT else Path(text).name


@contextlib.contextmanager
def open_sequences(source: str | Path, reading: Reading = Reading()) -> Iterator[SequenceSource]:
    """Open a source of sequences; memory depends on the longest read or row, not on the source.

    Args:
        source: a path, `-` for standard input, or an address that fsspec knows.
        reading: how it is read.

    Raises:
        InputError: the source is absent, damaged, or of another kind. Its records raise it as well.
    """
    if reading.regions is not None:
        with _regions(source, reading) as opened:
            yield opened
        return
    with contextlib.ExitStack() as stack:
        kind = reading.format or (None if str(source) == STANDARD_INPUT else named_format(str(source)))
        if kind == "parquet":
            path, digest = stack.enter_context(local_copy(source))
            label = source_label(source)
            rows = parquet_rows(path, label, _columns(reading))
            yield SequenceSource(label, kind, _of_rows(rows, label, reading), True, {"sha256": digest})
            return
        stream = stack.enter_context(ByteStream(source))
        kind = _kind(stream, reading.format, kind)
        opened = SequenceSource(
            stream.label, kind, iter(()), reading.many or kind != "fasta" or not reading.alphabet.has_strands
        )
        read = {"fasta": _of_fasta, "fastq": _of_fastq}.get(kind, _of_table)
        opened.records = _with_facts(read(stream, opened, reading), stream, opened)
        yield opened


def sequence_records(source: str | Path, reading: Reading = Reading()) -> Iterator[SequenceRecord]:
    """The sequences of a source; see `open_sequences`."""
    with open_sequences(source, reading) as opened:
        yield from opened.records


def _with_facts(
    records: Iterator[SequenceRecord], stream: ByteStream, opened: SequenceSource
) -> Iterator[SequenceRecord]:
    yield from records
    opened.facts["sha256"] = stream.sha256()


def _kind(stream: ByteStream, wanted: str | None, named: str | None) -> str:
    """The format: as the user says, else as the first bytes do, else as the name does."""
    head = stream.head
    if head.startswith((b"PK\x03\x04", *TWOBIT_SIGNATURES)):
        kind = "zip" if head.startswith(b"PK") else "2bit"
        raise InputError(
            f"{stream.label}: is a {kind} file; convert it with: genotok fetch {stream.label} -o NAME.fa.gz"
        )
    if not head.strip():
        raise InputError(f"{stream.label}: is empty")
    if wanted:
        return wanted
    if head.startswith(b"PAR1"):
        raise InputError(f"{stream.label}: is Parquet; name it .parquet, or give --format parquet")
    start = head.lstrip()[:4]
    if start.startswith(b">"):
        return "fasta"
    if start.startswith(b"@"):
        if start in (b"@HD\t", b"@SQ\t", b"@RG\t", b"@PG\t", b"@CO\t"):
            raise InputError(f"{stream.label}: holds alignments (SAM); convert it with: samtools fastq")
        return "fastq"
    if named in TABLE_FORMATS:
        return named
    complaint = not_fasta_because(head)
    raise InputError(f"{stream.label}: {complaint}; for another kind of file give --format")


def _of_fasta(stream: ByteStream, opened: SequenceSource, reading: Reading) -> Iterator[SequenceRecord]:
    if complaint := not_fasta_because(stream.head):
        raise InputError(f"{stream.label}: {complaint}")
    _check_kept(stream.label, reading)
    found = fasta_records(stream.blocks(), stream.label, reading.alphabet, unique_names=not opened.many)
    for header, blocks in found:
        name, *described = header.split(maxsplit=1)
        yield SequenceRecord(name, blocks, None, _described(reading, described[0] if described else ""))


def _of_fastq(stream: ByteStream, opened: SequenceSource, reading: Reading) -> Iterator[SequenceRecord]:
    if not reading.alphabet.has_strands:
        raise InputError(f"{stream.label}: is FASTQ, which holds nucleotides, and these should be proteins")
    _check_kept(stream.label, reading)
    chosen = ReadFilter(reading.min_quality, reading.mask_quality)
    for name, described, letters, qualities in read_fastq(
        stream.blocks(), stream.label, reading.alphabet, chosen
    ):
        blocks = [letters] if letters else []
        yield SequenceRecord(name, blocks, qualities, _described(reading, described))
    if reading.min_quality > 0:
        opened.facts["dropped_reads"] = chosen.dropped


def _check_kept(label: str, reading: Reading) -> None:
    for column in reading.keep:
        if column != DESCRIPTION:
            raise InputError(
                f"{label}: has no column {column!r}; of FASTA and FASTQ only {DESCRIPTION!r} can be kept"
            )


def _described(reading: Reading, text: str) -> dict[str, str | None]:
    return dict.fromkeys(reading.keep, text)


def _columns(reading: Reading) -> list[str]:
    wanted = [reading.sequence_column, *reading.keep, reading.name_column, reading.split_column]
    return list(dict.fromkeys(column for column in wanted if column is not None))


def _of_table(stream: ByteStream, opened: SequenceSource, reading: Reading) -> Iterator[SequenceRecord]:
    return _of_rows(stream_rows(stream, opened.format, _columns(reading)), stream.label, reading)


def _of_rows(rows: Iterable[tuple[str, list[Any]]], label: str, reading: Reading) -> Iterator[SequenceRecord]:
    columns = _columns(reading)
    number = 0
    for number, (place, values) in enumerate(rows, 1):
        row = dict(zip(columns, values, strict=True))
        letters = _letters(row[reading.sequence_column], f"{label}: {place}", reading)
        yield SequenceRecord(
            f"row{number}"
            if reading.name_column is None
            else _name(row[reading.name_column], label, place, reading),
            [letters],
            None,
            {column: as_text(row[column]) for column in reading.keep},
            None
            if reading.split_column is None
            else _split(row[reading.split_column], label, place, reading),
        )
    if not number:
        raise InputError(f"{label}: holds no rows")


def _letters(value: Any, place: str, reading: Reading) -> bytes:
    what = f"{place}: column {reading.sequence_column!r}"
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise InputError(f"{what}: holds no sequence")
    if not text.isascii():
        raise InputError(f"{what}: holds what is no {reading.alphabet.one}")
    return reading.alphabet.read(text.encode(), what)


def _name(value: Any, label: str, place: str, reading: Reading) -> str:
    text = (as_text(value) or "").strip()
    if not text:
        raise InputError(f"{label}: {place}: column {reading.name_column!r}: holds no name")
    return text


def _split(value: Any, label: str, place: str, reading: Reading) -> str:
    text = (as_text(value) or "").strip().lower()
    if text not in _SPLIT_NAMES:
        raise InputError(
            f"{label}: {place}: column {reading.split_column!r}: {text!r} is no split; there are "
            f"{', '.join(_SPLIT_NAMES)}"
        )
    return _SPLIT_NAMES[text]


def as_text(value: Any) -> str | None:
    """A value of a table as text: text as it is, nothing as None, all else as JSON has it where it can."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str)


@contextlib.contextmanager
def _regions(source: str | Path, reading: Reading) -> Iterator[SequenceSource]:
    """The stretches of a FASTA that a file names."""
    from genotok.atomic import sha256_of
    from genotok.genomes.fasta import Reference
    from genotok.genomes.region_records import read_stranded_regions

    if is_address(source) or str(source) == STANDARD_INPUT:
        raise InputError(
            f"{source_label(source)}: regions are read from a FASTA of this machine; get it with: genotok fetch"
        )
    if not reading.alphabet.has_strands:
        raise InputError(f"{reading.regions}: regions are those of nucleotide sequences, not of proteins")
    for column in reading.keep:
        if column != DESCRIPTION:
            raise InputError(f"{reading.regions}: of regions only {DESCRIPTION!r}, their names, can be kept")
    facts = {
        "sha256": sha256_of(source) if Path(source).is_file() else "",
        "regions": {"file": Path(reading.regions).name, "features": sorted(reading.features)},
    }
    with Reference(source) as genome:
        found = read_stranded_regions(reading.regions, genome, reading.features)
        facts["regions"]["sha256"] = sha256_of(reading.regions)
        records = (
            SequenceRecord(region.label, region.letters(genome), None, _described(reading, region.name))
            for region in found
        )
        yield SequenceSource(str(source), "regions", records, True, facts)

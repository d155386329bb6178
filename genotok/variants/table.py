"""Scores as a Parquet table, one row for each ALT allele."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.variants.fields import DEFAULT_FIELDS, FIELDS, HAPLOTYPE_FIELDS, ScoreField, Value
from genotok.variants.same_files import refuse_same_files

# `pos` is 1-based, as in VCF; the numbers are those of the VCF: float32, null where there is no score.
ALLELE = [("chrom", pa.string()), ("pos", pa.int64()), ("ref", pa.string()), ("alt", pa.string())]
KINDS = {"Float": pa.float32(), "String": pa.string()}
ROW_GROUP = 1 << 17

Row = tuple[str, int, str, str, *tuple[Value, ...]]


def schema_of(fields: Sequence[ScoreField]) -> pa.Schema:
    """The columns of a table with these fields."""
    return pa.schema([*ALLELE, *((field.column, KINDS[field.kind]) for field in fields)])


class ScoreTable:
    """Rows on their way into a Parquet file; row groups do not depend on the portions they come in."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema):
        self._writer, self._schema = writer, schema
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, rows: list[Row]) -> None:
        """Add rows."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(self._schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self.append(pa.Table.from_arrays(arrays, schema=self._schema))

    def append(self, table: pa.Table) -> None:
        """Add a table of the same columns."""
        self._waiting.append(table)
        self._rows += len(table)
        while self._rows >= ROW_GROUP:
            self._write_group()

    def finish(self) -> None:
        """Write what is left."""
        if self._rows:
            self._write_group()

    def _write_group(self) -> None:
        whole = pa.concat_tables(self._waiting)
        self._writer.write_table(whole.slice(0, ROW_GROUP).combine_chunks())
        self._waiting = [whole.slice(ROW_GROUP)]
        self._rows = len(self._waiting[0])


@contextmanager
def open_table(path: Path, fields: Sequence[ScoreField] = DEFAULT_FIELDS) -> Iterator[ScoreTable]:
    """Open a Parquet file for scores; it appears when the block ends well. The same rows give the same bytes."""
    schema = schema_of(fields)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        table = ScoreTable(writer, schema)
        yield table
        table.finish()


def gather_tables(parquets: Iterable[Path], output: Path) -> None:
    """Put the tables of consecutive pieces of a VCF into one, in the order given.

    Rows and row groups are those of scoring the whole VCF at once.

    Raises:
        InputError: a file cannot be read, is no table of scores, or holds other fields than the first.
    """
    paths = [Path(path) for path in parquets]
    refuse_same_files(paths, (output,))
    fields = _fields_in(paths[0]) if paths else DEFAULT_FIELDS
    with open_table(Path(output), fields) as table:
        for path in paths:
            for batch in _batches(path, fields):
                table.append(pa.Table.from_batches([batch]))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}; score the piece again") from error


def _fields_in(path: Path) -> tuple[ScoreField, ...]:
    """The fields of a table of scores."""
    with _opened(path) as file:
        names = file.schema_arrow.names
        fields = tuple(field for field in FIELDS if field.choice is None or field.column in names)
        if HAPLOTYPE_FIELDS[0].column in names:
            fields += HAPLOTYPE_FIELDS
        if not file.schema_arrow.equals(schema_of(fields)):
            raise InputError(f"{path}: its columns are not those of a table of scores")
    return fields


def _batches(path: Path, fields: tuple[ScoreField, ...]) -> Iterator[pa.RecordBatch]:
    if _fields_in(path) != fields:
        names = ", ".join(field.column for field in fields)
        raise InputError(
            f"{path}: does not have the fields of the first table, {names}; score all pieces alike"
        )
    with _opened(path) as file:
        yield from file.iter_batches()

"""Scores as a Parquet table, one row for each ALT allele."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from genotok.atomic import atomic_path
from genotok.errors import InputError

# `pos` is 1-based, as in VCF; the numbers are those of the VCF: float32, null where there is no score.
SCHEMA = pa.schema(
    [
        ("chrom", pa.string()),
        ("pos", pa.int64()),
        ("ref", pa.string()),
        ("alt", pa.string()),
        ("llr", pa.float32()),
        ("llr_fwd", pa.float32()),
        ("llr_rc", pa.float32()),
        ("status", pa.string()),
    ]
)
ROW_GROUP = 1 << 17

Row = tuple[str, int, str, str, float | None, float | None, float | None, str]


class ScoreTable:
    """Rows on their way into a Parquet file; row groups do not depend on the portions they come in."""

    def __init__(self, writer: pq.ParquetWriter):
        self._writer = writer
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, rows: list[Row]) -> None:
        """Add rows."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self.append(pa.Table.from_arrays(arrays, schema=SCHEMA))

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
def open_table(path: Path) -> Iterator[ScoreTable]:
    """Open a Parquet file for scores; it appears when the block ends well. The same rows give the same bytes."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        table = ScoreTable(writer)
        yield table
        table.finish()


def gather_tables(parquets: Iterable[Path], output: Path) -> None:
    """Put the tables of consecutive pieces of a VCF into one, in the order given.

    Rows and row groups are those of scoring the whole VCF at once.

    Raises:
        InputError: a file cannot be read, or is no table of scores.
    """
    with open_table(Path(output)) as table:
        for path in parquets:
            for batch in _batches(Path(path)):
                table.append(pa.Table.from_batches([batch]))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise InputError(f"{path}: its columns are not those of a table of scores")
            yield from file.iter_batches()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}; score the piece again") from error

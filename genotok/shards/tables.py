"""Tables of labelled sequences: CSV, TSV, JSON lines and Parquet."""

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from genotok.errors import InputError
from genotok.tokenizers.base import checked_letters

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LONGEST_FIELD = 2**31 - 1


@dataclass
class TableRows:
    """Rows of a table.

    Attributes:
        path: of the table.
        places: where each row stands, as `line 7` (for a row over several lines its last) or `row 6` (from 1).
        sequences: in upper case.
        values: of each asked column, row by row: text, or what JSON or Parquet hold.
    """

    path: Path
    places: list[str]
    sequences: list[str]
    values: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.sequences)


def read_table(path: str | Path, sequence: str, columns: Sequence[str]) -> TableRows:
    """Read sequences and further columns of a table.

    `.csv` and `.tsv` have a line with the names of the columns, `.jsonl` (or `.ndjson`) an object a line; these may
    end in `.gz` as well. `.parquet` is Parquet.

    Args:
        path: of the table.
        sequence: the column with the sequences, IUPAC letters in either case.
        columns: the other columns.

    Raises:
        InputError: names the file, and the line and column of what is wrong.
    """
    path = Path(path)
    wanted = list(dict.fromkeys([sequence, *columns]))
    try:
        rows = list(_rows(path, wanted))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as a table: {error}") from error
    if not rows:
        raise InputError(f"{path}: holds no rows")
    sequences = [_letters(values[0], f"{path}: {place}: column {sequence!r}") for place, values in rows]
    found = {name: [values[k] for _, values in rows] for k, name in enumerate(wanted)}
    return TableRows(path, [place for place, _ in rows], sequences, {name: found[name] for name in columns})


def _letters(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{what}: holds no sequence")
    return checked_letters(value.strip(), what)


Row = tuple[str, list[Any]]


def _rows(path: Path, columns: list[str]) -> Iterator[Row]:
    """Where each row stands and its values of the columns."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, columns)
        return
    if suffix not in (*DELIMITERS, ".jsonl", ".ndjson"):
        raise InputError(
            f"{path}: its name should end in .csv, .tsv, .jsonl (with .gz or without) or .parquet"
        )
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as handle:
        if suffix in DELIMITERS:
            yield from _delimited_rows(path, handle, DELIMITERS[suffix], columns)
        else:
            yield from _json_rows(path, handle, columns)


def _delimited_rows(path: Path, handle: TextIO, delimiter: str, columns: list[str]) -> Iterator[Row]:
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        reader = csv.reader(handle, delimiter=delimiter, strict=True)
        names = next(reader, [])
        places = _places(path, names, columns)
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                raise InputError(
                    f"{path}: line {reader.line_num} has {len(values)} columns, and the first line {len(names)}"
                )
            yield f"line {reader.line_num}", [values[place] for place in places]
    finally:
        csv.field_size_limit(limit)


def _places(path: Path, names: list[str], columns: list[str]) -> list[int]:
    for column in columns:
        if names.count(column) != 1:
            what = "several columns" if column in names else "no column"
            raise InputError(f"{path}: {what} {column!r}; there are {', '.join(names) or 'none'}")
    return [names.index(column) for column in columns]


def _json_rows(path: Path, handle: TextIO, columns: list[str]) -> Iterator[Row]:
    for number, line in enumerate(handle, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number} is not JSON: {error.msg}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: line {number} should be a JSON object, with a key a column")
        for column in columns:
            if column not in values:
                raise InputError(
                    f"{path}: line {number} has no key {column!r}; there are {', '.join(values)}"
                )
        yield f"line {number}", [values[column] for column in columns]


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    with pq.ParquetFile(path) as table:
        _places(path, table.schema_arrow.names, columns)
        done = 0
        for batch in table.iter_batches(columns=columns):
            found = [batch.column(column).to_pylist() for column in columns]
            for k, values in enumerate(zip(*found, strict=True), done + 1):
                yield f"row {k}", list(values)
            done += batch.num_rows

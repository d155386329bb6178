"""Rows of tables one by one: CSV, TSV, JSON, JSON lines and Parquet, in memory that does not grow with the table."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from genotok.errors import InputError
from genotok.genomes.byte_streams import ByteStream, local_copy

DELIMITERS = {"csv": ",", "tsv": "\t"}
TABLE_FORMATS = (*DELIMITERS, "json", "jsonl", "parquet")
LONGEST_FIELD = 2**31 - 1
_CHARACTERS = 1 << 16

Row = tuple[str, list[Any]]


def stream_rows(stream: ByteStream, kind: str, columns: Sequence[str]) -> Iterator[Row]:
    """Where each row stands, as `line 7` (for one over several lines its last) or `row 6`, and values of its columns.

    Args:
        stream: the table, in UTF-8.
        kind: `csv` or `tsv`, with the names of the columns in the first line; `jsonl`, an object a line; or `json`,
            an array of objects.
        columns: those that are wanted.

    Raises:
        InputError: the table cannot be read, or has no such column; names the line.
    """
    try:
        with io.TextIOWrapper(stream.file, encoding="utf-8-sig", newline="") as handle:
            if kind in DELIMITERS:
                yield from _delimited_rows(stream.label, handle, DELIMITERS[kind], columns)
            elif kind == "jsonl":
                yield from _json_lines(stream.label, handle, columns)
            else:
                yield from _json_array(stream.label, handle, columns)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{stream.label}: cannot be read as a table: {error}") from error


def parquet_rows(path: Path, label: str, columns: Sequence[str]) -> Iterator[Row]:
    """As `stream_rows`, of a Parquet file."""
    try:
        with pq.ParquetFile(path) as table:
            check_columns(label, table.schema_arrow.names, columns)
            done = 0
            for batch in table.iter_batches(columns=list(columns)):
                found = [batch.column(column).to_pylist() for column in columns]
                for k, values in enumerate(zip(*found, strict=True), done + 1):
                    yield f"row {k}", list(values)
                done += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{label}: cannot be read as a table: {' '.join(str(error).split())}") from error


def table_rows(source: str | Path, kind: str, columns: Sequence[str]) -> Iterator[Row]:
    """As `stream_rows` and `parquet_rows`, of a source that is not open yet."""
    if kind == "parquet":
        with local_copy(source) as (path, _):
            yield from parquet_rows(path, str(source), columns)
    else:
        with ByteStream(source) as stream:
            yield from stream_rows(stream, kind, columns)


def column_names(source: str | Path, kind: str) -> list[str]:
    """The columns of a table; of JSON and JSON lines those of the first object.

    Raises:
        InputError: the table cannot be read.
    """
    if kind == "parquet":
        with local_copy(source) as (path, _):
            try:
                return pq.read_schema(path).names
            except (OSError, pa.ArrowException) as error:
                text = " ".join(str(error).split())
                raise InputError(f"{source}: cannot be read as a table: {text}") from error
    with ByteStream(source) as stream:
        try:
            with io.TextIOWrapper(stream.file, encoding="utf-8-sig", newline="") as handle:
                if kind in DELIMITERS:
                    return next(csv.reader(handle, delimiter=DELIMITERS[kind], strict=True), [])
                return list(_first_object(handle, kind))
        except (UnicodeDecodeError, csv.Error, json.JSONDecodeError, TypeError) as error:
            raise InputError(f"{source}: cannot be read as a table: {error}") from error


def _first_object(handle: TextIO, kind: str) -> dict[str, Any]:
    if kind == "jsonl":
        return json.loads(next((line for line in handle if line.strip()), "{}"))
    text = _JsonText(handle)
    if text.next_sign() == "[":
        text.skip()
    return text.value() or {}


def check_columns(label: str, names: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse a table that does not have each of the columns once.

    Raises:
        InputError: names the column.
    """
    for column in columns:
        if list(names).count(column) != 1:
            what = "several columns" if column in names else "no column"
            raise InputError(f"{label}: {what} {column!r}; there are {', '.join(names) or 'none'}")


def _delimited_rows(label: str, handle: TextIO, delimiter: str, columns: Sequence[str]) -> Iterator[Row]:
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        reader = csv.reader(handle, delimiter=delimiter, strict=True)
        names = next(reader, [])
        check_columns(label, names, columns)
        places = [names.index(column) for column in columns]
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                raise InputError(
                    f"{label}: line {reader.line_num} has {len(values)} columns, and the first line {len(names)}"
                )
            yield f"line {reader.line_num}", [values[place] for place in places]
    finally:
        csv.field_size_limit(limit)


def _json_lines(label: str, handle: TextIO, columns: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(handle, 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{label}: {place} is not JSON: {error.msg}") from error
        yield place, _values(label, place, values, columns)


def _values(label: str, place: str, values: Any, columns: Sequence[str]) -> list[Any]:
    if not isinstance(values, dict):
        raise InputError(f"{label}: {place} should be a JSON object, with a key a column")
    for column in columns:
        if column not in values:
            raise InputError(f"{label}: {place} has no key {column!r}; there are {', '.join(values)}")
    return [values[column] for column in columns]


def _json_array(label: str, handle: TextIO, columns: Sequence[str]) -> Iterator[Row]:
    """The objects of one array, of which no more than one is held."""
    text = _JsonText(handle)
    if text.next_sign() != "[":
        raise InputError(
            f"{label}: should be a JSON array of objects; for an object a line give --format jsonl"
        )
    text.skip()
    number, sign = 0, text.next_sign()
    while sign != "]":
        number += 1
        place = f"row {number}"
        try:
            values = text.value()
        except json.JSONDecodeError as error:
            raise InputError(f"{label}: {place} is not JSON: {error.msg}") from error
        yield place, _values(label, place, values, columns)
        sign = text.next_sign()
        if sign not in (",", "]"):
            raise InputError(f"{label}: is truncated or no JSON: behind row {number} should stand ',' or ']'")
        if sign == ",":
            text.skip()
    text.skip()
    if text.next_sign():
        raise InputError(f"{label}: is no JSON: something stands behind the array")


class _JsonText:
    """JSON that is read value by value."""

    def __init__(self, handle: TextIO):
        self._handle, self._held, self._at = handle, "", 0
        self._decoder = json.JSONDecoder()

    def _more(self, characters: int = _CHARACTERS) -> bool:
        added = self._handle.read(characters)
        self._held, self._at = self._held[self._at :] + added, 0
        return bool(added)

    def next_sign(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._held) and self._held[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Go behind the next sign."""
        self._at += 1

    def value(self) -> Any:
        """The object that begins at the next sign."""
        if self.next_sign() not in ("{", ""):
            return None
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._held, self._at)
            except json.JSONDecodeError:
                if not self._more(
                    max(_CHARACTERS, len(self._held) - self._at)
                ):  # doubled, for long sequences
                    raise
            else:
                return value

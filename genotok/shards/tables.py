"""Tables of labelled sequences: CSV, TSV, JSON, JSON lines and Parquet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genotok.errors import InputError
from genotok.genomes.alphabets import DNA, Alphabet, checked_letters
from genotok.genomes.formats import named_format
from genotok.genomes.table_rows import TABLE_FORMATS, table_rows


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


def read_table(
    path: str | Path, sequence: str, columns: Sequence[str], alphabet: Alphabet = DNA
) -> TableRows:
    """Read sequences and further columns of a table.

    `.csv` and `.tsv` have a line with the names of the columns, `.jsonl` (or `.ndjson`) an object a line, `.json` an
    array of objects; these may end in `.gz` or `.zst` as well. `.parquet` is Parquet.

    Args:
        path: of the table.
        sequence: the column with the sequences, in either case.
        columns: the other columns.
        alphabet: of the sequences.

    Raises:
        InputError: names the file, and the line and column of what is wrong.
    """
    path = Path(path)
    wanted = list(dict.fromkeys([sequence, *columns]))
    rows = list(table_rows(path, table_format(path), wanted))
    if not rows:
        raise InputError(f"{path}: holds no rows")
    sequences = [
        _letters(values[0], f"{path}: {place}: column {sequence!r}", alphabet) for place, values in rows
    ]
    found = {name: [values[k] for _, values in rows] for k, name in enumerate(wanted)}
    return TableRows(path, [place for place, _ in rows], sequences, {name: found[name] for name in columns})


def table_format(path: str | Path) -> str:
    """The format that the name of a table speaks of.

    Raises:
        InputError: it speaks of none.
    """
    kind = named_format(str(path))
    if kind not in TABLE_FORMATS:
        raise InputError(
            f"{path}: its name should end in .csv, .tsv, .jsonl, .json (with .gz or .zst or without) or .parquet"
        )
    return kind


def _letters(value: Any, what: str, alphabet: Alphabet) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{what}: holds no sequence")
    return checked_letters(value.strip(), what, alphabet)

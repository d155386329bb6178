"""Rows of sequences with labels for probes and fine-tuning: from FASTA or tables, what kind of labels they are."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genotok.errors import InputError
from genotok.genomes.alphabets import DNA, Alphabet
from genotok.genomes.byte_streams import ByteStream
from genotok.genomes.fasta_text import fasta_records
from genotok.genomes.formats import named_format, read_blocks
from genotok.genomes.table_rows import column_names as table_columns
from genotok.models.prediction_heads import KINDS, HeadConfig
from genotok.shards.tables import TableRows, read_table, table_format
from genotok.training.labelled import is_unknown

FASTA_COLUMNS = ("name", "description")
MOST_GUESSED_CLASSES = 20


@dataclass
class LabelledRows:
    """Sequences, each with a label that is known.

    Attributes:
        path: of the table.
        sequences: in upper case.
        head: the kind of the labels, their number and the names of classes.
        labels: (R,) int64 of classes; else (R, N) float32.
        unlabelled: how many rows were left out because their label is empty, NA or NaN.
        alphabet: of the sequences.
    """

    path: Path
    sequences: list[str]
    head: HeadConfig
    labels: np.ndarray
    unlabelled: int = 0
    alphabet: Alphabet = DNA

    def __len__(self) -> int:
        return len(self.sequences)

    def take(self, rows: np.ndarray) -> "LabelledRows":
        """Some of the rows, by index or by mask."""
        rows = np.arange(len(self))[rows]
        chosen = [self.sequences[row] for row in rows]
        return replace(self, sequences=chosen, labels=self.labels[rows])

    def class_name(self, number: int) -> str:
        """What a class is called."""
        return self.head.classes[number] if self.head.classes else str(number)


def is_fasta(path: str | Path) -> bool:
    """Whether a file's name is that of FASTA."""
    return named_format(str(path).lower()) == "fasta"


def stream_fasta(path: str | Path, alphabet: Alphabet = DNA) -> Iterator[tuple[str, str, str]]:
    """The records of a FASTA file in which names may occur again, as (name, whole header, sequence).

    Args:
        path: plain, gzip, BGZF or zstd.
        alphabet: of the sequences.

    Raises:
        InputError: as `genotok.genomes.fasta.read_fasta`, but for names; or a record holds no sequence, or DNA is
            mixed with RNA.
    """
    check = OneAlphabet(path, alphabet)
    for numbered, blocks in fasta_records(_numbered_headers(_text(path)), str(path), alphabet):
        number, header = numbered.split(" ", 1)
        sequence = b"".join(blocks).decode().upper()
        if not sequence:
            raise InputError(f"{path}: record {number} holds no sequence; remove it")
        check(f"record {number}", sequence)
        yield (header.split(maxsplit=1) or [""])[0], header.strip(), sequence


def _text(path: str | Path) -> Iterator[bytes]:
    """The decompressed bytes of a FASTA file."""
    if not str(path).lower().endswith(".zst"):
        yield from read_blocks(path)
        return
    with ByteStream(path) as stream:
        yield from stream.blocks()


def _numbered_headers(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """FASTA text with a number in front of every header, so that no two are the same."""
    count, rest = 0, b""

    def numbered(match: re.Match) -> bytes:
        nonlocal count
        count += 1
        return b">%d " % count

    for block in blocks:
        whole, end, rest = (rest + block).rpartition(b"\n")
        if end:
            yield re.sub(rb"^>", numbered, whole + end, flags=re.MULTILINE)
    if rest:
        yield re.sub(rb"^>", numbered, rest)


def read_rows(path: str | Path, sequence: str, columns: Sequence[str], alphabet: Alphabet = DNA) -> TableRows:
    """Sequences and further columns of a table, or of FASTA, whose columns are `name` and `description`.

    `name` is what stands in front of the first blank of a header, `description` the whole header.

    Raises:
        InputError: the file cannot be read, a column is missing, or DNA is mixed with RNA.
    """
    if not is_fasta(path):
        rows = read_table(path, sequence, columns, alphabet)
        check = OneAlphabet(path, alphabet)
        for place, letters in zip(rows.places, rows.sequences, strict=True):
            check(place, letters)
        return rows
    for column in columns:
        if column not in FASTA_COLUMNS:
            raise InputError(f"{path}: no column {column!r}; FASTA has {' and '.join(FASTA_COLUMNS)}")
    records = list(stream_fasta(path, alphabet))
    places = [f"record {k}" for k in range(1, len(records) + 1)]
    values = {"name": [record[0] for record in records], "description": [record[1] for record in records]}
    sequences = [record[2] for record in records]
    return TableRows(Path(path), places, sequences, {column: values[column] for column in columns})


class OneAlphabet:
    """Refuses sequences of which some are written with T and others with U; call it with each.

    A model reads U as T, but a baseline or a person would tell the two sorts apart by the letter alone.

    Args:
        path: how error sentences call the file.
        alphabet: in that of proteins T and U are two letters, which may both occur.
    """

    def __init__(self, path: str | Path, alphabet: Alphabet = DNA):
        self.path, self.letters = path, "TU" if alphabet.has_strands else ""
        self.first: dict[str, str] = {}

    def __call__(self, place: str, letters: str) -> None:
        """Look at a sequence that stands at some place.

        Raises:
            InputError: it has the letter of the other alphabet.
        """
        for letter in self.letters:
            if letter in letters:
                self.first.setdefault(letter, place)
        if len(self.first) == 2:
            raise InputError(
                f"{self.path}: {self.first['T']} has T and {self.first['U']} has U; write all sequences in one "
                "alphabet, DNA or RNA"
            )


def column_names(path: str | Path) -> list[str]:
    """The columns of a table (of JSON lines those of the first object), or of FASTA.

    Raises:
        InputError: the file cannot be read.
    """
    path = Path(path)
    if is_fasta(path):
        return list(FASTA_COLUMNS)
    return table_columns(path, table_format(path))


def read_labelled_rows(
    path: str | Path,
    columns: Sequence[str],
    sequence: str = "sequence",
    kind: str = "auto",
    max_length: int | None = None,
    like: HeadConfig | None = None,
    alphabet: Alphabet = DNA,
) -> LabelledRows:
    """Read the rows of a table whose labels are known.

    Args:
        path: FASTA, whose headers are the column `name`, or a table.
        columns: of the labels: one for classes, several for answers yes or no and for numbers.
        sequence: the column with the sequences.
        kind: `classification`, `multi_label`, `regression`, or `auto`: numbers that are not whole, or of more than
            20 values, are a regression; several columns of 0 and 1 are answers; all else is classes.
        max_length: letters of a sequence that are read; None for all.
        like: what another table holds, to which the labels of this one must belong.
        alphabet: of the sequences.

    Raises:
        InputError: names the file, and the line and column of what is wrong; or there is only one class.
    """
    if not columns:
        raise InputError("--label: name the column of the labels")
    if kind not in ("auto", *KINDS):
        raise InputError(f"--kind: {kind!r} should be auto, {', '.join(KINDS)}")
    rows = read_rows(path, sequence, columns, alphabet)
    known = [k for k in range(len(rows)) if not any(is_unknown(rows.values[name][k]) for name in columns)]
    if not known:
        raise InputError(f"{path}: column {columns[0]!r} holds no label")
    cells = _Cells(
        Path(path),
        columns,
        [rows.places[k] for k in known],
        [[rows.values[c][k] for c in columns] for k in known],
    )
    kind = like.kind if like else (cells.guess() if kind == "auto" else kind)
    head, labels = cells.classes(like) if kind == "classification" else cells.numbers(kind, like)
    sequences = [rows.sequences[k][:max_length] for k in known]
    return LabelledRows(Path(path), sequences, head, labels, len(rows) - len(known), alphabet)


@dataclass
class _Cells:
    """The cells of the label columns, as they stand in a table."""

    path: Path
    columns: Sequence[str]
    places: list[str]
    values: list[list[Any]]
    numeric: list[list[float | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.numeric = [[_number(value) for value in row] for row in self.values]

    def _at(self, row: int) -> str:
        return f"{self.path}: {self.places[row]}: column {' and '.join(map(repr, self.columns))}"

    def guess(self) -> str:
        """The kind that the labels look like."""
        flat = [number for row in self.numeric for number in row]
        if len(self.columns) > 1:
            return "multi_label" if set(flat) <= {0.0, 1.0} else "regression"
        if None in flat:
            return "classification"
        whole = all(number == int(number) for number in flat)
        return "classification" if whole and len(set(flat)) <= MOST_GUESSED_CLASSES else "regression"

    def classes(self, like: HeadConfig | None) -> tuple[HeadConfig, np.ndarray]:
        """Classes by name; those named 0 to N - 1 need no names."""
        if len(self.columns) > 1:
            raise InputError(
                f"{self.path}: classes stand in one column, and {', '.join(map(repr, self.columns))} are several"
            )
        names = [self._class_name(k) for k in range(len(self.values))]
        counts = Counter(names)
        if like is not None:
            known = like.classes or [str(number) for number in range(like.outputs)]
            for row, name in enumerate(names):
                if name not in known:
                    raise InputError(
                        f"{self._at(row)}: {name!r} is no class of the training table: {', '.join(known)}"
                    )
            return like, np.array([known.index(name) for name in names], np.int64)
        if len(counts) < 2:
            raise InputError(f"{self.path}: column {self.columns[0]!r} holds one class alone, {names[0]!r}")
        if len(counts) > max(len(names) // 2, 2):
            raise InputError(
                f"{self.path}: column {self.columns[0]!r} holds {len(counts)} classes in {len(names)} rows; name a "
                "column with classes that come again, or give --kind regression"
            )
        known = sorted(counts, key=lambda name: (_number(name) is None, _number(name) or 0.0, name))
        numbered = known == [str(number) for number in range(len(known))]
        head = HeadConfig("classification", len(known), None if numbered else known)
        place = {name: number for number, name in enumerate(known)}
        return head, np.array([place[name] for name in names], np.int64)

    def _class_name(self, row: int) -> str:
        (value,), (number,) = self.values[row], self.numeric[row]
        if number is None:
            return str(value).strip()
        if number != int(number):
            raise InputError(f"{self._at(row)}: {value!r} is no class; give --kind regression for numbers")
        return str(int(number))

    def numbers(self, kind: str, like: HeadConfig | None) -> tuple[HeadConfig, np.ndarray]:
        """Numbers, or answers yes or no; a column a value."""
        for row, (values, numbers) in enumerate(zip(self.values, self.numeric, strict=True)):
            for value, number in zip(values, numbers, strict=True):
                if number is None:
                    raise InputError(f"{self._at(row)}: {value!r} is no number")
                if kind == "multi_label" and number not in (0, 1):
                    raise InputError(f"{self._at(row)}: {value!r} is neither 0 nor 1")
        labels = np.array(self.numeric, np.float32)
        for column, values in zip(self.columns, labels.T, strict=True):
            if like is None and len(np.unique(values)) < 2:
                raise InputError(f"{self.path}: column {column!r} holds {values[0]:g} alone")
        return like or HeadConfig(kind, len(self.columns)), labels


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None

"""Labelled sequences: from the rows of a table to batches for the heads of a model."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.genomes.alphabets import reverse_complement
from genotok.models import ModelConfig
from genotok.models.prediction_heads import HeadConfig
from genotok.shards.order import Place, ShuffledOrder, check_ranks, share_of
from genotok.shards.sampler import Job, Reading, collate, with_tensors
from genotok.shards.tables import TableRows, read_table
from genotok.tokenizers import IGNORED_LABEL, LetterTokenizer, Tokenizer, load_tokenizer

UNKNOWN = ("", "na", "nan")


@dataclass
class LabelledBatch:
    """Padded token ids, labels by the head's name as `GenomicLM` takes them, and lengths.

    Attributes:
        input_ids: (B, L) int64.
        labels: of each head.
        lengths: (B,) int64.
        bases: how many letters the sequences have.
        task: `prediction`.
        data, turn, step: as in `genotok.shards.sampler.Batch`.
    """

    input_ids: Tensor
    labels: dict[str, Tensor]
    lengths: Tensor
    bases: int = 0
    task: str = "prediction"
    data: str = ""
    turn: int = 0
    step: int = 0

    def to(self, device: torch.device) -> "LabelledBatch":
        """The batch on a device."""
        return with_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "LabelledBatch":
        """The batch in memory that a GPU reads while the CPU works on."""
        return with_tensors(self, Tensor.pin_memory)


class LabelledTable:
    """The rows of a table with labels for the heads of a model.

    Args:
        path: of the table, see `genotok.shards.tables.read_table`.
        model: its tokenizer and heads.
        columns: the column of each head, by the head's name. A head with N outputs takes N columns, or one with N
            values: a list, or text with spaces, commas or semicolons between them. A head per nucleotide takes one
            column with a value a letter; in text they need nothing between them where each is one letter.
        sequence: the column with the sequences.
        max_length: letters of a sequence that are read; those behind them are left out. None for all.

    Classes are whole numbers from 0, or names where the head has `classes`. What is empty, null, NA or NaN is unknown
    and does not count.

    Raises:
        InputError: names the file, line and column, or the head.
    """

    def __init__(
        self,
        path: str | Path,
        model: ModelConfig,
        columns: Mapping[str, str | Sequence[str]],
        sequence: str = "sequence",
        max_length: int | None = None,
    ):
        self.path, self.tokenizer = path, load_tokenizer(model.tokenizer)
        self.heads = {name: _head(model, name, self.tokenizer) for name in columns}
        by_head = {
            name: [value] if isinstance(value, str) else list(value) for name, value in columns.items()
        }
        rows = read_table(
            path,
            sequence,
            [column for values in by_head.values() for column in values],
            self.tokenizer.alphabets[0],
        )
        self.labels = {name: _labels(rows, self.heads[name], by_head[name]) for name in columns}
        self.sequences = [letters[:max_length].encode() for letters in rows.sequences]

    def __len__(self) -> int:
        return len(self.sequences)

    def batch(self, places: Sequence[Place]) -> LabelledBatch:
        """The rows of some places; opposite strands are read where these ask for it."""
        letters = [self.sequences[place.index] for place in places]
        for k, place in enumerate(places):
            if place.reverse:
                letters[k] = reverse_complement(letters[k])
        ids = [self.tokenizer.encode_letters(text) for text in letters]
        batch = collate(ids, self.tokenizer)
        labels = {name: self._batch_labels(name, places, batch.input_ids.shape[1]) for name in self.heads}
        return LabelledBatch(batch.input_ids, labels, batch.lengths, batch.bases)

    def _batch_labels(self, name: str, places: Sequence[Place], length: int) -> Tensor:
        head, rows = self.heads[name], [self.labels[name][place.index] for place in places]
        if head.per == "nucleotide":
            begin = int(self.tokenizer.start_id is not None)
            padded = np.full((len(rows), length), _unknown(head), rows[0].dtype)
            for k, place in enumerate(places):
                end = begin + len(self.sequences[place.index])
                padded[k, begin:end] = rows[k][: end - begin]
            rows = padded if head.kind == "classification" else padded[..., None]
        return torch.from_numpy(np.stack(rows))

    def in_order(self, batch_size: int) -> Iterator[LabelledBatch]:
        """All rows once, in order; the last batch may be smaller."""
        for begin in range(0, len(self), batch_size):
            yield self.batch([Place(0, k, False) for k in range(begin, min(begin + batch_size, len(self)))])


class LabelledBatches:
    """Batches of shuffled rows without end; see `genotok.shards.order.ShuffledOrder`.

    Args:
        table: the rows.
        batch_size: rows a batch.
        seed: fixes the order and the strands.
        both_strands: whether sequences are read from either strand.
        rank, ranks: which share of each batch this is, see `genotok.shards.sampler.TrainingBatches`.

    Raises:
        InputError: a head's labels belong to nucleotides, which the opposite strand would turn round; or there are
            fewer rows than ranks.
    """

    def __init__(
        self,
        table: LabelledTable,
        batch_size: int,
        seed: int,
        both_strands: bool,
        rank: int = 0,
        ranks: int = 1,
    ):
        if both_strands and not table.tokenizer.has_strands:
            raise InputError(
                "both_strands: proteins have no opposite strand; set it to false, or leave it out"
            )
        for name, head in table.heads.items():
            if both_strands and head.per == "nucleotide":
                raise InputError(f"both_strands: the labels of {name!r}, one a nucleotide, are of one strand")
        check_ranks(batch_size, "batch_size: is", ranks)
        check_ranks(len(table), f"{table.path}: its rows are", ranks)
        self.table, self.batch_size, self.rank, self.ranks = table, batch_size, rank, ranks
        self.order = ShuffledOrder(table, seed, both_strands)
        self.state, self.restore = self.order.state, self.order.restore

    def __iter__(self) -> Iterator[LabelledBatch]:
        return self

    def next_job(self, reading: Reading | None = None) -> Job:
        """This rank's share of the next global batch."""
        places = self.order.next_places(self.batch_size)
        return Job(share_of(places, self.rank, self.ranks), reading or Reading())

    def make(self, job: Job) -> LabelledBatch:
        """The batch of a job."""
        return self.table.batch(job.places)

    def __next__(self) -> LabelledBatch:
        return self.make(self.next_job())


def _head(model: ModelConfig, name: str, tokenizer: Tokenizer) -> HeadConfig:
    if name not in model.heads:
        known = ", ".join(model.heads) or "none"
        raise InputError(f"labels: the model has no head {name!r}; there are {known}")
    head = model.heads[name]
    if head.per == "nucleotide":
        if not isinstance(tokenizer, LetterTokenizer):
            raise InputError(
                f"labels: {name!r} is per nucleotide, which needs a tokenizer with a token a letter"
            )
        if head.kind != "classification" and head.outputs > 1:
            raise InputError(
                f"labels: {name!r} has {head.outputs} outputs a nucleotide, and a table holds one label"
            )
    return head


def _unknown(head: HeadConfig) -> float:
    return IGNORED_LABEL if head.kind == "classification" else math.nan


def _labels(rows: TableRows, head: HeadConfig, columns: list[str]) -> list[np.ndarray]:
    """The labels of each row: () int64 of a class, (N,) float32, or (letters,) of either."""
    per_letter, classes = head.per == "nucleotide", head.kind == "classification"
    columns_of_rows = zip(*(rows.values[column] for column in columns), strict=True)
    labels = []
    for place, sequence, values in zip(rows.places, rows.sequences, columns_of_rows, strict=True):
        where = f"{rows.path}: {place}: column {' and '.join(map(repr, columns))}"
        wanted = len(sequence) if per_letter else (1 if classes else head.outputs)
        values = _separated(list(values), wanted, per_letter)
        if len(values) != wanted:
            raise InputError(f"{where}: {len(values)} values where {wanted} belong")
        parsed = np.array(
            [_label(value, head, where) for value in values], np.int64 if classes else np.float32
        )
        labels.append(parsed if per_letter or not classes else parsed[0])
    return labels


def _separated(values: list[Any], wanted: int, per_letter: bool) -> list[Any]:
    """The values of a cell that holds several; an empty cell is that many unknown ones."""
    if len(values) != 1:
        return values
    (cell,) = values
    if isinstance(cell, list):
        return cell
    if is_unknown(cell):
        return [None] * wanted
    if isinstance(cell, str) and (wanted > 1 or per_letter):
        parts = [part for part in re.split(r"[\s,;]+", cell) if part]
        return list(cell) if per_letter and len(parts) == 1 and len(cell) == wanted else parts
    return values


def is_unknown(value: Any) -> bool:
    """Whether a cell of a table says that a label is not known."""
    if isinstance(value, str):
        return value.strip().lower() in UNKNOWN
    return value is None or (isinstance(value, float) and math.isnan(value))


def _label(value: Any, head: HeadConfig, where: str) -> float:
    if is_unknown(value):
        return _unknown(head)
    if head.classes is not None:
        if str(value).strip() not in head.classes:
            raise InputError(f"{where}: {value!r} is none of the classes {', '.join(head.classes)}")
        return head.classes.index(str(value).strip())
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {value!r} is no number") from error
    if head.kind == "classification" and number not in range(head.outputs):
        raise InputError(f"{where}: {value!r} is no class from 0 to {head.outputs - 1}")
    if head.kind == "multi_label" and number not in (0, 1):
        raise InputError(f"{where}: {value!r} is neither 0 nor 1")
    if not math.isfinite(number):
        raise InputError(f"{where}: {value!r} is no finite number")
    return number

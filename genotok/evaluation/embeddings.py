"""Frozen embeddings: the states of a model, pooled over the nucleotides of each sequence, and as Parquet."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.evaluation.labelled_rows import (
    FASTA_COLUMNS,
    column_names,
    is_fasta,
    read_rows,
    stream_fasta,
)
from genotok.genomes.alphabets import Alphabet, reverse_complement
from genotok.kernels.ragged import Ragged
from genotok.models import GenomicLM
from genotok.models.prediction_heads import pooled
from genotok.progress import progress
from genotok.shards.sampler import Batch, collate
from genotok.training.columns import cuts_by_given
from genotok.training.precision import autocast

EMBEDDING_POOLS = ("mean", "last", "nucleotide")
LETTERS_A_BATCH = 16_384
ROWS_A_BLOCK = 8_192
NUMBERS_A_BLOCK = 1 << 25  # of an output per nucleotide, 128 MiB


@dataclass
class Embedder:
    """Turns sequences into the states of a frozen model.

    Attributes:
        model: the model.
        layer: which of `ModelOutput.hidden_states`; 0 the embeddings of the tokens, -1 the states
            after the final norm.
        pool: `mean` over the certain nucleotides, each with the state of its token; `last`, that of the last token
            whose nucleotides are certain; `nucleotide`, one state a letter.
        both_strands: whether the pooled states of both strands are averaged.
        max_length: letters of a sequence that are read; None for all.
        precision: `auto`, `fp32` or `bf16`.
        letters_a_batch: letters, padding included, that are read at once; a longer sequence is read alone.

    Raises:
        InputError: the model has no such layer, or needs more than letters.
    """

    model: GenomicLM
    layer: int = -1
    pool: str = "mean"
    both_strands: bool = False
    max_length: int | None = None
    precision: str = "auto"
    letters_a_batch: int = LETTERS_A_BATCH

    def __post_init__(self) -> None:
        if self.pool not in EMBEDDING_POOLS:
            raise InputError(f"--pool: {self.pool!r} should be {', '.join(EMBEDDING_POOLS)}")
        if self.pool == "nucleotide" and self.both_strands:
            raise InputError("--both-strands: states per nucleotide are of one strand")
        if self.both_strands and not self.model.tokenizer.has_strands:
            raise InputError("--both-strands: the model reads proteins, which have no opposite strand")
        if cuts_by_given(self.model.config):
            raise InputError("the model's chunker 'given' cuts by boundaries, and sequences alone have none")
        tasks = self.model.config.tasks
        self.task = next(task for task in ("mlm", "lm", "prediction") if task in tasks)
        self.model.eval()
        found = len(
            self._states(collate([self.model.tokenizer.encode_letters(b"ACGT" * 8)], self.model.tokenizer))
        )
        if not -found <= self.layer < found:
            raise InputError(
                f"--layer: {self.layer} should be from {-found} to {found - 1}; the model has {found}"
            )

    @property
    def alphabet(self) -> Alphabet:
        """Of the sequences that are read; of several alphabets the model's first."""
        return self.model.tokenizer.alphabets[0]

    @property
    def width(self) -> int:
        """Features of a state."""
        return self.model.config.d_model[0]

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on besides the sequences, as JSON values."""
        return {
            "model_sha256": self.model.content_hash(),
            "layer": self.layer,
            "pool": self.pool,
            "both_strands": self.both_strands,
            "max_length": self.max_length,
        }

    @torch.no_grad()
    def _states(self, batch: Batch) -> list[Tensor]:
        device = self.model.device
        with autocast(device, self.precision):
            output = self.model(
                batch.input_ids.to(device),
                task=self.task,
                lengths=batch.lengths.to(device),
                output_hidden_states=True,
            )
        return output.hidden_states

    def embed(
        self, sequences: Sequence[str], on_done: Callable[[int], None] = lambda letters: None
    ) -> np.ndarray | list[np.ndarray]:
        """The states of sequences, in their order.

        Args:
            sequences: R of them, none empty.
            on_done: called with the number of letters whenever some are done.

        Returns:
            (R, D) float32; per nucleotide a list of R arrays (letters, D). A sequence without certain nucleotides
            has a pooled state of 0.
        """
        texts = [sequence[: self.max_length].upper().encode() for sequence in sequences]
        found: list[Any] = [None] * len(texts)
        for rows in self._batches([len(text) for text in texts]):
            chosen = [texts[row] for row in rows]
            states = self._embed_batch(chosen)
            if self.both_strands:
                opposite = [reverse_complement(text) for text in chosen]
                states = (states + self._embed_batch(opposite)) / 2
            for row, state in zip(rows, states, strict=True):
                found[row] = state
            on_done(sum(map(len, chosen)))
        if self.pool == "nucleotide":
            return found
        return np.stack(found) if found else np.zeros((0, self.width), np.float32)

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Rows of about the same length."""
        batch: list[int] = []
        for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
            if batch and (len(batch) + 1) * (lengths[row] + 1) > self.letters_a_batch:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _embed_batch(self, texts: list[bytes]) -> Any:
        tokenizer = self.model.tokenizer
        batch = collate([tokenizer.encode_letters(text) for text in texts], tokenizer)
        states = self._states(batch)[self.layer].float().cpu()
        if self.pool == "mean":
            weights = batch.letters.masked_fill(batch.labels < 0, 0).float()
            weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
            return (weights[:, None] @ states)[:, 0].numpy()
        if self.pool == "last":
            ragged = Ragged.from_lengths(batch.lengths)
            certain = ragged.to_packed(batch.labels >= 0)
            return pooled(ragged.to_packed(states), ragged, certain, "last").numpy()
        return [
            state.repeat_interleave(count, 0).numpy()
            for state, count in zip(states, batch.letters, strict=True)
        ]


def embed_file(
    embedder: Embedder,
    source: Path,
    output: Path,
    sequence: str = "sequence",
    keep: Sequence[str] | None = None,
) -> int:
    """Write the embeddings of all sequences of a file as Parquet, in memory that has a bound.

    The columns are those that are kept, `length` (letters read) and `embedding`, a list of float32 of fixed size, or
    per nucleotide a list of such lists. The file's metadata `genotok` says what the numbers depend on.

    Args:
        embedder: the model and how its states are pooled.
        source: FASTA, or a table as `genotok.shards.tables.read_table` takes it.
        output: the Parquet file.
        sequence: the column with the sequences.
        keep: columns to keep; None for all but the sequences.

    Returns:
        The number of rows.

    Raises:
        InputError: the file cannot be read, or a column is missing or has a name that the output needs.
    """
    if keep is None:
        keep = ["name"] if is_fasta(source) else [name for name in column_names(source) if name != sequence]
    for column in keep:
        if column in ("length", "embedding"):
            raise InputError(
                f"{source}: column {column!r} has a name that the output needs; leave it out with --keep"
            )
    state = pa.list_(pa.float32(), embedder.width)
    done = 0
    with (
        atomic_path(output) as temporary,
        progress("embed", None, "bases") as bar,
        _Writer(temporary) as writer,
    ):
        for sequences, columns in _blocks(embedder, source, sequence, list(keep)):
            found = embedder.embed(sequences, bar.advance)
            lengths = [len(letters[: embedder.max_length]) for letters in sequences]
            writer.write(source, columns, lengths, _as_lists(found, state, embedder), embedder.describe())
            done += len(sequences)
    return done


def _as_lists(found: np.ndarray | list[np.ndarray], state: pa.DataType, embedder: Embedder) -> pa.Array:
    per_nucleotide = isinstance(found, list)
    flat = np.concatenate(found) if per_nucleotide else found
    states = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=state)
    if not per_nucleotide:
        return states
    offsets = np.cumsum([0, *map(len, found)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), states)


class _Writer:
    """A Parquet file whose columns get their types from the first block."""

    def __init__(self, path: Path):
        self.path, self.file, self.schema = path, None, None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def write(
        self,
        source: Path,
        columns: dict[str, list],
        lengths: list[int],
        states: pa.Array,
        about: dict[str, Any],
    ) -> None:
        """Add a block of rows."""
        arrays = {name: self._typed(source, name, values) for name, values in columns.items()}
        arrays |= {"length": pa.array(lengths, pa.int64()), "embedding": states}
        table = pa.table(arrays)
        if self.file is None:
            text = ", ".join(f"{key}={value}" for key, value in sorted(about.items()))
            self.schema = table.schema.with_metadata({"genotok": text})
            self.file = pq.ParquetWriter(self.path, self.schema)
        self.file.write_table(table.cast(self.schema))

    def _typed(self, source: Path, name: str, values: list) -> pa.Array:
        try:
            return pa.array(values, None if self.schema is None else self.schema.field(name).type)
        except (pa.ArrowException, OverflowError) as error:
            raise InputError(
                f"{source}: column {name!r} holds values of several kinds ({error}); leave it out with --keep"
            ) from error


def _blocks(
    embedder: Embedder, source: Path, sequence: str, keep: list[str]
) -> Iterator[tuple[list[str], dict[str, list]]]:
    """Sequences and kept columns, so many at once that the output of a block stays small."""
    if is_fasta(source):
        _check_columns(source, keep)
        rows = (
            (letters, (name, header)) for name, header, letters in stream_fasta(source, embedder.alphabet)
        )
        values_of = {name: FASTA_COLUMNS.index(name) for name in keep}
    else:
        table = read_rows(source, sequence, keep, embedder.alphabet)
        rows = (
            zip(table.sequences, zip(*(table.values[name] for name in keep), strict=True), strict=True)
            if keep
            else ((letters, ()) for letters in table.sequences)
        )
        values_of = {name: place for place, name in enumerate(keep)}
    most = NUMBERS_A_BLOCK // embedder.width
    while block := _next_block(rows, most if embedder.pool == "nucleotide" else 1 << 26):
        sequences = [letters for letters, _ in block]
        yield sequences, {name: [values[place] for _, values in block] for name, place in values_of.items()}


def _check_columns(source: Path, keep: list[str]) -> None:
    for column in keep:
        if column not in FASTA_COLUMNS:
            raise InputError(f"{source}: no column {column!r}; FASTA has {' and '.join(FASTA_COLUMNS)}")


def _next_block(rows: Iterator, most_letters: int) -> list:
    block, letters = [], 0
    for row in islice(rows, ROWS_A_BLOCK):
        block.append(row)
        letters += len(row[0])
        if letters >= most_letters:
            break
    return block

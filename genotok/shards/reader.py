"""Reading shards back: windows by index, without copying what is not asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from genotok.errors import InputError
from genotok.genomes.alphabets import PROTEIN
from genotok.shards.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    import torch

ENTROPY_COLUMNS = ("entropies", "entropies_rc")  # of the window, and of the opposite strand
BOUNDARY_COLUMN = "boundaries"
QUALITY_COLUMN = "qualities"


@dataclass
class Window:
    """One window: where it lies (`start` 0-based), an id a letter (L,) uint8, and which are ambiguous (L,) bool."""

    genome: str
    contig: str
    start: int
    ids: np.ndarray
    ambiguous: np.ndarray


class ShardDataset:
    """The windows of one split, in the order of the files; memory-mapped.

    Args:
        shards: a folder with `manifest.json`.
        split: `train`, `valid` or `test`.

    Raises:
        InputError: the folder holds no shards, the split is empty, or a file is missing or damaged.
    """

    def __init__(self, shards: str | Path, split: str):
        self.folder, self.manifest = read_manifest(shards)
        self.split = split
        files = [file for file in self.manifest.files if file.split == split]
        if not files:
            raise InputError(f"{shards}: the split {split!r} holds no windows")
        self._batches: list[pa.RecordBatch] = []
        for file in files:
            self._batches += open_batches(self.folder / file.path, file.windows)
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])
        self._letters: dict[tuple[str, int], tuple[np.ndarray, pa.Array]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __reduce__(self):
        """Another process opens the files anew."""
        return type(self), (self.folder, self.split)

    def ids(self, index: int, begin: int = 0, end: int | None = None) -> np.ndarray:
        """(L,) uint8: the ids of a window, or of its letters `[begin, end)`, where the file holds them."""
        return self._letters_of("ids", index, begin, end)

    def soft_masked(self, index: int, begin: int = 0, end: int | None = None) -> np.ndarray:
        """(L,) bool: the soft-masked letters of a window, or of its letters `[begin, end)`."""
        return self._letters_of("soft_masked", index, begin, end)

    def _letters_of(self, column: str, index: int, begin: int, end: int | None) -> np.ndarray:
        number = int(np.searchsorted(self._ends, index, side="right"))
        if (column, number) not in self._letters:
            lists = self._batches[number].column(column)
            self._letters[column, number] = lists.offsets.to_numpy(), lists.values
        offsets, values = self._letters[column, number]
        row = index - int(self._ends[number] - self._batches[number].num_rows)
        first, last = int(offsets[row]), int(offsets[row + 1])
        part = values.slice(first + begin, (last if end is None else min(first + end, last)) - first - begin)
        return part.to_numpy(zero_copy_only=column == "ids")

    def outline(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each window (N,) int64: the number of its contig, counted as they come, its start and its length."""
        contigs, starts, lengths = [], [], []
        known: dict[tuple[str, str], int] = {}
        for batch in self._batches:
            names = [batch.column(name).dictionary_encode() for name in ("genome", "contig")]
            genome, contig = (column.indices.to_numpy() for column in names)
            genomes, of_genomes = (column.dictionary.to_pylist() for column in names)
            pairs, numbers = np.unique(np.stack([genome, contig]), axis=1, return_inverse=True)
            found = [known.setdefault((genomes[g], of_genomes[c]), len(known)) for g, c in pairs.T]
            contigs.append(np.array(found, np.int64)[numbers.reshape(-1)])
            starts.append(batch.column("start").to_numpy())
            lengths.append(np.diff(batch.column("ids").offsets.to_numpy()).astype(np.int64))
        return np.concatenate(contigs), np.concatenate(starts), np.concatenate(lengths)

    def _locate(self, index: int) -> tuple[pa.RecordBatch, int]:
        """The record batch of a window, and its row there."""
        batch_index = int(np.searchsorted(self._ends, index, side="right"))
        return self._batches[batch_index], index - (int(self._ends[batch_index - 1]) if batch_index else 0)

    def ids_tensor(self, index: int) -> "torch.Tensor":
        """(L,) uint8: the ids of a window where they lie in the file, which nobody copies.

        The file is mapped for reading alone: the system ends a process that writes into the tensor. To calculate with
        it, to index it and to move it to a device is fine.
        """
        import torch  # which takes seconds, and making shards needs it not

        batch, row = self._locate(index)
        return torch.from_dlpack(batch.column("ids")[row].values)

    def entropies(self, index: int, reverse: bool = False) -> np.ndarray:
        """(L,) or, behind a start token, (L + 1,) float32 in nats: the entropies of a window or its other strand.

        Only shards with a column of entropies have them; see `genotok.shards.entropies`.
        """
        batch, row = self._locate(index)
        return batch.column(ENTROPY_COLUMNS[reverse])[row].values.to_numpy().astype(np.float32)

    def boundaries(self, index: int, reverse: bool = False) -> np.ndarray:
        """(L,) bool, the letters of a window that a chunk begins with, the first among them; or of its other strand.

        Only shards with a column of boundaries have them; see `genotok.shards.boundaries`. What lies in front of
        letter i lies in front of letter L - i on the other strand.
        """
        batch, row = self._locate(index)
        mask = batch.column(BOUNDARY_COLUMN)[row].values.to_numpy(zero_copy_only=False)
        return np.concatenate([mask[:1], mask[:0:-1]]) if reverse else mask

    def qualities(self, index: int, reverse: bool = False) -> np.ndarray | None:
        """(L,) uint8, the Phred quality of each letter of a window or of its other strand; None where it has none."""
        batch, row = self._locate(index)
        if QUALITY_COLUMN not in batch.schema.names or not batch.column(QUALITY_COLUMN)[row].is_valid:
            return None
        found = batch.column(QUALITY_COLUMN)[row].values.to_numpy()
        return found[::-1] if reverse else found

    def value(self, index: int, column: str) -> str | None:
        """What a column that was kept says of a window's sequence; None where its source said nothing.

        Raises:
            InputError: none of the sources has such a column.
        """
        batch, row = self._locate(index)
        if column not in batch.schema.names:
            known = {name for source in self.manifest.sources for name in source.get("columns", ())}
            if column not in known:
                there = ", ".join(sorted(known)) or "none"
                raise InputError(f"{self.folder}: the column {column!r} was not kept; there are {there}")
            return None
        return batch.column(column)[row].as_py()

    def __getitem__(self, index: int) -> Window:
        batch, row = self._locate(index)
        return Window(
            batch.column("genome")[row].as_py(),
            batch.column("contig")[row].as_py(),
            batch.column("start")[row].as_py(),
            batch.column("ids")[row].values.to_numpy(),
            batch.column("ambiguous")[row].values.to_numpy(zero_copy_only=False),
        )


def open_batches(path: Path, windows: int) -> list[pa.RecordBatch]:
    """The record batches of a shard, memory-mapped.

    Raises:
        InputError: it cannot be read, or does not hold so many windows.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable shard: {error}; run `genotok tokenize` again") from error
    if sum(batch.num_rows for batch in batches) != windows:
        raise InputError(f"{path}: does not hold the {windows} windows that its manifest names")
    return batches


def contig_sequences(shards: str | Path, split: str):
    """Each contig of a split as one array of ids, for models that read a contig as a whole.

    Letters of dropped windows (all ambiguous) are left out, and a new array begins behind them.

    Yields:
        (Window of the first window, ids (L,) uint8) for each unbroken stretch.
    """
    dataset = ShardDataset(shards, split)
    stretch: list[np.ndarray] = []
    first, begin, end = None, -1, -1  # of the window before
    for i in range(len(dataset)):
        window = dataset[i]
        follows = first is not None and (window.genome, window.contig) == (first.genome, first.contig)
        # Sequences of one name may follow one another, and each begins anew.
        if not (follows and begin < window.start <= end):
            if first is not None:
                yield first, np.concatenate(stretch)
            first, stretch, end = window, [], window.start
        stretch.append(window.ids[end - window.start :])
        begin, end = window.start, window.start + len(window.ids)
    if first is not None:
        yield first, np.concatenate(stretch)


def training_letters(shards: str | Path) -> Iterator[bytes]:
    """The letters of each unbroken stretch of the split `train`.

    Raises:
        InputError: the shards cannot be read, have no such split, or hold other letters than nucleotides.
    """
    manifest = read_manifest(shards)[1]
    tokenizer = manifest.letter_tokenizer
    if any(source.get("alphabet") == PROTEIN.name for source in manifest.sources):
        raise InputError(f"{shards}: holds proteins, and byte pairs are learned of nucleotides")
    for _, ids in contig_sequences(shards, "train"):
        yield tokenizer.decode(ids).encode()


__all__ = ["Manifest", "ShardDataset", "Window", "contig_sequences", "training_letters"]

"""The order in which windows are seen, and how they become a batch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genotok.shards.reader import ShardDataset, Window
from genotok.tokenizers import IGNORED_LABEL, LetterTokenizer, load_tokenizer


@dataclass
class Batch:
    """Padded token ids, labels and lengths.

    Attributes:
        input_ids: (B, L) int64, padded behind the end with the tokenizer's pad id.
        labels: (B, L) int64, the ids again, with -100 at ambiguous letters, the start token and the padding.
        lengths: (B,) int64.
        boundary_inputs: (B, L) float32, entropies that the shards hold; None to have the model work them out.
    """

    input_ids: Tensor
    labels: Tensor
    lengths: Tensor
    boundary_inputs: Tensor | None = None

    @property
    def nucleotides(self) -> int:
        """How many certain nucleotides are predicted."""
        return int((self.labels[:, 1:] >= 0).sum())

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        parts = (self.input_ids, self.labels, self.lengths, self.boundary_inputs)
        return Batch(*(None if x is None else x.to(device, non_blocking=True) for x in parts))


def collate(ids: list[np.ndarray], tokenizer: LetterTokenizer) -> Batch:
    """Put sequences of ids into one batch, each behind the tokenizer's start token where it has one."""
    start = [] if tokenizer.start_id is None else [tokenizer.start_id]
    lengths = np.array([len(start) + len(sequence) for sequence in ids])
    input_ids = np.full((len(ids), lengths.max()), tokenizer.pad_id, np.int64)
    labels = np.full(input_ids.shape, IGNORED_LABEL, np.int64)
    for row, sequence in enumerate(ids):
        input_ids[row, : len(start)] = start
        input_ids[row, len(start) : lengths[row]] = sequence
        certain = tokenizer.is_nucleotide[sequence]
        labels[row, len(start) : lengths[row]] = np.where(certain, sequence.astype(np.int64), IGNORED_LABEL)
    return Batch(torch.from_numpy(input_ids), torch.from_numpy(labels), torch.from_numpy(lengths))


class TrainingBatches:
    """Batches of shuffled windows without end: each window once an epoch, in an order that the seed fixes.

    The order depends on the seed and the epoch alone, so that `state()` is two numbers and a run that goes on
    from it sees what an uninterrupted one would.

    Args:
        dataset: the windows.
        batch_size: windows a batch; a batch may hold the end of one epoch and the beginning of the next.
        seed: fixes the order and the strands.
        both_strands: whether each window is read from the opposite strand in every second epoch, chosen by
            chance window by window.
        with_entropies: whether the entropies that the shards hold go into the batches.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batch_size: int,
        seed: int,
        both_strands: bool,
        with_entropies: bool = False,
    ):
        self.dataset, self.batch_size, self.with_entropies = dataset, batch_size, with_entropies
        self.seed, self.both_strands = seed, both_strands
        self.tokenizer = load_tokenizer(dataset.manifest.tokenizer)
        self.epoch = self.position = 0
        self._order = self._reverse = np.empty(0)
        self._open_epoch()

    def _open_epoch(self) -> None:
        random = np.random.default_rng([self.seed, self.epoch])
        self._order = random.permutation(len(self.dataset))
        # The coin of a window is thrown once for each pair of epochs: one of the two sees the other strand.
        coins = np.random.default_rng([self.seed, self.epoch // 2, 1]).random(len(self.dataset)) < 0.5
        self._reverse = coins ^ bool(self.epoch % 2)

    def state(self) -> dict[str, int]:
        """Where the next batch begins."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._open_epoch()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        chosen = [self._next_window() for _ in range(self.batch_size)]
        batch = collate([self._ids(*window) for window in chosen], self.tokenizer)
        if self.with_entropies:
            rows = [torch.from_numpy(self.dataset.entropies(*window)) for window in chosen]
            batch.boundary_inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return batch

    def _next_window(self) -> tuple[int, bool]:
        """The index of the next window, and whether it is read from the opposite strand."""
        if self.position == len(self.dataset):
            self.epoch, self.position = self.epoch + 1, 0
            self._open_epoch()
        index = int(self._order[self.position])
        self.position += 1
        return index, bool(self.both_strands and self._reverse[index])

    def _ids(self, index: int, reverse: bool) -> np.ndarray:
        ids = self.dataset[index].ids
        return self.tokenizer.reverse_complement(ids) if reverse else ids


def batches_in_order(dataset: ShardDataset, batch_size: int) -> Iterator[tuple[list[Window], Batch]]:
    """All windows once, in order; the last batch may be smaller."""
    tokenizer = load_tokenizer(dataset.manifest.tokenizer)
    for begin in range(0, len(dataset), batch_size):
        windows = [dataset[i] for i in range(begin, min(begin + batch_size, len(dataset)))]
        yield windows, collate([window.ids for window in windows], tokenizer)

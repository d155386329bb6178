"""The order in which windows are seen, and how they become a batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genotok.shards.order import Place, ShuffledOrder
from genotok.shards.reader import ShardDataset, Window
from genotok.tokenizers import IGNORED_LABEL, Tokenizer, load_tokenizer
from genotok.tokenizers.certain import certain_tokens

if TYPE_CHECKING:
    from genotok.shards.masking import Masking


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


def collate(ids: list[np.ndarray], tokenizer: Tokenizer) -> Batch:
    """Put sequences of ids into one batch, each behind the tokenizer's start token where it has one."""
    start = [] if tokenizer.start_id is None else [tokenizer.start_id]
    lengths = np.array([len(start) + len(sequence) for sequence in ids])
    input_ids = np.full((len(ids), lengths.max()), tokenizer.pad_id, np.int64)
    labels = np.full(input_ids.shape, IGNORED_LABEL, np.int64)
    for row, sequence in enumerate(ids):
        input_ids[row, : len(start)] = start
        input_ids[row, len(start) : lengths[row]] = sequence
        certain = certain_tokens(tokenizer)[sequence]
        labels[row, len(start) : lengths[row]] = np.where(certain, sequence.astype(np.int64), IGNORED_LABEL)
    return Batch(torch.from_numpy(input_ids), torch.from_numpy(labels), torch.from_numpy(lengths))


class TrainingBatches:
    """Batches of shuffled windows without end; see `genotok.shards.order.ShuffledOrder`.

    Args:
        dataset: the windows.
        batch_size: windows a batch; a batch may hold the end of one epoch and the beginning of the next.
        seed: fixes the order and the strands.
        both_strands: whether each window is read from the opposite strand in every second epoch, chosen by
            chance window by window.
        masking: hides tokens, anew in every epoch; None for batches as they are.

    Attributes:
        with_entropies: whether the entropies that the shards hold go into the batches; at first they do not.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batch_size: int,
        seed: int,
        both_strands: bool,
        masking: "Masking | None" = None,
    ):
        self.dataset, self.batch_size, self.masking = dataset, batch_size, masking
        self.with_entropies = False
        self.tokenizer = load_tokenizer(dataset.manifest.tokenizer)
        self.order = ShuffledOrder(dataset, seed, both_strands)
        self.state, self.restore = self.order.state, self.order.restore

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        places = [self.order.next_place() for _ in range(self.batch_size)]
        batch = collate([self._ids(place) for place in places], self.tokenizer)
        if self.with_entropies:
            rows = [torch.from_numpy(self.dataset.entropies(place.index, place.reverse)) for place in places]
            batch.boundary_inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        if self.masking is None:
            return batch
        return self.masking.mask_batch(batch, [(place.epoch, place.index) for place in places])

    def _ids(self, place: Place) -> np.ndarray:
        ids = self.dataset[place.index].ids
        return self.tokenizer.reverse_complement(ids) if place.reverse else ids


def batches_in_order(dataset: ShardDataset, batch_size: int) -> Iterator[tuple[list[Window], Batch]]:
    """All windows once, in order; the last batch may be smaller."""
    tokenizer = load_tokenizer(dataset.manifest.tokenizer)
    for begin in range(0, len(dataset), batch_size):
        windows = [dataset[i] for i in range(begin, min(begin + batch_size, len(dataset)))]
        yield windows, collate([window.ids for window in windows], tokenizer)

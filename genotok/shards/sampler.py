"""The order in which windows are seen, and how they become a batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genotok.shards.order import Place, ShuffledOrder
from genotok.shards.reader import ShardDataset, Window
from genotok.tokenizers import IGNORED_LABEL, LetterTokenizer, Tokenizer

if TYPE_CHECKING:
    from genotok.shards.masking import Masking


@dataclass
class Batch:
    """Padded token ids, labels and lengths.

    Attributes:
        input_ids: (B, L) int64, padded behind the end with the tokenizer's pad id.
        labels: (B, L) int64, the ids again, with -100 at ambiguous letters, the start token and the padding.
        lengths: (B,) int64.
        letters: (B, L) int64, how many letters of the window each token adds to those of the tokens in front; 0 for
            the start token and the padding.
        boundary_inputs: (B, L) of a column of the shards: float32 entropies, or bool boundaries; None where the model
            works them out or needs none.
    """

    input_ids: Tensor
    labels: Tensor
    lengths: Tensor
    letters: Tensor
    boundary_inputs: Tensor | None = None

    @property
    def tokens(self) -> int:
        """How many tokens are predicted."""
        return int((self.labels[:, 1:] >= 0).sum())

    @property
    def nucleotides(self) -> int:
        """How many certain nucleotides are predicted."""
        return int(self.letters[:, 1:][self.labels[:, 1:] >= 0].sum())

    @property
    def bases(self) -> int:
        """How many letters the windows have."""
        return int(self.letters.sum())

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        parts = (self.input_ids, self.labels, self.lengths, self.letters, self.boundary_inputs)
        return Batch(*(None if x is None else x.to(device, non_blocking=True) for x in parts))


class WindowEncoder:
    """Makes a model's tokens of the ids, one a letter, that shards hold.

    Where both are of one tokenizer the ids stay as they are. The opposite strand is taken on the letters, so that
    it is exact for every tokenizer.

    Args:
        stored: the tokenizer of the shards' ids.
        tokenizer: the model's.
    """

    def __init__(self, stored: LetterTokenizer, tokenizer: Tokenizer):
        self.stored, self.tokenizer = stored, tokenizer
        written = [letter if len(letter) == 1 and ord(letter) < 256 else "?" for letter in stored.letters]
        self._written = np.array([ord(letter) for letter in written], np.uint8)

    def __call__(self, ids: np.ndarray, reverse: bool = False) -> np.ndarray:
        """(tokens,) ids of the model, of (L,) ids of the shards; of the opposite strand on request."""
        if reverse:
            ids = self.stored.reverse_complement(ids)
        return ids if self.stored is self.tokenizer else self.tokenizer.encode_letters(self._written[ids])


def collate(ids: list[np.ndarray], tokenizer: Tokenizer) -> Batch:
    """Put sequences of ids into one batch, each behind the tokenizer's start token where it has one."""
    start = [] if tokenizer.start_id is None else [tokenizer.start_id]
    lengths = np.array([len(start) + len(sequence) for sequence in ids])
    input_ids = np.full((len(ids), lengths.max()), tokenizer.pad_id, np.int64)
    labels = np.full(input_ids.shape, IGNORED_LABEL, np.int64)
    letters = np.zeros(input_ids.shape, np.int64)
    for row, sequence in enumerate(ids):
        input_ids[row, : len(start)] = start
        input_ids[row, len(start) : lengths[row]] = sequence
        certain = tokenizer.is_nucleotide[sequence]
        labels[row, len(start) : lengths[row]] = np.where(certain, sequence.astype(np.int64), IGNORED_LABEL)
        letters[row, len(start) : lengths[row]] = tokenizer.letters_added(sequence)
    return Batch(*map(torch.from_numpy, (input_ids, labels, lengths, letters)))


def boundary_inputs(
    dataset: ShardDataset, column: str | None, places: Sequence[tuple[int, bool]], tokenizer: Tokenizer
) -> Tensor | None:
    """What the chunker of the outermost stage reads of the shards, padded as a batch's tokens are.

    Args:
        dataset: the windows.
        column: `entropies` or `boundaries`; None gives None.
        places: of each row the window's index, and whether the opposite strand is read.
        tokenizer: the model's.
    """
    if column is None:
        return None
    if column == "entropies":
        rows = [dataset.entropies(*place) for place in places]
    else:
        rows = [boundaries_of_tokens(dataset.boundaries(*place), tokenizer) for place in places]
    return torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, rows)), batch_first=True)


def boundaries_of_tokens(letters: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """(L,) bool of letters, the first true, as (tokens,) of a tokenizer with a token a letter.

    A start token begins the first chunk, and the first letter is in it.
    """
    return (
        letters.copy() if tokenizer.start_id is None else np.concatenate([letters[:1], [False], letters[1:]])
    )


class TrainingBatches:
    """Batches of shuffled windows without end; see `genotok.shards.order.ShuffledOrder`.

    Args:
        dataset: the windows.
        batch_size: windows a batch; a batch may hold the end of one epoch and the beginning of the next.
        seed: fixes the order and the strands.
        both_strands: whether each window is read from the opposite strand in every second epoch, chosen by
            chance window by window.
        masking: hides tokens, anew in every epoch; None for batches as they are.
        tokenizer: the model's; None for that of the shards' ids.
        rank, ranks: of the global batch this one of so many processes reads its share; the order is the same for
            any number of them.

    Attributes:
        column: `entropies` or `boundaries`, what of the shards goes into the batches as `boundary_inputs`; at first
            None.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        batch_size: int,
        seed: int,
        both_strands: bool,
        masking: "Masking | None" = None,
        tokenizer: Tokenizer | None = None,
        rank: int = 0,
        ranks: int = 1,
    ):
        self.rank, self.ranks = rank, ranks
        self.dataset, self.batch_size, self.masking = dataset, batch_size, masking
        self.column: str | None = None
        stored = dataset.manifest.letter_tokenizer
        self.encode = WindowEncoder(stored, tokenizer or stored)
        self.order = ShuffledOrder(dataset, seed, both_strands)
        self.state, self.restore = self.order.state, self.order.restore

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        places = share_of_rank(
            [self.order.next_place() for _ in range(self.batch_size)], self.rank, self.ranks
        )
        ids = [self.encode(self.dataset[place.index].ids, place.reverse) for place in places]
        batch = collate(ids, self.encode.tokenizer)
        strands = [(place.index, place.reverse) for place in places]
        batch.boundary_inputs = boundary_inputs(self.dataset, self.column, strands, self.encode.tokenizer)
        if self.masking is None:
            return batch
        return self.masking.mask_batch(batch, [(place.epoch, place.index) for place in places])


def share_of_rank(places: list[Place], rank: int, ranks: int) -> list[Place]:
    """What one of several processes reads of a global batch."""
    return places[rank * len(places) // ranks : (rank + 1) * len(places) // ranks]


def batches_in_order(
    dataset: ShardDataset, batch_size: int, tokenizer: Tokenizer | None = None, column: str | None = None
) -> Iterator[tuple[list[Window], Batch]]:
    """All windows once, in order, in the tokens of a tokenizer (None for that of the shards' ids).

    The last batch may be smaller. `column` is that of `TrainingBatches`.
    """
    stored = dataset.manifest.letter_tokenizer
    encode = WindowEncoder(stored, tokenizer or stored)
    for begin in range(0, len(dataset), batch_size):
        indices = range(begin, min(begin + batch_size, len(dataset)))
        windows = [dataset[i] for i in indices]
        batch = collate([encode(window.ids) for window in windows], encode.tokenizer)
        forward = [(i, False) for i in indices]
        batch.boundary_inputs = boundary_inputs(dataset, column, forward, encode.tokenizer)
        yield windows, batch

"""The order in which windows are seen, and how they become a batch."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genotok.shards.order import Place, ShuffledOrder, check_ranks, share_of
from genotok.shards.pieces import Pieces
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
        weights: (B, L) float32, what each label counts in the training loss; None where all count the same.
        task: `lm` or `mlm`, what is learned from it.
        data: the name of its data set, where a run has several.
        turn: its number, from 1, among the batches of its data set; 0 outside training.
        step: of the run, from 0.
    """

    input_ids: Tensor
    labels: Tensor
    lengths: Tensor
    letters: Tensor
    boundary_inputs: Tensor | None = None
    weights: Tensor | None = None
    task: str = "lm"
    data: str = ""
    turn: int = 0
    step: int = 0

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
        return with_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch in memory that a GPU reads while the CPU works on."""
        return with_tensors(self, Tensor.pin_memory)


def with_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch, a dataclass, with each of its tensors changed, also of those in a dictionary."""
    return with_parts(batch, Tensor, change)


def with_parts(batch: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """A dataclass with each part of a kind changed, also of those in a dictionary."""
    changed = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, kind):
            changed[field.name] = change(value)
        elif isinstance(value, dict):
            changed[field.name] = {name: change(part) for name, part in value.items()}
    return replace(batch, **changed)


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
        self._written = bytes(map(ord, written)).ljust(256, b"?")

    def __call__(self, ids: np.ndarray, reverse: bool = False) -> np.ndarray:
        """(tokens,) ids of the model, of (L,) ids of the shards; of the opposite strand on request."""
        if reverse:
            ids = self.stored.reverse_complement(ids)
        return (
            ids
            if self.stored is self.tokenizer
            else self.tokenizer.encode_letters(ids.tobytes().translate(self._written))
        )


def collate(ids: Sequence[np.ndarray], tokenizer: Tokenizer) -> Batch:
    """Put sequences of ids into one batch, each behind the tokenizer's start token where it has one."""
    start = [] if tokenizer.start_id is None else [tokenizer.start_id]
    lengths = np.array([len(start) + len(sequence) for sequence in ids])
    input_ids = np.full((len(ids), lengths.max()), tokenizer.pad_id, np.int64)
    labels = np.full(input_ids.shape, IGNORED_LABEL, np.int64)
    letters = np.zeros(input_ids.shape, np.int64)
    known = np.where(tokenizer.is_nucleotide, np.arange(len(tokenizer.is_nucleotide)), IGNORED_LABEL)
    for row, sequence in enumerate(ids):  # row by row, which stays in the cache
        inside = np.s_[row, len(start) : lengths[row]]
        input_ids[row, : len(start)] = start
        input_ids[inside] = sequence
        labels[inside] = known[input_ids[inside]]
        letters[inside] = tokenizer.letters_added(input_ids[inside])
    return Batch(*map(torch.from_numpy, (input_ids, labels, lengths, letters)))


def label_weights(letters: Sequence[np.ndarray], batch: Batch) -> Tensor:
    """(B, L) float32: what each token's label counts, the mean over the letters that the token adds; else 0.

    Args:
        letters: (letters,) of each window, what each letter counts.
        batch: the windows.
    """
    weights = np.zeros(batch.input_ids.shape, np.float32)
    for row, (of_letters, added) in enumerate(zip(letters, batch.letters.numpy(), strict=True)):
        tokens = np.flatnonzero(added)
        begins = np.cumsum(added[tokens]) - added[tokens]
        weights[row, tokens] = np.add.reduceat(of_letters, begins) / added[tokens] if len(tokens) else 0
    return torch.from_numpy(weights)


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


@dataclass(frozen=True)
class Reading:
    """How the windows of a step are read, where a curriculum says so; None leaves what the batches were made with.

    Attributes:
        length: letters a window.
        count: windows of the global batch.
        mask_probability: share of the tokens that are hidden.
    """

    length: int | None = None
    count: int | None = None
    mask_probability: float | None = None


@dataclass(frozen=True)
class Job:
    """The rows of one batch on one rank, and how they are read; all that `TrainingBatches.make` needs."""

    places: list[Place]
    reading: Reading


class TrainingBatches:
    """Batches of shuffled windows without end; see `genotok.shards.order.ShuffledOrder`.

    What the ranks of a run get is cut from one global batch, so that the order of the windows, and the state, do not
    depend on their number.

    Args:
        dataset: the windows.
        batch_size: windows of a global batch; a batch may hold the end of one epoch and the beginning of the next.
        seed: fixes the order and the strands.
        both_strands: whether each window is read from the opposite strand in every second epoch, chosen by
            chance window by window.
        masking: hides tokens, anew in every epoch; None for batches as they are.
        tokenizer: the model's; None for that of the shards' ids.
        rank, ranks: which share of each global batch this is; one behind the other the shares of all ranks make it.
        soft_mask_weight: what the label of a soft-masked letter counts in the training loss.

    Attributes:
        column: `entropies` or `boundaries`, what of the shards goes into the batches as `boundary_inputs`; at first
            None.

    Raises:
        InputError: there are fewer windows than ranks, or a batch has fewer.
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
        soft_mask_weight: float = 1.0,
    ):
        self.dataset, self.batch_size, self.masking = dataset, batch_size, masking
        self.rank, self.ranks, self.soft_mask_weight = rank, ranks, soft_mask_weight
        check_ranks(batch_size, "batch_size: is", ranks)
        check_ranks(len(dataset), f"{dataset.folder}: the windows of the split {dataset.split!r} are", ranks)
        self.column: str | None = None
        stored = dataset.manifest.letter_tokenizer
        self.encode = WindowEncoder(stored, tokenizer or stored)
        self._length: int | None = None
        self._pieces: dict[int, Pieces] = {}
        if both_strands and not stored.has_strands and rank == 0:
            print(f"{dataset.folder}: proteins have no opposite strand; one strand is read", file=sys.stderr)
        self.order = ShuffledOrder(dataset, seed, both_strands and stored.has_strands)

    def windows_of(self, length: int | None) -> ShardDataset | Pieces:
        """The windows of a length in letters; None for those of the shards."""
        if length is None:
            return self.dataset
        if length not in self._pieces:
            self._pieces[length] = Pieces(self.dataset, length)
        return self._pieces[length]

    def state(self) -> dict[str, int]:
        """Where the next global batch begins, the same on every rank: epoch, position, and a length if set."""
        length = {} if self._length is None else {"length": self._length}
        return self.order.state() | length

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken, on any number of ranks."""
        self._length = state.get("length")
        self.order.examples = self.windows_of(self._length)
        self.order.restore(state)

    def next_job(self, reading: Reading | None = None) -> Job:
        """This rank's share of the next global batch; windows of a new length begin an epoch."""
        reading = reading or Reading()
        if reading.length != self._length:
            self._length = reading.length
            self.order.begin(self.windows_of(reading.length))
        places = self.order.next_places(reading.count or self.batch_size)
        return Job(share_of(places, self.rank, self.ranks), reading)

    def make(self, job: Job) -> Batch:
        """The batch of a job; it depends on nothing else, so that any process can make it."""
        windows, places = self.windows_of(job.reading.length), job.places
        ids = [self.encode(windows.ids(place.index), place.reverse) for place in places]
        batch = collate(ids, self.encode.tokenizer)
        strands = [(place.index, place.reverse) for place in places]
        batch.boundary_inputs = boundary_inputs(self.dataset, self.column, strands, self.encode.tokenizer)
        if self.soft_mask_weight != 1:
            weights = [self._weights_of_letters(windows, place) for place in places]
            batch.weights = label_weights(weights, batch)
        if self.masking is None:
            return batch
        keys = [(place.epoch, place.index) for place in places]
        return replace(self.masking.mask_batch(batch, keys, job.reading.mask_probability), task="mlm")

    def _weights_of_letters(self, windows: ShardDataset | Pieces, place: Place) -> np.ndarray:
        soft_masked = windows.soft_masked(place.index)[:: -1 if place.reverse else 1]
        return np.where(soft_masked, np.float32(self.soft_mask_weight), np.float32(1))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self.make(self.next_job())


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

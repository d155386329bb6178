"""Rows of ids that become batches on the model's device, as many at a time as its memory holds."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.shards.sampler import Batch
from genotok.tokenizers import IGNORED_LABEL, Tokenizer
from genotok.variants.plans import IdRows

Found = TypeVar("Found")

# torch has no arithmetic on unsigned numbers wider than a byte.
_SIGNED = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32}


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device, by way of pinned memory and without waiting for it where that is a GPU.

    Unsigned numbers wider than a byte arrive as signed ones of the same bits.
    """
    array = np.ascontiguousarray(array)
    tensor = torch.from_numpy(array.view(_SIGNED.get(array.dtype, array.dtype)))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def widened(ids: Tensor) -> Tensor:
    """Ids as int64, where they are."""
    return ids.long() & 0xFFFF if ids.dtype == torch.int16 else ids.long()


def lacks_memory(error: RuntimeError) -> bool:
    """Whether an error says that the memory is too small; of the host's, torch has no class for it."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


class IdBatches:
    """Makes batches of rows.

    Args:
        tokenizer: of the ids.
        device: where the batches are wanted.
    """

    def __init__(self, tokenizer: Tokenizer, device: torch.device):
        self.tokenizer, self.device = tokenizer, device
        self._is_nucleotide = torch.from_numpy(tokenizer.is_nucleotide).to(device)
        self._letter_counts = torch.from_numpy(tokenizer.letter_counts).to(device)

    def batch(self, ids: np.ndarray, lengths: np.ndarray) -> Batch:
        """Rows behind the start token, as `genotok.shards.sampler.collate` would; narrow until on the device."""
        narrow, input_lengths = on_device(ids, self.device), on_device(lengths, self.device)
        input_ids = widened(narrow)
        inside = self._inside(ids.shape[1], input_lengths)
        inside[:, : self._in_front] = False
        labels = input_ids.masked_fill(~(inside & self._is_nucleotide[input_ids]), IGNORED_LABEL)
        return Batch(input_ids, labels, input_lengths, self._letters(ids, lengths, input_ids, inside))

    def prefixes(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
        """(B, L) ids, and (B,) lengths on the host, of rows of which nothing is predicted."""
        return widened(on_device(ids, self.device)), torch.from_numpy(lengths)

    def endings(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """(E, L) ids, labels (-100 where nothing counts) and (E,) lengths on the host, of what follows a prefix."""
        narrow, input_lengths = on_device(ids, self.device), on_device(lengths, self.device)
        input_ids = widened(narrow)
        counted = self._inside(ids.shape[1], input_lengths) & self._is_nucleotide[input_ids]
        return input_ids, input_ids.masked_fill(~counted, IGNORED_LABEL), torch.from_numpy(lengths)

    @property
    def _in_front(self) -> int:
        return int(self.tokenizer.start_id is not None)

    def _inside(self, width: int, lengths: Tensor) -> Tensor:
        return torch.arange(width, device=self.device) < lengths[:, None]

    def _letters(self, ids: np.ndarray, lengths: np.ndarray, input_ids: Tensor, inside: Tensor) -> Tensor:
        """(B, L) int64, how many letters each token adds."""
        if not self.tokenizer.overlap:
            return self._letter_counts[input_ids] * inside
        letters = np.zeros(ids.shape, np.int64)
        for row, length in enumerate(lengths):
            sequence = ids[row, self._in_front : length]
            letters[row, self._in_front : length] = self.tokenizer.letters_added(sequence)
        return on_device(letters, self.device)


class RowRunner:
    """Runs a model on rows, in batches of rows that follow one another.

    Args:
        model: that will run them.
        batch_size: rows a batch, and fewer from when the device's memory does not hold so many.
        most_tokens: tokens a batch, padding counted; one row is run whatever its length.
    """

    def __init__(self, model: GenomicLM, batch_size: int, most_tokens: int | None = None):
        self.batch_size, self.most_tokens = batch_size, most_tokens
        self._batches = IdBatches(model.tokenizer, model.device)

    def run(self, rows: IdRows, compute: Callable[[Batch, slice], Found]) -> list[tuple[slice, Found]]:
        """Compute something of all rows.

        Args:
            rows: the longest first, so that too large a batch fails at once.
            compute: given a batch on the model's device and which rows it holds.

        Returns:
            Which rows, and what was found, of each batch.

        Raises:
            InputError: the device's memory does not hold one row.
        """
        found: list[tuple[slice, Found]] = []
        begin = 0
        while begin < len(rows.lengths):
            size = self.batch_size
            if self.most_tokens:
                size = max(1, min(size, self.most_tokens // int(rows.lengths[begin])))
            end = min(begin + size, len(rows.lengths))
            found += self._run(rows, slice(begin, end), compute)
            begin = end
        return found

    def _run(
        self, rows: IdRows, which: slice, compute: Callable[[Batch, slice], Found]
    ) -> list[tuple[slice, Found]]:
        """Cuts the batch in two as long as the memory does not hold it."""
        lengths = rows.lengths[which]
        count, longest = len(lengths), int(lengths[0])
        try:
            batch = self._batches.batch(rows.ids[which, :longest], lengths)
            return [(which, compute(batch, which))]
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            if count == 1:
                raise InputError(
                    f"{self._batches.device}: has no memory for one window of {longest} tokens; choose a smaller "
                    "window or another device"
                ) from error
        half = count // 2
        self.batch_size = min(self.batch_size, count - half)
        parts = (slice(which.start, which.start + half), slice(which.start + half, which.stop))
        return [found for part in parts for found in self._run(rows, part, compute)]


class BatchedPool:
    """Runs a model by one or several `RowRunner`s that share a size of batch.

    Args:
        model: on its device.
        precision: `fp32` or `bf16`.
        runners: all that run the model.
    """

    def __init__(self, model: GenomicLM, precision: str, *runners: RowRunner):
        self.model, self.precision, self.runners = model, precision, runners

    @property
    def batch_size(self) -> int:
        """Windows a batch, of the runner that takes the fewest."""
        return min(runner.batch_size for runner in self.runners)

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        for runner in self.runners:
            runner.batch_size = size

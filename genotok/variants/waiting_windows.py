"""Different windows that wait for the model, and are run in batches of like length."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.shards.sampler import Batch, collate

Found = TypeVar("Found")


class WaitingWindows:
    """Sequences of ids, each once.

    Args:
        model: that will run them.
        batch_size: windows a batch, and fewer from when the device's memory does not hold so many.
        most_tokens: tokens a batch, padding counted; one window is run whatever its length.
    """

    def __init__(self, model: GenomicLM, batch_size: int, most_tokens: int | None = None):
        self.model, self.batch_size, self.most_tokens = model, batch_size, most_tokens
        self._rows: dict[bytes, int] = {}
        self._ids: list[np.ndarray] = []

    def __len__(self) -> int:
        """How many wait."""
        return len(self._ids)

    def add(self, ids: np.ndarray) -> int:
        """Add a window, unless it waits already; returns its row."""
        row = self._rows.setdefault(ids.tobytes(), len(self._ids))
        if row == len(self._ids):
            self._ids.append(ids)
        return row

    def run(self, compute: Callable[[Batch, list[int]], Found]) -> list[tuple[list[int], Found]]:
        """Compute something of all windows, and let them go.

        Args:
            compute: given a batch on the model's device and the rows in it.

        Returns:
            (rows, what was found) of each batch.

        Raises:
            InputError: the device's memory does not hold one window.
        """
        # The longest first, so that too large a batch fails at once.
        order = sorted(range(len(self._ids)), key=lambda row: -len(self._ids[row]))
        found: list[tuple[list[int], Found]] = []
        while order:
            size = self.batch_size
            if self.most_tokens:
                size = max(1, min(size, self.most_tokens // (len(self._ids[order[0]]) + 1)))
            rows, order = order[:size], order[size:]
            found += self._run(rows, compute)
        self._rows, self._ids = {}, []
        return found

    def _run(
        self, rows: list[int], compute: Callable[[Batch, list[int]], Found]
    ) -> list[tuple[list[int], Found]]:
        """Cuts the batch in two as long as the memory does not hold it."""
        batch = collate([self._ids[row] for row in rows], self.model.tokenizer)
        try:
            return [(rows, compute(batch.to(self.model.device), rows))]
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise InputError(
                    f"{self.model.device}: has no memory for one window of {batch.input_ids.shape[1]} tokens; "
                    "choose a smaller window or another device"
                ) from error
        half = len(rows) // 2
        self.batch_size = min(self.batch_size, len(rows) - half)
        return self._run(rows[:half], compute) + self._run(rows[half:], compute)

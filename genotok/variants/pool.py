"""Scores of many pairs of windows: equal windows once, in batches of similar length."""

import numpy as np
import torch

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.likelihood import token_log_likelihood
from genotok.shards.sampler import Batch, collate
from genotok.training.precision import autocast
from genotok.variants.windows import WindowPair

_BATCH_LETTERS = {"cpu": 1 << 13, "cuda": 1 << 17}  # beyond, nothing gets faster


def default_batch_size(device: torch.device, window: int) -> int:
    """How many windows of `window` letters make a batch that a device works well with."""
    return max(1, _BATCH_LETTERS.get(device.type, _BATCH_LETTERS["cpu"]) // window)


class PairPool:
    """Pairs of windows that wait for their scores.

    Args:
        model: the model, on its device.
        precision: `fp32` or `bf16`.
        batch_size: windows a batch, and fewer from when the device's memory does not hold so many.
    """

    def __init__(self, model: GenomicLM, precision: str, batch_size: int):
        self.model, self.precision, self.batch_size = model, precision, batch_size
        self._rows: dict[bytes, int] = {}
        self._ids: list[np.ndarray] = []
        self._pairs: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """How many different windows wait."""
        return len(self._ids)

    def add(self, pair: WindowPair) -> int:
        """Add a pair; returns its place in what `scores` gives."""
        self._pairs.append((self._row(pair.ref), self._row(pair.alt)))
        return len(self._pairs) - 1

    def scores(self) -> np.ndarray:
        """(pairs,) float64: ln p(ALT window) - ln p(REF window) of each pair; empties the pool.

        Raises:
            InputError: the device's memory does not hold one window.
        """
        ref, alt = np.array(self._pairs, int).reshape(-1, 2).T
        sums = self._log_likelihoods()
        self._rows, self._ids, self._pairs = {}, [], []
        return sums[alt] - sums[ref]

    def _row(self, letters: bytes) -> int:
        ids = self.model.tokenizer.encode_letters(letters)
        row = self._rows.setdefault(ids.tobytes(), len(self._ids))
        if row == len(self._ids):
            self._ids.append(ids)
        return row

    def _log_likelihoods(self) -> np.ndarray:
        """(windows,) float64: ln p of each window's certain nucleotides, summed."""
        sums = np.zeros(len(self._ids))
        # The longest first, so that too large a batch fails at once.
        order = sorted(range(len(self._ids)), key=lambda row: -len(self._ids[row]))
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        for rows, found in [(rows, self._run(rows)) for rows in batches]:
            sums[rows] = found.cpu().numpy()
        return sums

    def _run(self, rows: list[int]) -> torch.Tensor:
        """(rows,) float64 on the device; cuts the batch in two as long as the memory does not hold it."""
        batch = collate([self._ids[row] for row in rows], self.model.tokenizer)
        try:
            return self._sums(batch.to(self.model.device))
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise InputError(
                    f"{self.model.device}: has no memory for one window of {batch.input_ids.shape[1]} tokens; "
                    "choose a smaller window or another device"
                ) from error
        half = len(rows) // 2
        self.batch_size = min(self.batch_size, len(rows) - half)
        return torch.cat([self._run(rows[:half]), self._run(rows[half:])])

    def _sums(self, batch: Batch) -> torch.Tensor:
        with torch.inference_mode(), autocast(self.model.device, self.precision):
            likelihood, _ = token_log_likelihood(self.model, batch)
        return likelihood.double().sum(1)

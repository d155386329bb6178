"""Scores of many pairs of windows: equal windows once, in batches of similar length."""

import numpy as np
import torch

from genotok.models import GenomicLM
from genotok.models.likelihood import token_log_likelihood
from genotok.shards.sampler import Batch
from genotok.training.precision import autocast
from genotok.variants.id_batches import BatchedPool, RowRunner
from genotok.variants.plans import PairPlan, PlanTask

_BATCH_LETTERS = {"cpu": 1 << 13, "cuda": 1 << 18}  # beyond, nothing gets faster


def default_batch_size(device: torch.device, window: int) -> int:
    """How many windows of `window` letters make a batch that a device works well with."""
    return max(1, _BATCH_LETTERS.get(device.type, _BATCH_LETTERS["cpu"]) // window)


class PairPool(BatchedPool):
    """Scores pairs of windows.

    Args:
        model: the model, on its device.
        precision: `fp32` or `bf16`.
        batch_size: windows a batch, and fewer from when the device's memory does not hold so many.
    """

    def __init__(self, model: GenomicLM, precision: str, batch_size: int):
        self._rows = RowRunner(model, batch_size)
        super().__init__(model, precision, self._rows)
        self.plans = PlanTask(model.tokenizer.description, "whole")

    def scores(self, plan: PairPlan) -> np.ndarray:
        """(pairs,) float64: ln p(ALT window) - ln p(REF window) of each pair.

        Raises:
            InputError: the device's memory does not hold one window.
        """
        sums = np.zeros(len(plan.windows.lengths))
        for rows, found in self._rows.run(plan.windows, lambda batch, _: self._sums(batch)):
            sums[rows] = found.cpu().numpy()
        ref, alt = plan.pairs.T
        return sums[alt] - sums[ref]

    def _sums(self, batch: Batch) -> torch.Tensor:
        """(windows,) float64: ln p of each window's certain nucleotides, summed."""
        with torch.inference_mode(), autocast(self.model.device, self.precision):
            likelihood, _ = token_log_likelihood(self.model, batch)
        return likelihood.double().sum(1)

"""A model that scores blocks of windows."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from genotok.models import GenomicLM
from genotok.training.precision import choose_device
from genotok.variants.blocks import BlockWindows
from genotok.variants.pool import PairPool, default_batch_size


class ModelTraits(NamedTuple):
    """What is to be known of a model that runs elsewhere.

    Attributes:
        content_hash: of its configuration and weights.
        device: its kind, `cpu` or `cuda`.
        batch_size: windows a batch.
    """

    content_hash: str
    device: str
    batch_size: int


class ModelDesk:
    """A model on a device of its own.

    Args:
        folder: the model.
        device: a name, see `genotok.training.precision.choose_device`.
        precision: `fp32` or `bf16`.
        window: letters a window.
        batch_size: windows a batch; None for a default by device.
        threads: on the CPU.
    """

    def __init__(
        self, folder: Path, device: str, precision: str, window: int, batch_size: int | None, threads: int
    ):
        torch.set_num_threads(threads)
        self._model = GenomicLM.from_pretrained(folder, choose_device(device))
        size = batch_size or default_batch_size(self._model.device, window)
        self._pool = PairPool(self._model, precision, size)

    def traits(self) -> ModelTraits:
        """What is to be known of the model."""
        return ModelTraits(self._model.content_hash(), self._model.device.type, self._pool.batch_size)

    def limit_batches(self, size: int) -> None:
        """Let no batch have more than `size` windows."""
        self._pool.batch_size = min(self._pool.batch_size, size)

    def scores(self, windows: BlockWindows) -> tuple[np.ndarray, int]:
        """The scores (pairs,) float64 of a block, and the size of batch that the device's memory holds.

        Scores do not depend on other blocks, since nothing is kept from one to the next.

        Raises:
            InputError: the device's memory does not hold one window.
        """
        places = [self._pool.add(pair) for pair in windows.pairs()]
        found = self._pool.scores()
        return found[places], self._pool.batch_size

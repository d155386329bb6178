"""A model that scores blocks of windows."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.training.columns import cuts_by_given
from genotok.training.precision import choose_device
from genotok.variants.fields import ScoreField
from genotok.variants.masked_pool import masked_way
from genotok.variants.plans import Plan, PlanTask
from genotok.variants.pool import default_batch_size
from genotok.variants.preconditions import require_dna
from genotok.variants.scoring_pool import scoring_pool


class ModelTraits(NamedTuple):
    """What is to be known of a model that runs elsewhere.

    Attributes:
        content_hash: of its configuration and weights.
        device: its kind, `cpu` or `cuda`.
        batch_size: windows a batch.
        masked: how substitutions are scored, see `genotok.variants.masked_pool.masked_way`.
        plans: which plans it wants.
    """

    content_hash: str
    device: str
    batch_size: int
    masked: str | None
    plans: PlanTask


class ModelTask(NamedTuple):
    """How windows are to be scored.

    Attributes:
        folder: the model.
        precision: `fp32` or `bf16`.
        window: letters a window.
        batch_size: windows a batch; None for a default by device.
        share_prefixes: see `genotok.variants.prefix_pool.make_pool`.
        threads: on the CPU.
        masked: how a model of masked tokens is to score substitutions.
        fields: those that each allele gets.
    """

    folder: Path
    precision: str
    window: int
    batch_size: int | None
    share_prefixes: bool
    threads: int
    masked: str | None
    fields: tuple[ScoreField, ...]


class ModelDesk:
    """A model on a device of its own; for the names see `genotok.training.precision.choose_device`."""

    def __init__(self, task: ModelTask, device: str):
        torch.set_num_threads(task.threads)
        self._model = GenomicLM.from_pretrained(task.folder, choose_device(device))
        _refuse_given_boundaries(self._model, task.folder)
        require_dna(self._model, task.folder)
        size = task.batch_size or default_batch_size(self._model.device, task.window)
        self._masked = masked_way(self._model, task.masked)
        self._pool = scoring_pool(
            self._model, task.precision, size, task.share_prefixes, self._masked, task.fields
        )

    def traits(self) -> ModelTraits:
        """What is to be known of the model."""
        pool, model = self._pool, self._model
        return ModelTraits(model.content_hash(), model.device.type, pool.batch_size, self._masked, pool.plans)

    def limit_batches(self, size: int) -> None:
        """Let no batch have more than `size` windows."""
        self._pool.batch_size = min(self._pool.batch_size, size)

    def scores(self, plan: Plan) -> tuple[np.ndarray, int]:
        """What was found of the pairs of a block, and the size of batch that the device's memory holds.

        The first is (pairs x values,) float64.

        Scores do not depend on other blocks, since nothing is kept from one to the next.

        Raises:
            InputError: the device's memory does not hold one window.
        """
        return self._pool.scores(plan).reshape(-1), self._pool.batch_size


def _refuse_given_boundaries(model: GenomicLM, folder: Path) -> None:
    """Of an ALT nobody has said where its chunks begin."""
    if cuts_by_given(model.config):
        raise InputError(
            f"{folder}: the model cuts by given boundaries, which an ALT allele does not have; score with a model "
            "of another chunker"
        )

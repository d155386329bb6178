"""Scores together with what else two windows tell: how far apart their embeddings are, and how their chunks move."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.likelihood import likelihood_task, token_log_likelihood
from genotok.models.output import ModelOutput
from genotok.shards.sampler import Batch
from genotok.training.precision import autocast
from genotok.variants.fields import ScoreField
from genotok.variants.id_batches import BatchedPool, RowRunner
from genotok.variants.masked_pool import MaskedPool
from genotok.variants.plans import FieldPlan, IdRows, PlanTask


class FieldPool(BatchedPool):
    """Scores pairs of windows and finds optional fields, of which each is symmetric in REF and ALT.

    Every different window is run once as a whole. The embedding of a window is the mean over its letters of the
    hidden states behind the final norm; a token of several letters counts as often. `l2` is the Euclidean distance
    of both windows' embeddings, `cosine` 1 less the cosine between them.

    `boundary_shift` is about the outermost stage that makes chunks. A letter is marked where its token begins a
    chunk and it is the token's first new letter. Compared are the letters that both windows have: those in front of
    the variant, and behind it as many as the shorter rest holds, the first with the first and so on. The shift is
    the share of them that is marked in one window alone, 0 where there is none to compare.

    Args:
        model: on its device.
        precision: `fp32` or `bf16`.
        batch_size: windows a batch, and fewer from when the device's memory does not hold so many.
        fields: those to be found, of `genotok.variants.fields`.
        likelihood: what finds the log-likelihood ratios; None, for a causal model, for the same run of the model.

    Raises:
        InputError: the model makes no chunks, and their boundaries are asked for.
    """

    def __init__(
        self,
        model: GenomicLM,
        precision: str,
        batch_size: int,
        fields: Sequence[ScoreField],
        likelihood: MaskedPool | None = None,
    ):
        self._rows = RowRunner(model, batch_size)
        super().__init__(model, precision, self._rows, *(likelihood.runners if likelihood else ()))
        self.likelihood = likelihood
        self.task = likelihood_task(model)
        self.columns = [field.column for field in fields if field.choice]
        self.embedding = "l2" in self.columns
        self.chunks = "boundary_shift" in self.columns
        if self.chunks and not model.config.chunkers:
            raise InputError(
                "fields: this model makes no chunks whose boundaries could move; leave out boundaries"
            )
        self.plans = PlanTask(
            model.tokenizer.description, likelihood.plans.kind if likelihood else "whole", fields=True
        )

    def scores(self, plan: FieldPlan) -> np.ndarray:
        """(pairs, 1 + fields) float64: the log-likelihood ratios, and the fields in their order.

        Raises:
            InputError: the device's memory does not hold one window.
        """
        sums, embeddings, marks = self._of_windows(plan.windows.windows)
        ref, alt = plan.windows.pairs.T
        ratios = sums[alt] - sums[ref] if plan.likelihood is None else self.likelihood.scores(plan.likelihood)
        found = {}
        if self.embedding:
            found["l2"], found["cosine"] = distances(embeddings[ref], embeddings[alt])
        if self.chunks:
            pairs = zip(plan.letters.tolist(), ref, alt, strict=True)
            found["boundary_shift"] = [boundary_shift(letters, marks[a], marks[b]) for letters, a, b in pairs]
        return np.stack([ratios, *(found[column] for column in self.columns)], 1)

    def _of_windows(self, windows: IdRows) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """ln p (windows,), embeddings (windows, D), and of each window (letters,) bool, the marked letters."""
        count = len(windows.lengths)
        sums, marks = np.zeros(count), [np.zeros(0, bool)] * count
        embeddings = np.zeros((count, self.model.config.d_model[0]))
        for rows, (likelihood, pooled, begins) in self._rows.run(windows, lambda batch, _: self._run(batch)):
            if likelihood is not None:
                sums[rows] = likelihood.cpu().numpy()
            if pooled is not None:
                embeddings[rows] = pooled.cpu().numpy()
            if begins is not None:
                marks[rows] = begins.cpu().numpy()
        return sums, embeddings, marks

    def _run(self, batch: Batch) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        with torch.inference_mode(), autocast(self.model.device, self.precision):
            if self.likelihood is None:
                likelihood, output = token_log_likelihood(
                    self.model, batch, self.task, output_hidden_states=self.embedding
                )
                likelihood = likelihood.double().sum(1)
            else:
                likelihood, output = None, self._output(batch)
        pooled = mean_states(output.hidden_states[-1], batch.letters) if self.embedding else None
        begins = letter_marks(output.boundaries[0].mask, batch.letters) if self.chunks else None
        return likelihood, pooled, begins

    def _output(self, batch: Batch) -> ModelOutput:
        return self.model(
            batch.input_ids, task=self.task, lengths=batch.lengths, output_hidden_states=self.embedding
        )


def mean_states(states: Tensor, letters: Tensor) -> Tensor:
    """(B, D) float64: the mean of states (B, L, D) over the letters (B, L) int64 that each token adds."""
    weights = letters.to(states.dtype)[:, None]
    return torch.bmm(weights, states)[:, 0].double() / letters.sum(1, keepdim=True)


def letter_marks(begins: Tensor, letters: Tensor) -> Tensor:
    """(B, W) bool, letter for letter, from tokens that begin a chunk (B, L) and the letters each adds (B, L)."""
    width = int(letters.sum(1).max())
    first = (letters.cumsum(1) - letters).masked_fill(letters == 0, width)
    marks = begins.new_zeros(len(begins), width + 1)
    return marks.scatter(1, first, begins)[:, :width]


def distances(ref: np.ndarray, alt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) both: the Euclidean distance of embeddings (pairs, D), and 1 less their cosine."""

    def of_length_one(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-300)

    # Half the squared distance of unit vectors, since 1 - cosine would be nothing but rounding where it is small.
    cosine = ((of_length_one(ref) - of_length_one(alt)) ** 2).sum(1) / 2
    return np.linalg.norm(ref - alt, axis=1), cosine


def boundary_shift(letters: Sequence[int], ref: np.ndarray, alt: np.ndarray) -> float:
    """The share of the letters of both windows that is marked in one alone.

    Args:
        letters: of the pair, as in `genotok.variants.plans.FieldPlan`.
        ref: (letters or more,) bool, the marks of the window with REF.
        alt: those of the window with ALT.
    """
    shared, behind_ref, behind_alt, ref_length, alt_length = letters
    front = ref[:shared] != alt[:shared]
    ref, alt = ref[behind_ref:ref_length], alt[behind_alt:alt_length]
    both = min(len(ref), len(alt))
    moved = np.concatenate([front, ref[:both] != alt[:both]])
    return float(moved.mean()) if len(moved) else 0.0

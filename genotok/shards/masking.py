"""Hiding tokens, so that a model learns to find them again (BERT, arXiv 1810.04805; spans: SpanBERT, 1907.10529)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from genotok.errors import InputError
from genotok.shards.sampler import Batch
from genotok.tokenizers import IGNORED_LABEL, Tokenizer

HIDDEN, REPLACED = 0.8, 0.1  # of the chosen tokens; the rest stays as it is
# Streams of random numbers; the order of the windows uses other ones of the same seed.
TRAINING, VALIDATION = 2, 3


class Masking:
    """Chooses tokens, hides them, and makes labels of what was there.

    Only tokens of certain nucleotides are chosen, never specials, padding or ambiguous letters. Of n of them in a
    sequence exactly k are chosen: `probability` x n, rounded up or down by chance so that the mean is exact, but at
    least 1. Each of the n is as likely to be chosen as any other. 80 % of the chosen are replaced by the mask token,
    10 % by tokens drawn evenly from all tokens of certain nucleotides (and so now and then by themselves), and 10 %
    stay.

    With `span` above 1 the k tokens are cut at random into round(k / span) runs, at least one, with at least one
    token between them: their lengths are geometric as nearly as the fixed k allows. The sequence counts as a ring,
    so that a run may be cut in two by its ends, and tokens that are never chosen do not interrupt a run. What becomes
    of a token is then drawn once a run, as in SpanBERT.

    Args:
        tokenizer: needs a mask token.
        probability: share of the tokens, more than 0 and less than 1.
        span: mean length of a run, at least 1.
        seed: of all choices.
        stream: two maskings of one seed and different streams choose differently.

    Raises:
        InputError: the tokenizer has no mask token.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        probability: float = 0.15,
        span: float = 1.0,
        seed: int = 0,
        stream: int = TRAINING,
    ):
        if tokenizer.mask_id is None:
            raise InputError(f"tokenizer {tokenizer.name!r} has no mask token, and the task 'mlm' needs one")
        self.mask_id, self.may_be_chosen = tokenizer.mask_id, tokenizer.is_nucleotide
        self.replacements = np.flatnonzero(self.may_be_chosen)
        self.probability, self.span, self.seed, self.stream = probability, span, seed, stream

    def mask_ids(
        self, ids: np.ndarray, key: tuple[int, int], probability: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Hide tokens of one sequence.

        Args:
            ids: (L,) token ids.
            key: epoch and window, whole numbers from 0; the same key, seed and stream make the same choices.
            probability: in place of that of the masking.

        Returns:
            (L,) int64, the ids with tokens hidden; and (L,) int64, the chosen tokens as they were, -100 elsewhere.
        """
        masked, labels = ids.astype(np.int64), np.full(len(ids), IGNORED_LABEL, np.int64)
        candidates = np.flatnonzero(self.may_be_chosen[ids])
        if not len(candidates):
            return masked, labels
        random = np.random.default_rng([self.seed, *key, self.stream])
        chosen, runs = self._choose(len(candidates), probability or self.probability, random)
        places = candidates[chosen]
        labels[places] = ids[places]
        fate = random.random(len(places))[runs]
        drawn = random.choice(self.replacements, len(places))
        masked[places[fate < HIDDEN]] = self.mask_id
        replaced = (fate >= HIDDEN) & (fate < HIDDEN + REPLACED)
        masked[places[replaced]] = drawn[replaced]
        return masked, labels

    def _choose(
        self, count: int, probability: float, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which of `count` tokens are chosen, and the number of the run that each of these belongs to."""
        chosen = min(count, max(1, int(probability * count + random.random())))
        if self.span <= 1 or chosen == count:
            return random.choice(count, chosen, replace=False, shuffle=False), np.arange(chosen)
        runs = min(max(1, round(chosen / self.span)), count - chosen)
        lengths, gaps = _cut(chosen, runs, random), _cut(count - chosen, runs, random)
        begins = np.cumsum(lengths + gaps) - lengths - gaps + random.integers(count)
        of_run = np.repeat(np.arange(runs), lengths)
        within = np.arange(chosen) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return (begins[of_run] + within) % count, of_run

    def mask_batch(
        self, batch: Batch, keys: Sequence[tuple[int, int]], probability: float | None = None
    ) -> Batch:
        """Hide tokens of each sequence of a batch, by one key a sequence; the labels are those of `mask_ids`."""
        input_ids, labels = (
            batch.input_ids.numpy().copy(),
            np.full(batch.labels.shape, IGNORED_LABEL, np.int64),
        )
        for row, (length, key) in enumerate(zip(batch.lengths.tolist(), keys, strict=True)):
            input_ids[row, :length], labels[row, :length] = self.mask_ids(
                input_ids[row, :length], key, probability
            )
        hidden = {"input_ids": torch.from_numpy(input_ids), "labels": torch.from_numpy(labels)}
        return replace(batch, **hidden)


def _cut(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """(parts,) whole numbers from 1 with the sum `total`, every such row as likely as any other."""
    cuts = np.sort(random.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)

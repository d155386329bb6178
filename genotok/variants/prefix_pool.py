"""Scores of many pairs of windows of a causal model, what is in front of the variant read once.

REF and ALT of a variant, all ALT alleles of a position and its REF share the letters in front of it. A causal model
reads these once; each allele then goes on from what the model remembers of them (its keys and values, states, last
query and moving average), all of a batch at once. What is in front of the variant has the same likelihood under every
allele, so that it leaves no trace in the ratio.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.likelihood import likelihood_task
from genotok.tokenizers import IGNORED_LABEL, LetterTokenizer
from genotok.training.precision import autocast
from genotok.variants.id_batches import IdBatches, lacks_memory, on_device
from genotok.variants.plans import PlanTask, PrefixPlan
from genotok.variants.pool import PairPool


class PrefixPool:
    """Scores pairs of windows; as `PairPool`, for models that can read on.

    Args:
        model: a causal model of one token a letter, on its device.
        precision: `fp32` or `bf16`.
        batch_size: windows a batch, and fewer from when the device's memory does not hold so many.
    """

    def __init__(self, model: GenomicLM, precision: str, batch_size: int):
        self.model, self.precision, self.batch_size = model, precision, batch_size
        self.plans = PlanTask(model.tokenizer.description, "prefixes")
        self._whole = PairPool(model, precision, batch_size)
        self._batches = IdBatches(model.tokenizer, model.device)

    def scores(self, plan: PrefixPlan) -> np.ndarray:
        """(pairs,) float64: ln p(ALT window) - ln p(REF window) of each pair.

        Raises:
            InputError: the device's memory does not hold one prefix and its endings.
        """
        sums = np.zeros(len(plan.endings.lengths))
        for begin, end in [(begin, self._run(plan, begin, end)) for begin, end in self._cuts(plan.first)]:
            sums[plan.first[begin] : plan.first[begin] + len(end)] = end.cpu().numpy()
        ref, alt = plan.pairs.T
        scores = np.zeros(len(ref))
        shared = ref >= 0
        scores[shared] = sums[alt[shared]] - sums[ref[shared]]
        if not shared.all():
            self._whole.batch_size = self.batch_size
            scores[~shared] = self._whole.scores(plan.whole)[alt[~shared]]
        return scores

    def _cuts(self, first: np.ndarray) -> Iterator[tuple[int, int]]:
        """From which prefix to which the endings make a batch."""
        begin = 0
        while begin < len(first) - 1:
            end = int(np.searchsorted(first, first[begin] + self.batch_size, "right")) - 1
            end = max(begin + 1, end)
            yield begin, end
            begin = end

    def _run(self, plan: PrefixPlan, begin: int, end: int) -> Tensor:
        """(endings,) float64 on the device; cuts the batch in two as long as the memory does not hold it."""
        try:
            return self._sums(plan, begin, end)
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            if end - begin == 1:
                letters = plan.prefixes.lengths[begin] - (self.model.tokenizer.start_id is not None)
                raise InputError(
                    f"{self.model.device}: has no memory for one window of {letters} "
                    "letters in front of a variant; choose a smaller window, --no-share-prefixes or another device"
                ) from error
        half = (begin + end) // 2
        self.batch_size = max(1, self.batch_size // 2)
        return torch.cat([self._run(plan, begin, half), self._run(plan, half, end)])

    def _sums(self, plan: PrefixPlan, begin: int, end: int) -> Tensor:
        """ln p of each ending's certain nucleotides, given its prefix, for the prefixes of a batch."""
        front, rows, (ids, labels, lengths) = self._batch(plan, begin, end)
        with torch.inference_mode(), autocast(self.model.device, self.precision):
            before, cache = self.model.prefill(*front)
            logits = before[rows, None]
            if ids.shape[1] > 1:
                behind = self.model.extend(ids[:, :-1], cache, (lengths - 1).clamp(min=1), rows)
                logits = torch.cat([logits, behind], 1)
            nats = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
            return nats.masked_fill(labels == IGNORED_LABEL, 0.0).double().sum(1)

    def _batch(
        self, plan: PrefixPlan, begin: int, end: int
    ) -> tuple[tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]:
        """Prefixes, the row of each ending's prefix among them, and the endings, on the device."""
        front = plan.prefixes.lengths[begin:end]
        which = slice(plan.first[begin], plan.first[end])
        behind = plan.endings.lengths[which]
        rows = np.repeat(np.arange(end - begin), np.diff(plan.first[begin : end + 1]))
        return (
            self._batches.prefixes(plan.prefixes.ids[begin:end, : front[0]], front),
            on_device(rows, self.model.device),
            self._batches.endings(plan.endings.ids[which, : max(1, behind.max())], behind),
        )


def make_pool(
    model: GenomicLM, precision: str, batch_size: int, share_prefixes: bool = True
) -> PairPool | PrefixPool:
    """The pool that is best for a model: `PrefixPool` for causal ones of one token a letter that can read on."""
    causal = likelihood_task(model) == "lm" and isinstance(model.tokenizer, LetterTokenizer)
    kind = PrefixPool if share_prefixes and causal and model.can_extend else PairPool
    return kind(model, precision, batch_size)

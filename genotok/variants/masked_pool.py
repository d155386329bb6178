"""Log-likelihood ratios by a model of masked tokens."""

import numpy as np
import torch

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.likelihood import check_masked_tokens, likelihood_task, token_log_likelihood
from genotok.shards.sampler import Batch
from genotok.tokenizers import LetterTokenizer, Tokenizer
from genotok.tokenizers.kmer import CutTokenizer
from genotok.training.precision import autocast
from genotok.variants.id_batches import BatchedPool, RowRunner, on_device
from genotok.variants.plans import MaskedPlan, PlanTask

WAYS = ("marginal", "pseudo")
_MOST_LOGITS = 1 << 26  # at once, 256 MB


class MaskedPool(BatchedPool):
    """Scores pairs of windows, as `genotok.variants.pool.PairPool` for a causal model.

    `marginal` scores a substitution, an allele as long as the other one, at its site: all tokens that hold a changed
    letter are masked at once, and the model is run once for this window, which is the same for REF, for ALT and
    for every other allele that changes these tokens. With the letters of the masked tokens that do not change
    given, and the masked tokens independent of one another,

        LLR = sum over masked tokens of ln p(ALT token | visible tokens) - ln p(REF token | visible tokens)

    By the chain rule of `genotok.models.token_tree` this is the sum over the changed letters: what the letters
    around them have cancels out, as does the sum over the vocabulary. REF and ALT exchanged give the same number
    with the other sign, exactly.

    An allele of another length moves the tokens behind it. It is scored by the pseudo-log-likelihood of both windows
    (`genotok.models.likelihood`), each token masked in its turn, and so is everything with `pseudo`; where letters
    other than those changed decide about the cutting into tokens (byte pairs), substitutions are too.

    Args:
        model: on its device, with `mlm` as the first of its tasks that give a likelihood.
        precision: `fp32` or `bf16`.
        batch_size: windows a batch, and fewer from when the device's memory does not hold so many.
        way: `marginal` or `pseudo`, as `masked_way` allows for it.
    """

    def __init__(self, model: GenomicLM, precision: str, batch_size: int, way: str):
        self._at_sites = RowRunner(model, batch_size, _MOST_LOGITS // model.config.vocab_size)
        self._whole = RowRunner(model, batch_size)
        super().__init__(model, precision, self._at_sites, self._whole)
        self.plans = PlanTask(model.tokenizer.description, way)

    def scores(self, plan: MaskedPlan) -> np.ndarray:
        """(pairs,) float64: the log-likelihood ratio of each pair in nats.

        Raises:
            InputError: the device's memory does not hold one window.
        """
        scores = np.zeros(plan.pairs)
        if len(plan.changes):
            np.add.at(scores, plan.changes[:, 1], self._site_ratios(plan))
        if len(plan.windows):
            pairs, ref, alt = plan.windows.T
            sums = self._pseudo_log_likelihoods(plan)
            scores[pairs] = sums[alt] - sums[ref]
        return scores

    def _site_ratios(self, plan: MaskedPlan) -> np.ndarray:
        """(changes,) ln p(ALT token) - ln p(REF token)."""
        ends = np.searchsorted(plan.changes[:, 0], np.arange(len(plan.sites.lengths) + 1))

        def ratios(batch: Batch, rows: slice) -> torch.Tensor:
            changes = plan.changes[ends[rows.start] : ends[rows.stop]] - [rows.start, 0, 0, 0, 0]
            row, _, place, ref, alt = on_device(changes, self.model.device).T
            with torch.inference_mode(), autocast(self.model.device, self.precision):
                logits = self.model(batch.input_ids, task="mlm", lengths=batch.lengths).logits
            return logits[row, place, alt].double() - logits[row, place, ref].double()

        return torch.cat([part for _, part in self._at_sites.run(plan.sites, ratios)]).cpu().numpy()

    def _pseudo_log_likelihoods(self, plan: MaskedPlan) -> np.ndarray:
        """(windows,) float64: of each whole window's certain nucleotides."""
        sums = np.zeros(len(plan.whole.lengths))

        def likelihoods(batch: Batch, _: slice) -> torch.Tensor:
            with torch.inference_mode(), autocast(self.model.device, self.precision):
                return token_log_likelihood(self.model, batch, "mlm")[0].double().sum(1)

        for rows, found in self._whole.run(plan.whole, likelihoods):
            sums[rows] = found.cpu().numpy()
        return sums


def masked_way(model: GenomicLM, masked: str | None) -> str | None:
    """How substitutions are scored: `marginal` or `pseudo`, or None by a causal model.

    Args:
        model: of either task.
        masked: what is asked for; None for `marginal` where the tokenizer allows for it.

    Raises:
        InputError: the model has no likelihood, or not this one.
    """
    if masked not in (*WAYS, None):
        raise InputError(f"masked: is {masked!r} and must be one of {', '.join(WAYS)}")
    if likelihood_task(model) == "mlm":
        return _way_of_tokens(model.tokenizer, masked)
    if masked is not None:
        raise InputError(
            "masked: is for models of masked tokens, and this one predicts the next token; leave it out"
        )
    return None


def _way_of_tokens(tokenizer: Tokenizer, masked: str | None) -> str:
    check_masked_tokens(tokenizer)
    cut_alike = isinstance(tokenizer, LetterTokenizer | CutTokenizer)
    if masked == "marginal" and not cut_alike:
        raise InputError(
            f"masked: the tokenizer {tokenizer.name!r} cuts REF and ALT at different places, so that a substitution "
            "has no site of its own; take pseudo"
        )
    return masked or ("marginal" if cut_alike else "pseudo")

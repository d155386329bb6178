"""Log-likelihood ratios by a model of masked tokens."""

import numpy as np
import torch

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.likelihood import likelihood_task, token_log_likelihood
from genotok.shards.sampler import Batch
from genotok.tokenizers import LetterTokenizer, Tokenizer
from genotok.tokenizers.kmer import CutTokenizer
from genotok.training.precision import autocast
from genotok.variants.waiting_windows import WaitingWindows
from genotok.variants.windows import WindowPair

WAYS = ("marginal", "pseudo")
_MOST_LOGITS = 1 << 26  # at once, 256 MB


class MaskedPool:
    """Pairs of windows that wait for their scores, as `genotok.variants.pool.PairPool` for a causal model.

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
        self.model, self.precision, self.way = model, precision, way
        most_tokens = _MOST_LOGITS // model.config.vocab_size
        self._at_sites = WaitingWindows(model, batch_size, most_tokens)
        self._whole = WaitingWindows(model, batch_size)
        self._clear()

    def _clear(self) -> None:
        self._pairs = 0
        self._windows: list[tuple[int, int, int]] = []  # pair, rows of REF and ALT among the whole windows
        self._changes: list[np.ndarray] = []  # (changes, 5): row at a site, pair, place, REF id, ALT id

    @property
    def batch_size(self) -> int:
        """Windows a batch."""
        return min(self._at_sites.batch_size, self._whole.batch_size)

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._at_sites.batch_size = self._whole.batch_size = size

    def __len__(self) -> int:
        """How many different windows wait."""
        return len(self._at_sites) + len(self._whole)

    def add(self, pair: WindowPair) -> int:
        """Add a pair; returns its place in what `scores` gives."""
        ref, alt = (self.model.tokenizer.encode_letters(letters) for letters in (pair.ref, pair.alt))
        if self.way == "marginal" and pair.is_substitution:
            self._add_site(ref, alt)
        else:
            self._windows.append((self._pairs, self._whole.add(ref), self._whole.add(alt)))
        self._pairs += 1
        return self._pairs - 1

    def _add_site(self, ref: np.ndarray, alt: np.ndarray) -> None:
        places = np.flatnonzero(ref != alt)
        if not len(places):
            return
        masked = ref.copy()
        masked[places] = self.model.tokenizer.mask_id
        row = self._at_sites.add(masked)
        in_front = int(self.model.tokenizer.start_id is not None)
        columns = (np.full(len(places), row), np.full(len(places), self._pairs), places + in_front)
        self._changes.append(np.stack([*columns, ref[places], alt[places]], 1).astype(np.int64))

    def scores(self) -> np.ndarray:
        """(pairs,) float64: the log-likelihood ratio of each pair in nats; empties the pool.

        Raises:
            InputError: the device's memory does not hold one window.
        """
        scores = np.zeros(self._pairs)
        if self._changes:
            pairs, ratios = self._site_ratios(np.concatenate(self._changes))
            np.add.at(scores, pairs, ratios)
        if self._windows:
            pairs, ref, alt = np.array(self._windows).T
            sums = self._pseudo_log_likelihoods()
            scores[pairs] = sums[alt] - sums[ref]
        self._clear()
        return scores

    def _site_ratios(self, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pair of each change and ln p(ALT token) - ln p(REF token), (changes,) both."""
        changes = changes[np.argsort(changes[:, 0], kind="stable")]
        ends = np.searchsorted(changes[:, 0], np.arange(len(self._at_sites) + 1))

        def ratios(batch: Batch, rows: list[int]) -> tuple[np.ndarray, torch.Tensor]:
            parts = [changes[ends[row] : ends[row + 1]] for row in rows]
            of_rows = np.concatenate(parts)
            of_rows[:, 0] = np.repeat(np.arange(len(rows)), [len(part) for part in parts])
            row, _, place, ref, alt = torch.from_numpy(of_rows).to(batch.input_ids.device).T
            with torch.inference_mode(), autocast(self.model.device, self.precision):
                logits = self.model(batch.input_ids, task="mlm", lengths=batch.lengths).logits
            return of_rows[:, 1], logits[row, place, alt].double() - logits[row, place, ref].double()

        found = [part for _, part in self._at_sites.run(ratios)]
        pairs = np.concatenate([pairs for pairs, _ in found])
        return pairs, torch.cat([part for _, part in found]).cpu().numpy()

    def _pseudo_log_likelihoods(self) -> np.ndarray:
        """(windows,) float64: of each whole window's certain nucleotides."""
        sums = np.zeros(len(self._whole))

        def likelihoods(batch: Batch, rows: list[int]) -> torch.Tensor:
            with torch.inference_mode(), autocast(self.model.device, self.precision):
                return token_log_likelihood(self.model, batch, "mlm")[0].double().sum(1)

        for rows, found in self._whole.run(likelihoods):
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
    if tokenizer.mask_id is None:
        raise InputError(
            f"the tokenizer {tokenizer.name!r} has no mask token, so masked tokens have no likelihood"
        )
    if tokenizer.overlap:
        raise InputError(
            "a model of masked tokens has no likelihood where k-mers overlap, since neighbours hold the masked "
            "letters; take a stride of k"
        )
    cut_alike = isinstance(tokenizer, LetterTokenizer | CutTokenizer)
    if masked == "marginal" and not cut_alike:
        raise InputError(
            f"masked: the tokenizer {tokenizer.name!r} cuts REF and ALT at different places, so that a substitution "
            "has no site of its own; take pseudo"
        )
    return masked or ("marginal" if cut_alike else "pseudo")

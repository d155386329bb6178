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
from genotok.shards.sampler import collate
from genotok.tokenizers import IGNORED_LABEL, LetterTokenizer
from genotok.training.precision import autocast
from genotok.variants.pool import PairPool
from genotok.variants.windows import WindowPair


class PrefixPool:
    """Pairs of windows that wait for their scores; as `PairPool`, for models that can read on.

    Args:
        model: a causal model of one token a letter, on its device.
        precision: `fp32` or `bf16`.
        batch_size: windows a batch, and fewer from when the device's memory does not hold so many.
    """

    def __init__(self, model: GenomicLM, precision: str, batch_size: int):
        self.model, self.precision, self.batch_size = model, precision, batch_size
        self.tokenizer = model.tokenizer
        self._whole = PairPool(model, precision, batch_size)
        self._clear()

    def _clear(self) -> None:
        self._prefixes: dict[bytes, int] = {}
        self._endings: dict[tuple[int, bytes], int] = {}
        self._ends_of: list[list[int]] = []  # of each prefix
        self._prefix_ids: list[np.ndarray] = []
        self._ending_ids: list[np.ndarray] = []
        # Of endings; (-1, place) of a pair whose windows are run whole.
        self._pairs: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """How many different windows wait."""
        return len(self._ending_ids) + len(self._whole)

    def add(self, pair: WindowPair) -> int:
        """Add a pair; returns its place in what `scores` gives."""
        if not pair.shared and self.tokenizer.start_id is None:  # there is nothing to go on from
            self._pairs.append((-1, self._whole.add(pair)))
        else:
            prefix = self._prefix(pair.ref[: pair.shared])
            endings = (self._ending(prefix, window[pair.shared :]) for window in (pair.ref, pair.alt))
            self._pairs.append(tuple(endings))
        return len(self._pairs) - 1

    def scores(self) -> np.ndarray:
        """(pairs,) float64: ln p(ALT window) - ln p(REF window) of each pair; empties the pool.

        Raises:
            InputError: the device's memory does not hold one prefix and its endings.
        """
        sums = np.zeros(len(self._ending_ids))
        for endings, found in [(self._endings_of(batch), self._run(batch)) for batch in self._batches()]:
            sums[endings] = found.cpu().numpy()
        ref, alt = np.array(self._pairs, int).reshape(-1, 2).T
        scores = np.zeros(len(ref))
        scores[ref >= 0] = sums[alt[ref >= 0]] - sums[ref[ref >= 0]]
        if (ref < 0).any():
            self._whole.batch_size = self.batch_size
            scores[ref < 0] = self._whole.scores()[alt[ref < 0]]
        self._clear()
        return scores

    def _prefix(self, letters: bytes) -> int:
        ids = self.tokenizer.encode_letters(letters)
        place = self._prefixes.setdefault(ids.tobytes(), len(self._prefix_ids))
        if place == len(self._prefix_ids):
            self._prefix_ids.append(ids)
            self._ends_of.append([])
        return place

    def _ending(self, prefix: int, letters: bytes) -> int:
        ids = self.tokenizer.encode_letters(letters)
        place = self._endings.setdefault((prefix, ids.tobytes()), len(self._ending_ids))
        if place == len(self._ending_ids):
            self._ending_ids.append(ids)
            self._ends_of[prefix].append(place)
        return place

    def _batches(self) -> Iterator[list[int]]:
        """Prefixes whose endings make a batch, the longest first, so that too large a batch fails at once."""
        order = sorted(range(len(self._prefix_ids)), key=lambda p: -len(self._prefix_ids[p]))
        batch, windows = [], 0
        for prefix in order:
            if batch and windows + len(self._ends_of[prefix]) > self.batch_size:
                yield batch
                batch, windows = [], 0
            batch.append(prefix)
            windows += len(self._ends_of[prefix])
        if batch:
            yield batch

    def _endings_of(self, prefixes: list[int]) -> list[int]:
        return [ending for prefix in prefixes for ending in self._ends_of[prefix]]

    def _run(self, prefixes: list[int]) -> Tensor:
        """(endings,) float64 on the device; cuts the batch in two as long as the memory does not hold it."""
        try:
            return self._sums(prefixes)
        except torch.OutOfMemoryError as error:
            if len(prefixes) == 1:
                raise InputError(
                    f"{self.model.device}: has no memory for one window of {len(self._prefix_ids[prefixes[0]])} "
                    "letters in front of a variant; choose a smaller window or another device"
                ) from error
        half = len(prefixes) // 2
        self.batch_size = max(1, self.batch_size // 2)
        return torch.cat([self._run(prefixes[:half]), self._run(prefixes[half:])])

    def _sums(self, prefixes: list[int]) -> Tensor:
        """ln p of each ending's certain nucleotides, given its prefix."""
        endings = self._endings_of(prefixes)
        of_ending = [place for place, prefix in enumerate(prefixes) for _ in self._ends_of[prefix]]
        device = self.model.device
        front = collate([self._prefix_ids[prefix] for prefix in prefixes], self.tokenizer).to(device)
        ids, labels, lengths = self._padded([self._ending_ids[ending] for ending in endings])
        rows = torch.tensor(of_ending, device=device)
        with torch.inference_mode(), autocast(device, self.precision):
            before, cache = self.model.prefill(front.input_ids, front.lengths)
            logits = before[rows, None]
            if ids.shape[1] > 1:
                behind = self.model.extend(ids[:, :-1], cache.select(rows), (lengths - 1).clamp(min=1))
                logits = torch.cat([logits, behind], 1)
            nats = logits.float().log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
            return nats.masked_fill(labels == IGNORED_LABEL, 0.0).double().sum(1)

    def _padded(self, endings: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        """(E, L) ids and labels, and (E,) lengths, on the device; labels are -100 where nothing counts."""
        lengths = np.array([len(ids) for ids in endings])
        ids = np.full((len(endings), max(1, lengths.max())), self.tokenizer.pad_id, np.int64)
        for row, ending in enumerate(endings):
            ids[row, : len(ending)] = ending
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        labels = np.where(inside & self.tokenizer.is_nucleotide[ids], ids, IGNORED_LABEL)
        return tuple(torch.from_numpy(part).to(self.model.device) for part in (ids, labels, lengths))


def make_pool(
    model: GenomicLM, precision: str, batch_size: int, share_prefixes: bool = True
) -> PairPool | PrefixPool:
    """The pool that is best for a model: `PrefixPool` for causal ones of one token a letter that can read on."""
    causal = likelihood_task(model) == "lm" and isinstance(model.tokenizer, LetterTokenizer)
    kind = PrefixPool if share_prefixes and causal and model.can_extend else PairPool
    return kind(model, precision, batch_size)

"""An order-k mixture that learns from the contig itself while it reads, as compressors of DNA do.

It is no rival of a frozen model, which has to know the contig from others alone; it says how much of a contig
is foretold by what stands in the contig before. Its bits per base are about those of a simple compressor
(GeCo, Pratas et al. 2016, mixes such counts in the same way).
"""

import numpy as np
from scipy.signal import lfilter

ORDERS = (0, 1, 2, 3, 4, 6, 8, 11, 16)
MEMORY = 0.99  # how much of an order's record counts at the next base
PIECE = 1 << 24  # bases after which the counts begin anew, which bounds memory


class AdaptiveMarkov:
    """Counts of several orders, mixed by how well each has foretold the bases just before.

    Args:
        orders: lengths of the contexts.
    """

    def __init__(self, orders: tuple[int, ...] = ORDERS):
        self.orders = orders

    def log2_probability(self, ids: np.ndarray) -> np.ndarray:
        """The log2-probability of every base given all bases before it in the contig.

        Args:
            ids: integers of shape (length,): A C G T are 0 1 2 3, all else is ambiguous and skipped, also in
                contexts.

        Returns:
            float64 of shape (length,), NaN at ambiguous bases.
        """
        ids = np.asarray(ids)
        result = np.full(len(ids), np.nan)
        certain = np.flatnonzero(ids < 4)
        for start in range(0, len(certain), PIECE):
            places = certain[start : start + PIECE]
            result[places] = self._piece(ids[places].astype(np.int64))
        return result

    def _piece(self, bases: np.ndarray) -> np.ndarray:
        probability = np.stack([_counted_before(bases, order) for order in self.orders])
        # The record of an order is the decayed sum of its log-probabilities, without the base to be foretold.
        record = lfilter([0.0, 1.0], [1.0, -MEMORY], np.log(probability), axis=1)
        weight = np.exp(record - record.max(0))
        return np.log2((weight * probability).sum(0) / weight.sum(0))


def _counted_before(bases: np.ndarray, order: int) -> np.ndarray:
    """The probability of each base by counts of its context in the bases before it."""
    context = np.zeros(len(bases), np.int64)
    for back in range(1, order + 1):
        context[back:] |= bases[:-back] << 2 * (back - 1)
    seen = _earlier_occurrences(context << 2 | bases)
    total = _earlier_occurrences(context)
    pseudo = 1.0 if order <= 8 else 1 / 16  # a long context that was seen once is worth trusting
    return (seen + pseudo) / (total + 4 * pseudo)


def _earlier_occurrences(codes: np.ndarray) -> np.ndarray:
    """How often each value stands in the array before its place."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.arange(len(codes)) - np.repeat(begins, np.diff(np.r_[begins, len(codes)]))
    occurrences = np.empty(len(codes), np.int64)
    occurrences[order] = rank
    return occurrences

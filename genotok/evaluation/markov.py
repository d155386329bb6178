"""Frozen order-k Markov models of DNA: the bits per base that a neural model has to beat.

An order-k model predicts a base from the k bases before it. The shorter contexts are interpolated with a
Dirichlet prior, as in MacKay and Peto (1995), "A hierarchical Dirichlet language model":

    p_j(b | context) = (count_j(context, b) + s_j * p_{j-1}(b | context)) / (count_j(context) + s_j)

with p_{-1} = 1/4. The strength s_j says how many observations the shorter context is worth; it is tuned on
held-out contigs, order by order. A context that was never counted leaves its shorter one's probability as
it is.

The models are frozen: they learn nothing from the contig that they score. Compressors such as GeCo3 do
learn from it, and so solve an easier task on a genome with repeats.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from scipy.optimize import minimize_scalar

from genotok.errors import InputError

AMBIGUOUS = 4
MAX_ORDER = 12
DEFAULT_STRENGTH = 16.0
STRENGTH_RANGE = (1e-2, 1e6)
BLOCK = 1 << 20  # bases worked on at a time
TUNING_BASES = 1 << 21  # at most so many bases take part in tuning; more would cost memory and change little
EM_STEPS = 500
EM_PRIOR = 100  # bases that the weights of all rows together are worth in each row
TRUST_LEVELS = 16
NOTHING_TO_TUNE_ON = "the contigs for tuning the Markov baselines hold no A, C, G or T; check the split"


class Baseline(Protocol):
    """Anything that gives a probability to every base of a contig."""

    def log2_probability(self, ids: np.ndarray) -> np.ndarray:
        """The log2-probability of every base given those before it; see `MarkovModel`."""


class UniformModel:
    """Every base has probability 1/4: 2 bits per base."""

    def log2_probability(self, ids: np.ndarray) -> np.ndarray:
        """-2 at every base and NaN at ambiguous ones, float64 of shape (length,)."""
        return np.where(_as_ids(ids) < AMBIGUOUS, -2.0, np.nan)


class MarkovModel:
    """An order-k Markov model over the counts of all orders from 0 to k.

    Args:
        order: bases of context, 0 to 12. Order 11 takes 180 MB, order 12 takes 720 MB.
        both_strands: count the reverse complement of every contig as well.

    Attributes:
        counts: for each order j int64 of shape (4^j, 4): context, then base. In the packed context the base
            just before the predicted one is the lowest digit.
        strengths: float64 of shape (order + 1,): the s_j of the module's formula, set by `tune`.

    Raises:
        InputError: the order lies outside 0 to 12.
    """

    def __init__(self, order: int, *, both_strands: bool = False):
        if not 0 <= order <= MAX_ORDER:
            raise InputError(f"a Markov model of order {order} was asked for; choose 0 to {MAX_ORDER}")
        self.order, self.both_strands = order, both_strands
        self.counts = [np.zeros((4**j, 4), dtype=np.int64) for j in range(order + 1)]
        self.strengths = np.full(order + 1, DEFAULT_STRENGTH)

    def update(self, ids: np.ndarray) -> None:
        """Count the bases of one contig.

        Args:
            ids: integers of shape (length,): A C G T are 0 1 2 3, all else is ambiguous. A base near the
                contig's start or behind an ambiguous one is counted in those contexts that are whole.
        """
        ids = _as_ids(ids)
        for strand in [ids, _reverse_complement(ids)] if self.both_strands else [ids]:
            for codes, context_length in _packed_blocks(strand, self.order):
                self._count(codes, context_length)

    def _count(self, codes: np.ndarray, context_length: np.ndarray) -> None:
        for order, table in enumerate(self.counts):
            cells = codes[context_length >= order] & (table.size - 1)
            if table.size <= len(cells):
                table += np.bincount(cells, minlength=table.size).reshape(-1, 4)
            else:  # bincount would pass over a table larger than the block
                np.add.at(table.reshape(-1), cells, 1)

    def log2_probability(self, ids: np.ndarray) -> np.ndarray:
        """The log2-probability of every base given those before it.

        Args:
            ids: integers of shape (length,), as for `update`.

        Returns:
            float64 of shape (length,), NaN at ambiguous bases only: where fewer than `order` unambiguous
            bases stand before a base, the longest whole context predicts it.
        """
        return self.log2_probability_by_order(ids, [self.order])[0]

    def log2_probability_by_order(self, ids: np.ndarray, orders: Sequence[int]) -> np.ndarray:
        """As `log2_probability` for several orders at once: float64 of shape (len(orders), length)."""
        ids = _as_ids(ids)
        result = np.full((len(orders), len(ids)), np.nan)
        start = 0
        for codes, context_length in _packed_blocks(ids, self.order):
            block = result[:, start : start + len(codes)]
            probability = np.full(len(codes), 0.25)
            for order in range(max(orders) + 1):
                longer = _interpolate(*self._look_up(order, codes), probability, self.strengths[order])
                np.copyto(probability, longer, where=context_length >= order)
                block[[o == order for o in orders]] = np.log2(probability)
            block[:, context_length < 0] = np.nan
            start += len(codes)
        return result

    def context_count(self, ids: np.ndarray) -> np.ndarray:
        """How often the `order` bases before each base were counted, int64 of shape (length,).

        Where fewer than `order` unambiguous bases stand before a base, 0.
        """
        blocks = _packed_blocks(_as_ids(ids), self.order)
        known = [np.where(n == self.order, self._look_up(self.order, codes)[1], 0) for codes, n in blocks]
        return np.concatenate([np.empty(0, np.int64), *known])

    def _look_up(self, order: int, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts of each base in its context of `order` bases, and of that context with any base."""
        cells = self.counts[order].reshape(-1)
        codes = codes & (cells.size - 1)
        first = codes & ~3
        return cells[codes], cells[first] + cells[first + 1] + cells[first + 2] + cells[first + 3]

    def tune(self, contigs: Sequence[np.ndarray]) -> None:
        """Set each strength, from order 0 up, to the likeliest one for contigs that were not counted.

        Args:
            contigs: id arrays as for `update`. Tuning on counted contigs would favour long contexts that
                have only been learnt by heart.

        Raises:
            InputError: the contigs hold no A, C, G or T.
        """
        codes, context_length = _tuning_sample(contigs, self.order)
        probability = np.full(len(codes), 0.25)
        for order in range(self.order + 1):
            rows = np.flatnonzero(context_length >= order)
            if not len(rows):
                return
            seen, total = self._look_up(order, codes[rows])
            self.strengths[order] = _likeliest_strength(seen, total, probability[rows])
            probability[rows] = _interpolate(seen, total, probability[rows], self.strengths[order])


class MarkovOrder:
    """One order of a `MarkovModel` of higher order, whose counts and strengths it shares."""

    def __init__(self, model: MarkovModel, order: int):
        self.model, self.order = model, order

    def log2_probability(self, ids: np.ndarray) -> np.ndarray:
        """The log2-probability of every base, as `MarkovModel.log2_probability` gives it."""
        return self.model.log2_probability_by_order(ids, [self.order])[0]


class MarkovMixture:
    """A weighted mean of the probabilities that several orders of one Markov model give.

    The weights depend on how often the longest context was counted, in powers of two, since a context seen
    a thousand times deserves more trust than one seen once (Jelinek and Mercer, 1980).

    Args:
        model: a counted and tuned model.
        orders: the orders to mix, none above the model's own.

    Attributes:
        weights: float64 of shape (16, len(orders)), one row for each power of two of the longest context's
            count, each with sum 1; equal weights until `tune` sets them.
    """

    def __init__(self, model: MarkovModel, orders: Sequence[int]):
        self.model, self.orders = model, list(orders)
        self.weights = np.full((TRUST_LEVELS, len(self.orders)), 1 / len(self.orders))

    def log2_probability(self, ids: np.ndarray) -> np.ndarray:
        """The log2-probability of every base, as `MarkovModel.log2_probability` gives it."""
        result = [
            np.log2(np.einsum("on,no->n", probability, self.weights[trust]))
            for probability, trust in self._components(ids)
        ]
        return np.concatenate([np.empty(0), *result])

    def _components(self, ids: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """Block by block each order's probability, (len(orders), block), and the row of `weights`, (block,)."""
        for block, before in _overlapping_blocks(_as_ids(ids), self.model.order):
            by_order = self.model.log2_probability_by_order(block, self.orders)[:, before:]
            trust = np.log2(1 + self.model.context_count(block)[before:]).astype(np.int64)
            yield np.exp2(by_order), np.minimum(trust, TRUST_LEVELS - 1)

    def tune(self, contigs: Sequence[np.ndarray]) -> None:
        """Set the weights to the likeliest ones for `contigs` by expectation maximisation.

        Rows with little evidence lean on the weights of all rows together.

        Raises:
            InputError: the contigs hold no A, C, G or T.
        """
        step = _tuning_step(contigs)
        parts = [
            (probability[:, ::step].copy(), trust[::step].copy())
            for ids in contigs
            for probability, trust in self._components(ids)
        ]
        probability = np.concatenate([np.empty((len(self.orders), 0)), *(part for part, _ in parts)], axis=1)
        trust = np.concatenate([np.empty(0, np.int64), *(part for _, part in parts)])
        is_base = ~np.isnan(probability[0])
        if not is_base.any():
            raise InputError(NOTHING_TO_TUNE_ON)
        everywhere = _likeliest_weights(probability[:, is_base], self.weights.mean(axis=0))
        for level in range(TRUST_LEVELS):
            self.weights[level] = _likeliest_weights(probability[:, is_base & (trust == level)], everywhere)


def fit_markov_baselines(
    train: Iterable[np.ndarray],
    valid: Iterable[np.ndarray] = (),
    orders: Sequence[int] = (2, 4, 8, 11),
    *,
    both_strands: bool = True,
) -> dict[str, Baseline]:
    """Count the training contigs once and give every baseline that rests on these counts.

    Args:
        train: id arrays, one for each contig or window; A C G T are 0 1 2 3, all else is ambiguous.
        valid: id arrays on which the strengths and the weights of the mixture are tuned. When there are
            none, the middle tenth of every training array is held back for tuning and counted afterwards
            (the ends of linear genomes are often repeats of each other).
        orders: the orders of the single models, which the mixture combines.
        both_strands: count the reverse complements as well.

    Returns:
        `uniform`, `markov_<order>` for each order, and `markov_mixture`.

    Raises:
        InputError: an order lies outside 0 to 12, or the contigs hold no A, C, G or T.
    """
    model = MarkovModel(max(orders), both_strands=both_strands)
    tuning = [np.asarray(ids) for ids in valid]
    held_back = []
    for ids in map(np.asarray, train):
        if tuning:
            model.update(ids)
        else:
            before, middle, behind = np.split(ids, [len(ids) * 45 // 100, len(ids) * 55 // 100])
            held_back.append(middle)
            model.update(before)
            model.update(behind)
    if not model.counts[0].any():
        raise InputError("the training contigs hold no A, C, G or T; check the split and the FASTA")
    model.tune(tuning or held_back)
    mixture = MarkovMixture(model, orders)
    mixture.tune(tuning or held_back)
    for ids in held_back:
        model.update(ids)
    single = {f"markov_{order}": MarkovOrder(model, order) for order in orders}
    return {"uniform": UniformModel(), **single, "markov_mixture": mixture}


def bits_per_base(baseline: Baseline, contigs: Iterable[np.ndarray]) -> float:
    """The mean of -log2 p over all unambiguous bases of `contigs`; NaN when there are none."""
    total, bases = 0.0, 0
    for ids in contigs:
        log2_probability = baseline.log2_probability(ids)
        total -= float(np.nansum(log2_probability))
        bases += int(np.count_nonzero(~np.isnan(log2_probability)))
    return total / bases if bases else float("nan")


def _as_ids(ids: np.ndarray) -> np.ndarray:
    """The ids as uint8, with everything that is no base (padding of any sign, too) as `AMBIGUOUS`."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"ids must be integers of shape (length,), got {ids.dtype} of shape {ids.shape}")
    return np.where((ids >= 0) & (ids < AMBIGUOUS), ids, AMBIGUOUS).astype(np.uint8)


def _reverse_complement(ids: np.ndarray) -> np.ndarray:
    return np.where(ids < AMBIGUOUS, 3 - ids, AMBIGUOUS).astype(np.uint8)[::-1]


def _overlapping_blocks(ids: np.ndarray, order: int) -> Iterable[tuple[np.ndarray, int]]:
    """Blocks of `ids`, each with its context in front, and how many bases that context has."""
    for start in range(0, len(ids), BLOCK):
        before = min(order, start)
        yield ids[start - before : start + BLOCK], before


def _packed_blocks(ids: np.ndarray, order: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """What `_packed` gives, block by block."""
    for block, before in _overlapping_blocks(ids, order):
        codes, context_length = _packed(block, order)
        yield codes[before:], context_length[before:]


def _packed(ids: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Each base and the `order` bases before it as one number in base 4, the base itself lowest.

    Returns:
        codes: int32 of shape (length,); the digits beyond the whole context mean nothing.
        context_length: int8 of shape (length,): unambiguous bases just before each base, at most `order`;
            -1 at ambiguous bases.
    """
    is_base = ids < AMBIGUOUS
    position = np.arange(len(ids), dtype=np.int32)
    last_ambiguous = np.maximum.accumulate(np.where(is_base, -1, position))
    run = np.minimum(position - 1 - last_ambiguous, order)
    context_length = np.where(is_base, run, -1).astype(np.int8)
    digits = np.where(is_base, ids, 0).astype(np.int32)
    codes = digits.copy()
    for distance in range(1, min(order, len(ids) - 1) + 1):
        codes[distance:] |= digits[:-distance] << (2 * distance)
    return codes, context_length


def _interpolate(seen: np.ndarray, total: np.ndarray, shorter: np.ndarray, strength: float) -> np.ndarray:
    """The module's formula, for the base that stands at each position."""
    return (seen + strength * shorter) / (total + strength)


def _likeliest_strength(seen: np.ndarray, total: np.ndarray, shorter: np.ndarray) -> float:
    def loss(log_strength: float) -> float:
        return -float(np.log2(_interpolate(seen, total, shorter, np.exp(log_strength))).sum())

    best = minimize_scalar(loss, bounds=np.log(STRENGTH_RANGE), method="bounded", options={"xatol": 0.02})
    return float(np.exp(best.x))


def _likeliest_weights(probability: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The weights of the mixture's components, from their probabilities of shape (components, bases)."""
    weights = prior
    for _ in range(EM_STEPS):
        before = weights
        weights = before * (probability @ (1 / (before @ probability))) + EM_PRIOR * prior
        weights /= weights.sum()
        if np.abs(weights - before).max() < 1e-4:
            break
    return weights


def _tuning_step(contigs: Sequence[np.ndarray]) -> int:
    """Every so many bases take part in tuning."""
    return -(-sum(len(ids) for ids in contigs) // TUNING_BASES) or 1


def _tuning_sample(contigs: Sequence[np.ndarray], order: int) -> tuple[np.ndarray, np.ndarray]:
    """What `_packed` gives, for the bases that take part in tuning."""
    step = _tuning_step(contigs)
    parts = [
        (codes[::step].copy(), length[::step].copy())
        for ids in contigs
        for codes, length in _packed_blocks(_as_ids(ids), order)
    ]
    codes = np.concatenate([np.empty(0, np.int32), *(part for part, _ in parts)])
    context_length = np.concatenate([np.empty(0, np.int8), *(part for _, part in parts)])
    if not (context_length >= 0).any():
        raise InputError(NOTHING_TO_TUNE_ON)
    return codes[context_length >= 0], context_length[context_length >= 0]

"""The mixture that learns from the contig itself."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.evaluation.adaptive_markov import MEMORY, AdaptiveMarkov


def slow_log2_probability(ids: list[int], orders: tuple[int, ...]) -> list[float]:
    """The definition, base by base, with dictionaries."""
    bases = [base for base in ids if base < 4]
    counts = {order: Counter() for order in orders}
    records = dict.fromkeys(orders, 0.0)
    result = []
    for place, base in enumerate(bases):
        probabilities = {}
        for order in orders:
            context = tuple(([0] * order + bases[:place])[place : place + order])
            pseudo = 1.0 if order <= 8 else 1 / 16
            seen = counts[order][context, base] + pseudo
            total = sum(counts[order][context, other] for other in range(4)) + 4 * pseudo
            probabilities[order] = seen / total
            counts[order][context, base] += 1
        weights = {order: math.exp(records[order]) for order in orders}
        mixed = sum(weights[order] * probabilities[order] for order in orders) / sum(weights.values())
        result.append(math.log2(mixed))
        records = {order: MEMORY * records[order] + math.log(probabilities[order]) for order in orders}
    return result


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=80))
def test_equals_the_definition(ids):
    """Vectorised counts and weights are those of the slow loop; ambiguous bases are NaN."""
    orders = (0, 1, 2, 11)
    fast = AdaptiveMarkov(orders).log2_probability(np.array(ids, np.uint8))
    assert np.isnan(fast).tolist() == [base >= 4 for base in ids]
    np.testing.assert_allclose(fast[~np.isnan(fast)], slow_log2_probability(ids, orders), rtol=1e-9)


def test_a_repeat_is_foretold_and_chance_is_not():
    """The second copy of random bases costs little, the first one about two bits a base."""
    copy = np.random.default_rng(1).integers(0, 4, 4_000)
    bits = -AdaptiveMarkov().log2_probability(np.concatenate([copy, copy]))
    assert bits[:4_000].mean() == pytest.approx(2.0, abs=0.05)
    assert bits[4_100:].mean() < 0.3


def test_the_probabilities_of_the_four_bases_sum_to_one():
    """Whatever base comes next, the four possible ones share one probability."""
    before = np.random.default_rng(2).integers(0, 4, 300)
    last = [AdaptiveMarkov().log2_probability(np.append(before, base))[-1] for base in range(4)]
    assert np.exp2(last).sum() == pytest.approx(1.0)

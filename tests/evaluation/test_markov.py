"""Markov baselines against a slow oracle of dictionaries, and against processes of known entropy."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.errors import InputError
from genotok.evaluation import markov
from genotok.evaluation.markov import (
    MarkovMixture,
    MarkovModel,
    UniformModel,
    bits_per_base,
    fit_markov_baselines,
)

contigs_with_gaps = st.lists(
    st.lists(st.sampled_from([0, 1, 2, 3, 0, 1, 2, 3, 4, 9]), max_size=60).map(
        lambda ids: np.array(ids, dtype=np.uint8)
    ),
    min_size=1,
    max_size=3,
)


class DictionaryOracle:
    """The module's formula, base by base."""

    def __init__(self, order, strengths, both_strands):
        self.order, self.strengths, self.both_strands = order, strengths, both_strands
        self.seen, self.total = Counter(), Counter()

    def update(self, ids):
        ids = [int(base) for base in ids]
        reverse = [3 - base if base < 4 else base for base in reversed(ids)]
        for strand in [ids, reverse] if self.both_strands else [ids]:
            for position, base in enumerate(strand):
                for context in self.contexts(strand, position):
                    self.seen[context, base] += 1
                    self.total[context] += 1

    def contexts(self, ids, position):
        """The whole contexts of a base, shortest first; none for an ambiguous base."""
        if ids[position] >= 4:
            return
        for length in range(min(self.order, position) + 1):
            context = tuple(ids[position - length : position])
            if any(base >= 4 for base in context):
                return
            yield context

    def probability(self, ids, position):
        ids = [int(base) for base in ids]
        probability = 0.25
        for context in self.contexts(ids, position):
            strength = self.strengths[len(context)]
            seen = self.seen[context, ids[position]] + strength * probability
            probability = seen / (self.total[context] + strength)
        return probability


@settings(max_examples=60, deadline=None)
@given(contigs_with_gaps, contigs_with_gaps, st.integers(0, 4), st.booleans(), st.data())
def test_counts_and_probabilities_are_those_of_the_oracle(train, test, order, both_strands, data):
    strengths = np.array(data.draw(st.lists(st.floats(0.1, 50), min_size=order + 1, max_size=order + 1)))
    model = MarkovModel(order, both_strands=both_strands)
    model.strengths = strengths
    oracle = DictionaryOracle(order, strengths, both_strands)
    for ids in train:
        model.update(ids)
        oracle.update(ids)
    for length, table in enumerate(model.counts):
        assert table.sum() == sum(
            count for (context, _), count in oracle.seen.items() if len(context) == length
        )
    for ids in test:
        found = model.log2_probability(ids)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(np.isnan(found), ids >= 4)
        for position in np.flatnonzero(ids < 4):
            assert found[position] == pytest.approx(np.log2(oracle.probability(ids, position)), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(contigs_with_gaps, st.integers(1, 9), st.integers(0, 4))
def test_blocks_do_not_show(contigs, block, order):
    whole, in_blocks = MarkovModel(order, both_strands=True), MarkovModel(order, both_strands=True)
    for ids in contigs:
        whole.update(ids)
    expected = [whole.log2_probability(ids) for ids in contigs]
    mixed = [MarkovMixture(whole, [0, order]).log2_probability(ids) for ids in contigs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markov, "BLOCK", block)
        for ids in contigs:
            in_blocks.update(ids)
        for table, same in zip(whole.counts, in_blocks.counts, strict=True):
            np.testing.assert_array_equal(table, same)
        for ids, values, mixture in zip(contigs, expected, mixed, strict=True):
            np.testing.assert_array_equal(MarkovMixture(in_blocks, [0, order]).log2_probability(ids), mixture)
            np.testing.assert_array_equal(in_blocks.log2_probability(ids), values)
            np.testing.assert_array_equal(in_blocks.context_count(ids), whole.context_count(ids))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from([0, 1, 2, 3, 4]), max_size=8))
def test_four_letters_share_one_whole_probability(seed, context):
    rng = np.random.default_rng(seed)
    baselines = fit_markov_baselines(
        [rng.choice(4, 300, p=[0.4, 0.3, 0.2, 0.1])], [rng.integers(0, 4, 50)], (0, 2, 5)
    )
    for name, baseline in baselines.items():
        last = [baseline.log2_probability(np.array([*context, base]))[-1] for base in range(4)]
        assert np.exp2(last).sum() == pytest.approx(1, abs=1e-9), name


def test_worked_example():
    model = MarkovModel(1)
    model.strengths = np.array([4.0, 2.0])
    model.update(np.array([0, 0, 1], dtype=np.uint8))  # A A C: A twice, C once; behind A one A and one C
    first, second = (2 + 4 / 4) / (3 + 4), (1 + 2 * 3 / 7) / (2 + 2)
    np.testing.assert_allclose(np.exp2(model.log2_probability(np.array([0, 0]))), [first, second], rtol=1e-12)


def test_both_strands_give_a_sequence_and_its_reverse_complement_the_same_counts():
    ids = np.random.default_rng(1).choice(5, 500).astype(np.uint8)
    forward, backward = MarkovModel(3, both_strands=True), MarkovModel(3, both_strands=True)
    forward.update(ids)
    backward.update(np.where(ids < 4, 3 - ids, 4).astype(np.uint8)[::-1])
    for one, other in zip(forward.counts, backward.counts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_padding_of_any_sign_is_no_base():
    ids = np.array([-100, 0, 1, 260, 2])
    np.testing.assert_array_equal(
        np.isnan(UniformModel().log2_probability(ids)), [True, False, False, True, False]
    )
    np.testing.assert_array_equal(
        np.isnan(MarkovModel(2).log2_probability(ids)), [True, False, False, True, False]
    )


def test_random_sequence_costs_two_bits():
    train, valid, test = (np.random.default_rng(seed).integers(0, 4, 100_000) for seed in range(3))
    baselines = fit_markov_baselines([train], [valid])
    assert list(baselines) == ["uniform", "markov_2", "markov_4", "markov_8", "markov_11", "markov_mixture"]
    for name, baseline in baselines.items():
        assert bits_per_base(baseline, [test]) == pytest.approx(2, abs=0.005), name


def order_two_process(length, seed):
    """A sequence whose bases depend on the two before them, and its entropy in bits per base."""
    probabilities = np.random.default_rng(9).dirichlet([0.5] * 4, size=16)
    rng = np.random.default_rng(seed)
    limits, draws = np.cumsum(probabilities, axis=1), rng.random(length)
    ids = [0, 1]
    for draw in draws[2:]:
        ids.append(int(np.searchsorted(limits[4 * ids[-2] + ids[-1]], draw)))
    ids = np.minimum(np.array(ids), 3).astype(np.uint8)
    visits = np.bincount(4 * ids[:-1].astype(int) + ids[1:], minlength=16) / (length - 1)
    return ids, float(-(visits[:, None] * probabilities * np.log2(probabilities)).sum())


def test_planted_process_costs_its_entropy():
    train, valid = order_two_process(100_000, 1)[0], order_two_process(30_000, 2)[0]
    test, entropy = order_two_process(60_000, 3)
    baselines = fit_markov_baselines([train], [valid], (0, 1, 2, 4, 8), both_strands=False)
    bits = {name: bits_per_base(baseline, [test]) for name, baseline in baselines.items()}
    for name in ("markov_2", "markov_4", "markov_8", "markov_mixture"):
        assert bits[name] == pytest.approx(entropy, abs=0.02), name
    assert bits["markov_0"] > bits["markov_1"] > bits["markov_2"] + 0.05


def test_ambiguous_bases_cost_nothing_and_are_not_counted():
    ids = np.array([0, 1, 4, 4, 2, 3], dtype=np.uint8)
    assert bits_per_base(UniformModel(), [ids]) == 2
    assert np.isnan(bits_per_base(UniformModel(), [ids[2:4]]))
    model = MarkovModel(1)
    model.update(ids)
    assert [table.sum() for table in model.counts] == [4, 2]


def test_tuned_strengths_beat_others_on_the_tuning_contigs():
    train, valid = order_two_process(3_000, 4)[0], order_two_process(3_000, 5)[0]
    model = MarkovModel(4)
    model.update(train)
    model.tune([valid])
    best = model.strengths.copy()
    tuned = bits_per_base(model, [valid])
    for factor in (0.1, 0.5, 2, 10):
        model.strengths = best.copy()
        model.strengths[4] *= factor
        assert bits_per_base(model, [valid]) > tuned


def test_mixture_is_no_worse_than_its_best_order_and_weighs_to_one():
    train, valid = order_two_process(5_000, 6)[0], order_two_process(20_000, 7)[0]
    model = MarkovModel(6)  # untuned, so that the orders differ
    model.update(train)
    mixture = MarkovMixture(model, [0, 2, 6])
    equal = bits_per_base(mixture, [valid])
    mixture.tune([valid])
    singles = [-np.mean(row) for row in model.log2_probability_by_order(valid, [0, 2, 6])]
    assert bits_per_base(mixture, [valid]) < min(*singles, equal) + 1e-3
    np.testing.assert_allclose(mixture.weights.sum(axis=1), 1)
    assert (mixture.weights >= 0).all()


def test_without_validation_contigs_a_tenth_is_held_back_and_counted_later():
    contigs = [order_two_process(3_000, seed)[0] for seed in (8, 9)]
    baselines = fit_markov_baselines(iter(contigs), orders=(1, 4), both_strands=True)
    model = baselines["markov_mixture"].model
    assert model.counts[0].sum() == 2 * 6_000
    assert bits_per_base(baselines["markov_4"], [order_two_process(3_000, 10)[0]]) < 2


@pytest.mark.parametrize("order", [-1, 13])
def test_impossible_order_is_refused(order):
    with pytest.raises(InputError, match="choose 0 to 12"):
        MarkovModel(order)


def test_nothing_to_learn_from_is_refused():
    gap, bases = np.full(50, 4, dtype=np.uint8), np.zeros(50, dtype=np.uint8)
    with pytest.raises(InputError, match="training contigs hold no A, C, G or T"):
        fit_markov_baselines([gap], [bases])
    with pytest.raises(InputError, match="tuning the Markov baselines hold no A, C, G or T"):
        fit_markov_baselines([bases], [gap])
    with pytest.raises(InputError, match="tuning the Markov baselines hold no A, C, G or T"):
        MarkovMixture(MarkovModel(1), [0, 1]).tune([])


@pytest.mark.parametrize("ids", [np.zeros((2, 3), dtype=np.uint8), np.zeros(3)])
def test_ids_must_be_a_row_of_integers(ids):
    with pytest.raises(ValueError, match="integers of shape"):
        UniformModel().log2_probability(ids)

"""Intervals over seeds and blocks, held against a slow bootstrap and against normal theory."""

import numpy as np
import pytest

from genotok.comparison.intervals import differs, over_seeds
from genotok.comparison.measures import bits_of_blocks, measured


def run_of(value, drawn):
    return {"value": value, "drawn": list(drawn)}


def test_blocks_are_drawn_as_a_slow_bootstrap_draws_them():
    random = np.random.default_rng(3)
    blocks = {("g", "c", k): np.array([random.normal(190, 12), 100.0]) for k in range(60)}
    found = bits_of_blocks(blocks, 3000)["g"]
    bits, bases = np.array(list(blocks.values())).T
    slow = []
    for _ in range(3000):
        chosen = random.integers(0, 60, 60)
        slow.append(sum(bits[k] for k in chosen) / sum(bases[k] for k in chosen))
    assert found.value == pytest.approx(bits.sum() / bases.sum())
    assert np.std(found.drawn) == pytest.approx(np.std(slow), rel=0.08)
    wanted = np.quantile(slow, [0.025, 0.975])
    assert np.quantile(found.drawn, [0.025, 0.975]) == pytest.approx(wanted, abs=0.005)


def test_genomes_stand_apart_and_small_blocks_weigh_less():
    blocks = {
        ("a", "x", 0): np.array([200.0, 100.0]),
        ("b", "x", 0): np.array([100.0, 100.0]),
        ("b", "x", 1): np.array([20.0, 10.0]),
    }
    found = bits_of_blocks(blocks, 50)
    assert found["a"].value == 2.0
    assert set(found["a"].drawn) == {2.0}
    assert found["b"].value == pytest.approx(120 / 110)
    assert {round(one, 4) for one in found["b"].drawn} == {1.0, 2.0, round(120 / 110, 4)}


def test_seeds_widen_an_interval():
    """With no spread within a run what is left is the mean of three seeds drawn with replacement."""
    values = [1.0, 1.2, 1.7]
    found = over_seeds([run_of(value, [value] * 4000) for value in values])
    assert found.value == pytest.approx(1.3)
    assert found.drawn.std() == pytest.approx(np.std(values) / np.sqrt(3), rel=0.05)
    assert found.by_seed == values
    assert over_seeds([run_of(1.0, [1.0] * 9)]).interval() == (1.0, 1.0)


def test_an_arm_is_compared_within_each_sample():
    """Both arms follow the blocks and the seeds, and one needs 0.01 more everywhere: that much is certain."""
    random = np.random.default_rng(1)
    shared = random.normal(1.9, 0.1, (3, 500))
    one, other = (
        over_seeds([run_of(float(row.mean()) + more, row + more) for row in shared]) for more in (0.0, 0.01)
    )
    low, high = other.minus(one).interval()
    assert (low, high) == pytest.approx((0.01, 0.01))
    assert one.interval()[0] < other.interval()[0] < one.interval()[1]  # their own intervals overlap
    assert differs(other.minus(one)) == 1
    assert differs(one.minus(other)) == -1
    assert differs(one.minus(one)) == 0


def test_many_comparisons_need_more():
    drawn = np.concatenate([np.full(985, 1.0), np.full(15, -1.0)])
    estimate = over_seeds([run_of(0.9, drawn)])
    assert differs(estimate, 1) == 1
    assert differs(estimate, 10) == 0


def test_samples_that_leave_a_measure_undefined():
    found = measured(float("nan"), np.array([0.5, np.nan]))
    assert (found.value, found.drawn) == (None, [0.5, None])
    assert over_seeds([found.as_json()]) is None
    known = over_seeds([{"value": 0.4, "drawn": [0.4, None, 0.4]}])
    assert known.interval() == pytest.approx((0.4, 0.4))
    assert differs(over_seeds([{"value": 0.4, "drawn": [None, None]}])) == 0

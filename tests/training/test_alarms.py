"""Alarms: that each comes when it should, once, and not otherwise."""

import json
import math
import random

import pytest

from genotok.training.alarms import Alarms
from genotok.training.stages import StageNumbers


def noisy(count, middle, deviation, seed=0):
    generator = random.Random(seed)
    return [generator.gauss(middle, deviation) for _ in range(count)]


def kinds(alarms, losses, norms=None, task="lm"):
    """The kinds by the step (0-based) at which they came."""
    norms = norms or [0.3] * len(losses)
    found = {}
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        found |= {alarm.kind: step for alarm in alarms.step(task, loss, norm)}
    return found


def stage(chunks, rows=1000, learned=True):
    return StageNumbers(rows, chunks, 0.5, learned)


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_learns_raises_none(seed):
    generator = random.Random(seed)
    losses = [1.9 + 2 * math.exp(-step / 50) + generator.gauss(0, 0.03) for step in range(600)]
    norms = [math.exp(generator.gauss(0, 0.5)) * (0.3 + 3 * math.exp(-step / 30)) for step in range(600)]
    assert kinds(Alarms(0), losses, norms) == {}


def test_a_spike_is_said_once_and_says_what_to_try():
    alarms, losses = Alarms(0), noisy(60, 1.9, 0.02)
    (alarm,) = [alarm for loss in losses + [2.6] * 20 for alarm in alarms.step("lm", loss, 0.3)]
    assert alarm.kind == "loss_spike"
    assert "now 2.6 nats, before about 1.899" in alarm.message
    assert "lower learning_rate" in alarm.message
    assert kinds(alarms, noisy(60, 1.9, 0.02) + [2.6] * 20) == {}


def test_one_odd_batch_or_a_small_rise_is_no_spike():
    quiet = noisy(40, 1.9, 0.001)
    assert kinds(Alarms(0), ([*quiet, 5.0, *quiet, 5.0, 5.0, *quiet])) == {}
    assert kinds(Alarms(0), quiet + [2.0] * 20) == {}
    assert kinds(Alarms(0), [1.9] * 16 + [9.0] * 15) == {}  # too few before to tell


def test_tasks_have_losses_of_their_own():
    alarms = Alarms(0)
    assert kinds(alarms, noisy(60, 0.3, 0.01)) == {}
    assert kinds(alarms, noisy(60, 1.9, 0.01), task="mlm") == {}


def test_exploding_gradients():
    norms = [math.exp(value) for value in noisy(60, -1, 0.3)]
    found = kinds(Alarms(0), [1.9] * 63, [*norms, 40.0, math.inf, 400.0])
    assert found == {"gradient_norm": 60}
    assert kinds(Alarms(0), [1.9] * 61, [*norms, 2.5]) == {}


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        (stage(990), "one_chunk_a_token_stage1"),
        (stage(4), "one_chunk_a_document_stage1"),
        (stage(333), None),
        (stage(4, rows=40), None),  # so short that one chunk is not far from the target
        (stage(4, learned=False), None),
    ],
)
def test_collapsed_chunks(numbers, kind):
    alarms, found = Alarms(50), {}
    for step in range(10, 400, 10):
        for alarm in alarms.chunks(step, [stage(333), numbers], [3.0, 3.0], 4):
            assert alarm.kind not in found
            found[alarm.kind] = step
            assert "try a higher ratio_weight" in alarm.message
    assert found == ({kind: 160} if kind else {})


def test_chunks_that_recover_are_no_collapse():
    alarms = Alarms(0)
    for step in range(1, 400):
        assert alarms.chunks(step, [stage(4 if step % 90 else 300)], [3.0], 4) == []


def test_rare_looks_at_chunks_need_several():
    alarms = Alarms(0)
    assert [bool(alarms.chunks(step, [stage(4)], [3.0], 4)) for step in (500, 1000, 1500, 2000)] == [
        0,
        0,
        1,
        0,
    ]


def test_the_loss_scale():
    alarms = Alarms(0)
    assert alarms.loss_scale(1.0, 3) == []
    (alarm,) = alarms.loss_scale(0.5, 17)
    assert alarm.kind == "loss_scale"
    assert "0.5, with 17 steps left out" in alarm.message
    assert "bf16" in alarm.message
    assert alarms.loss_scale(0.25, 18) == []


def test_waiting_for_data():
    alarms = Alarms(0)
    assert alarms.waiting(0.2, 10.0, 20) == []
    assert [alarms.waiting(0.6, 3.0, 5) for _ in range(3)] == [[], [], []]  # too short to tell
    (alarm,) = alarms.waiting(0.6, 3.0, 5)
    assert alarm.kind == "waiting_for_data"
    assert "60% of the last 12 seconds" in alarm.message
    assert alarms.waiting(0.9, 10.0, 20) == []


def test_a_slow_step_among_quick_ones_is_no_starving_loader():
    alarms = Alarms(0)
    assert not any(alarms.waiting(0.9 if k == 3 else 0.1, 2.0, 4) for k in range(40))


@pytest.mark.parametrize("cut", [5, 40, 61, 63, 70])
def test_interrupted_anywhere_the_same_alarms_follow(cut):
    """The state is written as JSON, and the alarms behind it are those of a run that was not interrupted."""
    losses = noisy(60, 1.9, 0.02) + [3.0] * 20
    norms = noisy(70, 0.3, 0.01) + [9.0] * 10
    look = [stage(4 if step >= 20 else 333) for step in range(80)]

    def go(alarms, steps):
        said = []
        for step in steps:
            said += alarms.step("lm", losses[step], norms[step])
            said += alarms.chunks(10 * step, [look[step]], [3.0], 4)
        return said

    whole, first, second = (Alarms(0) for _ in range(3))
    before = go(first, range(cut))
    second.restore(json.loads(json.dumps(first.state())))
    assert before + go(second, range(cut, 80)) == go(whole, range(80))
    assert second.state() == whole.state()
    assert len(whole.state()["said"]) == 3

"""The state space by chunks against its definition, row after row in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.kernels.ragged import Ragged
from genotok.kernels.ssd import ssd, ssd_recurrent, ssd_recurrent_with_states, ssd_step, ssd_with_states

HEADS, WIDTH, STATES = 4, 3, 5


def arguments(rows, groups, seed=0, step=1.0):
    """x, dt, a, b, c in float64."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, HEADS, WIDTH, generator=random, dtype=torch.double)
    dt = torch.rand(rows, HEADS, generator=random, dtype=torch.double) * step
    a = -16 * torch.rand(HEADS, generator=random, dtype=torch.double)
    b, c = torch.randn(2, rows, groups, STATES, generator=random, dtype=torch.double)
    return x, dt, a, b, c


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    groups=st.sampled_from([1, 2]),
    chunk=st.sampled_from([1, 2, 7, 16, 64]),
    seed=st.integers(0, 2**31),
)
def test_random_lengths(lengths, groups, chunk, seed):
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    inputs = arguments(ragged.total, groups, seed)
    found = ssd(*inputs, ragged, chunk)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), ssd_recurrent(*inputs, ragged), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_long_sequence_with_lasting_states(groups):
    ragged = Ragged.from_lengths(torch.tensor([100, 3000, 17]))
    inputs = arguments(ragged.total, groups, step=1e-3)
    found = ssd(*inputs, ragged, chunk=16)
    torch.testing.assert_close(found.double(), ssd_recurrent(*inputs, ragged), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("chunk", [16, 64])
def test_weak_decay_behind_strong_decay(chunk):
    """Large steps empty the state; the small steps behind them must keep their precision."""
    x, dt, a, b, c = arguments(256, 1)
    dt = torch.where(torch.arange(256)[:, None] % 128 < 100, 20.0, 1e-3).double().expand(-1, HEADS)
    ragged = Ragged.uniform(1, 256)
    wanted = ssd_recurrent(x, dt, a, b, c, ragged)
    error = ssd(x, dt, a, b, c, ragged, chunk).double() - wanted
    assert error.abs().max() / wanted.abs().max() < 1e-6


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients(groups):
    ragged = Ragged.from_lengths(torch.tensor([30, 1, 75]))
    inputs = [part.requires_grad_() for part in arguments(ragged.total, groups)]
    seen = torch.randn(ragged.total, HEADS, WIDTH, dtype=torch.double)
    found = torch.autograd.grad((ssd(*inputs, ragged, 16) * seen).sum(), inputs)
    wanted = torch.autograd.grad((ssd_recurrent(*inputs, ragged) * seen).sum(), inputs)
    for part, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-4, rtol=1e-4)


def test_states_are_float32_under_autocast():
    ragged = Ragged.from_lengths(torch.tensor([200, 3]))
    inputs = arguments(ragged.total, 1, step=1e-2)
    outside = ssd(*inputs, ragged, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ssd(*inputs, ragged, 16)
    assert torch.equal(inside, outside)


def test_sequences_do_not_see_each_other():
    ragged = Ragged.from_lengths(torch.tensor([70, 2, 60]))
    x, dt, a, b, c = arguments(ragged.total, 1, step=1e-3)
    others = ragged.sequence_ids != 1
    loud = torch.where(others[:, None, None], x, 1e8)
    before, after = (ssd(values, dt, a, b, c, ragged, 16) for values in (x, loud))
    assert torch.equal(before[others], after[others])


def entering_states(batch, seed=7):
    return torch.randn(batch, HEADS, STATES, WIDTH, generator=torch.Generator().manual_seed(seed)).double()


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    groups=st.sampled_from([1, 2]),
    chunk=st.sampled_from([1, 7, 64]),
    step=st.sampled_from([1.0, 1e-3]),
    entering=st.booleans(),
)
def test_states_behind_sequences(lengths, groups, chunk, step, entering):
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    inputs = arguments(ragged.total, groups, step=step)
    initial = entering_states(ragged.batch) if entering else None
    found = ssd_with_states(*inputs, ragged, initial, chunk)
    wanted = ssd_recurrent_with_states(*inputs, ragged, initial)
    for part, expected in zip(found, wanted, strict=True):
        assert part.dtype == torch.float32
        torch.testing.assert_close(part.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_sequence_in_two_parts(groups):
    """The state behind the first part, put in front of the second, makes them one sequence."""
    x, dt, a, b, c = arguments(60, groups, step=1e-2)
    whole, behind = ssd_with_states(x, dt, a, b, c, Ragged.uniform(2, 30), chunk=16)
    first, second = (
        torch.cat([torch.arange(20), torch.arange(30, 50)]),
        torch.cat([torch.arange(20, 30), torch.arange(50, 60)]),
    )
    y, state = ssd_with_states(x[first], dt[first], a, b[first], c[first], Ragged.uniform(2, 20), chunk=16)
    torch.testing.assert_close(y, whole[first], atol=1e-6, rtol=1e-5)
    part = (x[second], dt[second], a, b[second], c[second])
    y, state = ssd_with_states(*part, Ragged.uniform(2, 10), state, chunk=16)
    torch.testing.assert_close(y, whole[second], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, behind, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_steps(groups):
    x, dt, a, b, c = arguments(2, groups)
    initial = entering_states(2)
    found = ssd_step(x, dt, a, b, c, initial.float())
    wanted = ssd_recurrent_with_states(x, dt, a, b, c, Ragged.uniform(2, 1), initial)
    for part, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(part.double(), expected, atol=1e-5, rtol=1e-5)


def test_gradients_through_states():
    ragged = Ragged.from_lengths(torch.tensor([30, 1, 20]))
    inputs = [part.requires_grad_() for part in (*arguments(ragged.total, 2, step=1e-2), entering_states(3))]

    def gradients(function, **more):
        y, states = function(*inputs[:5], ragged, inputs[5], **more)
        return torch.autograd.grad(torch.sin(y).sum() + torch.cos(states).sum(), inputs)

    found = gradients(ssd_with_states, chunk=16)
    for part, expected in zip(found, gradients(ssd_recurrent_with_states), strict=True):
        torch.testing.assert_close(part, expected, atol=1e-4, rtol=1e-4)

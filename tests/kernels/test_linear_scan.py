"""Linear recurrences and the moving average against a loop over time in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.kernels.ema import ema_scan
from genotok.kernels.linear_scan import CHUNK, linear_scan
from genotok.kernels.ragged import Ragged

LONG = 3 * CHUNK * CHUNK + 5  # the ends of the chunks are cut into chunks, and the ends of those as well


def scan_by_loop(log_decay, inputs, ragged):
    states, begins = [], set(ragged.first_rows.tolist())
    for t, row in enumerate(inputs.double()):
        before = states[-1] if t not in begins else torch.zeros_like(row)
        states.append(log_decay[t].double().exp()[:, None] * before + row)
    return torch.stack(states)


def ema_by_loop(values, probability, ragged):
    p = probability.float().clamp(1e-4, 1 - 1e-4).double()[:, None]
    return scan_by_loop((1 - p).log(), (p * values.double())[:, None], ragged)[:, 0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 3 * CHUNK), min_size=1, max_size=6), st.integers(0, 2**31))
def test_scan_of_random_lengths(lengths, seed):
    random = torch.Generator().manual_seed(seed)
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    log_decay = -torch.rand(ragged.total, 2, generator=random) * 3
    inputs = torch.randn(ragged.total, 2, 3, generator=random)
    found = linear_scan(log_decay, inputs, ragged.sequence_ids)
    torch.testing.assert_close(found.double(), scan_by_loop(log_decay, inputs, ragged), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lengths", [[LONG], [1, LONG, 40], [CHUNK] * 100, [7, CHUNK * CHUNK, 1, 2000]])
def test_scan_of_long_sequences(lengths):
    torch.manual_seed(0)
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    # Decays near 1, so that a state lives for thousands of rows.
    log_decay, inputs = -torch.rand(ragged.total, 1) * 1e-3, torch.randn(ragged.total, 1, 2)
    found = linear_scan(log_decay, inputs, ragged.sequence_ids)
    torch.testing.assert_close(found.double(), scan_by_loop(log_decay, inputs, ragged), atol=1e-3, rtol=1e-5)


def test_scan_gradients():
    torch.manual_seed(0)
    ragged = Ragged.from_lengths(torch.tensor([40, 3, 1200]))
    log_decay = (-torch.rand(ragged.total, 2) * 0.3).requires_grad_()
    inputs, seen = torch.randn(ragged.total, 2, 2, requires_grad=True), torch.randn(ragged.total, 2, 2)
    found = torch.autograd.grad(
        (linear_scan(log_decay, inputs, ragged.sequence_ids) * seen).sum(), (log_decay, inputs)
    )
    wanted = torch.autograd.grad((scan_by_loop(log_decay, inputs, ragged) * seen).sum(), (log_decay, inputs))
    for part, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-4, rtol=1e-4)


PROBABILITIES = {
    "random": lambda rows: torch.rand(rows),
    "all boundaries certain": lambda rows: torch.ones(rows),
    "all boundaries unlikely": lambda rows: torch.zeros(rows),
    # A sum over many strong decays must not cost the weak ones behind it their digits.
    "certain, then unlikely": lambda rows: (torch.arange(rows) < rows // 2).float(),
    "by turns": lambda rows: (torch.arange(rows) // 500 % 2).float(),
}


@pytest.mark.parametrize("probability", PROBABILITIES.values(), ids=PROBABILITIES.keys())
def test_ema_of_long_sequences(probability):
    torch.manual_seed(0)
    ragged = Ragged.from_lengths(torch.tensor([LONG, 1, 2, 5000]))
    values, p = torch.randn(ragged.total, 4), probability(ragged.total)
    found = ema_scan(values, p, ragged)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), ema_by_loop(values, p, ragged), atol=3e-6, rtol=1e-6)


def test_ema_runs_in_float32_under_autocast():
    torch.manual_seed(0)
    ragged = Ragged.from_lengths(torch.tensor([2000, 100]))
    values, p = torch.randn(ragged.total, 4).bfloat16(), torch.rand(ragged.total)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ema_scan(values, p, ragged)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), ema_by_loop(values, p, ragged), atol=3e-6, rtol=1e-6)


def test_ema_does_not_leak_between_sequences():
    torch.manual_seed(0)
    lengths = torch.tensor([50, 1, 1500, 33])
    ragged = Ragged.from_lengths(lengths)
    values, p = torch.randn(ragged.total, 3), torch.rand(ragged.total)
    p[ragged.first_rows] = 1.0  # the clamped first probability would let 1e-4 of the state before it through
    before = ema_scan(values, p, ragged)
    for touched in range(4):
        others = ragged.sequence_ids != touched
        loud = torch.where(others[:, None], values, torch.full_like(values, 1e8))
        assert torch.equal(ema_scan(loud, p, ragged)[others], before[others])


def test_ema_begins_with_the_first_state():
    values = torch.tensor([[8.0], [4.0], [2.0]])
    found = ema_scan(values, torch.tensor([1.0, 0.25, 0.5]), Ragged.uniform(1, 3))
    first = 8 * 0.9999
    second = 0.25 * 4 + 0.75 * first
    torch.testing.assert_close(found, torch.tensor([[first], [second], [0.5 * 2 + 0.5 * second]]))

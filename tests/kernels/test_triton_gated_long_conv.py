"""Hyena's gated convolution in Triton against sums in float64: on a GPU, or in Triton's interpreter.

On a GPU: `python -m pytest --noconftest tests/kernels/test_triton_gated_long_conv.py`.
"""

import pytest
import torch

# Before all else of genotok, since Triton may be imported only where it can run.
from triton_device import DEVICE, INTERPRETED, poisoned_memory  # noqa: F401

from genotok.kernels import triton_by_channel, triton_spectra, triton_toeplitz
from genotok.kernels import triton_gated_long_conv as module
from genotok.kernels.ragged import Ragged
from genotok.kernels.triton_gated_long_conv import GatedLongConv

HALF = torch.float16 if INTERPRETED else torch.bfloat16  # numpy knows no bfloat16
SCALE = 1 if INTERPRETED else 4
LIMITS = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def layout(*lengths):
    """On a GPU longer, as the tiles are larger, but for sequences of one row."""
    lengths = torch.tensor(lengths, device=DEVICE)
    return Ragged.from_lengths(torch.where(lengths > 1, lengths * SCALE, lengths))


def exact(value, before, taps, skip, behind, ragged):
    """Tap by tap."""
    gated = value * before
    out = gated * skip
    for back, tap in enumerate(taps[: ragged.max_seqlen]):
        moved = gated.roll(back, 0) * (ragged.positions >= back)[:, None]
        out = out + tap * moved
    return out if behind is None else out * behind


def arguments(ragged, taps, channels, dtype, gated):
    rows = torch.randn(ragged.total, 3 * channels, device=DEVICE).to(dtype)
    behind, before, value = rows.chunk(3, -1)
    taps *= SCALE
    filters = torch.randn(taps, 2, channels, device=DEVICE)[:, 1] / taps**0.5
    skip = torch.randn(channels, device=DEVICE)
    return value, before, filters, skip, behind if gated else None


def compare(inputs, ragged):
    """Outputs and gradients of all arguments against float64, and whether all rows were written."""
    inputs = [part if part is None else part.detach().requires_grad_() for part in inputs]
    wide = [part if part is None else part.detach().double().requires_grad_() for part in inputs]
    found, wanted = GatedLongConv.apply(*inputs, ragged), exact(*wide, ragged)
    assert found.dtype == inputs[0].dtype
    seen = torch.randn_like(found)
    found = [found, *torch.autograd.grad(found, [part for part in inputs if part is not None], seen)]
    wanted = [
        wanted,
        *torch.autograd.grad(wanted, [part for part in wide if part is not None], seen.double()),
    ]
    limit = LIMITS[inputs[0].dtype]
    for one, other in zip(found, wanted, strict=True):
        assert (one.double() - other).norm() < limit * other.norm()  # false where one is NaN


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small tiles in the interpreter, so that few rows make several of them."""
    if not INTERPRETED:
        return
    monkeypatch.setattr(module, "BLOCK", 32)
    for name, size in {"LINES": 16, "DEPTH": 64, "DEPTH_BACKWARD": 64}.items():
        monkeypatch.setattr(triton_toeplitz, name, size)
    for name in ("ROWS", "CHANNELS"):
        monkeypatch.setattr(triton_by_channel, name, 16)
    monkeypatch.setattr(triton_spectra, "FREQUENCIES", 64)
    monkeypatch.setattr(triton_spectra, "LINES", 2)


@pytest.fixture(params=["toeplitz", "fourier"])
def way(request, monkeypatch):
    """Every filter goes this way."""
    force(monkeypatch, request.param)


def force(monkeypatch, way):
    monkeypatch.setattr(module, "MOST_TAPS", dict.fromkeys(LIMITS, 1 << 30 if way == "toeplitz" else 0))


RAGGED = (170, 1, 40, 33, 1, 16, 65)


@pytest.mark.parametrize(
    ("lengths", "taps"),
    [
        (RAGGED, 1),
        (RAGGED, 33),
        (RAGGED, 400),
        ((64, 64), 64),
        ((1,) * 20, 3),
        ((20,), 20),
        ((3, 2, 50, 120, 1, 1, 1), 34),
    ],
)
@pytest.mark.usefixtures("way")
def test_against_float64(lengths, taps):
    ragged = layout(*lengths)
    compare(arguments(ragged, taps, 5, torch.float32, True), ragged)


@pytest.mark.usefixtures("way")
def test_half_precision():
    ragged = layout(90, 1, 33)
    compare(arguments(ragged, 90, 20, HALF, True), ragged)


@pytest.mark.usefixtures("way")
def test_without_a_gate_behind_it():
    ragged = layout(90, 33)
    compare(arguments(ragged, 50, 3, torch.float32, False), ragged)


@pytest.mark.parametrize("rows", [70, 150])
@pytest.mark.usefixtures("way")
def test_groups_of_channels(rows, monkeypatch):
    """One channel at once, and two."""
    monkeypatch.setattr(module, "AT_ONCE", rows * SCALE)
    monkeypatch.setattr(module.fft_conv, "AT_ONCE", rows * SCALE)
    ragged = layout(60, 10)
    compare(arguments(ragged, 40, 5, torch.float32, True), ragged)


@pytest.mark.usefixtures("way")
def test_gate_without_gradient():
    ragged = layout(60, 10)
    value, before, taps, skip, behind = arguments(ragged, 40, 3, torch.float32, True)
    wanted = torch.autograd.grad(
        exact(value, before, taps, skip.requires_grad_(), behind, ragged).sum(), skip
    )
    found = GatedLongConv.apply(value, before, taps, skip, behind, ragged)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), skip), wanted, rtol=1e-4, atol=1e-4)


def test_choice(monkeypatch):
    """Long filters are transformed, and so are sequences much shorter than a block beside a long one."""
    monkeypatch.setattr(module, "MOST_TAPS", {torch.float32: 100 * SCALE})

    def chosen(taps, *lengths):
        ragged = layout(*lengths)
        value, _, filters, *_ = arguments(ragged, taps, 2, torch.float32, True)
        return {type(part) for part in module._parts(ragged, filters, value)}

    assert chosen(100, 200, 60) == chosen(300, 100, 60) == chosen(9, 9) == {module._Toeplitz}
    assert chosen(101, 200, 60) == chosen(100, 200, *[1] * 20) == {module._Fourier}

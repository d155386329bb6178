"""Mamba-2's Triton kernels against the torch reference in float64: on a GPU, or in Triton's interpreter.

As part of all tests, which see no GPU, `test_in_interpreter.py` runs this file in a process of its own. On a GPU:
`python -m pytest --noconftest tests/kernels/test_triton_mamba2.py`.
"""

import pytest
import torch

# Before all else of genotok, since Triton may be imported only where it can run.
from triton_device import DEVICE, INTERPRETED, poisoned_memory  # noqa: F401

from genotok.kernels import triton_gated_norm, triton_ssd
from genotok.kernels.causal_conv import causal_conv, causal_conv_silu, causal_conv_step
from genotok.kernels.gated_norm import gated_rms_norm
from genotok.kernels.mamba2 import mamba2_inner, scan_inputs
from genotok.kernels.ragged import Ragged
from genotok.kernels.ssd import ssd_recurrent, ssd_recurrent_with_states, ssd_step, ssd_with_states
from genotok.kernels.triton_causal_conv import CausalConv
from genotok.kernels.triton_gated_norm import GatedNorm
from genotok.kernels.triton_mamba2 import Mamba2Inner
from genotok.kernels.triton_mamba2_states import scan_convolved
from genotok.kernels.triton_mamba2_step import convolve_step, scan_step
from genotok.kernels.triton_ssd import SSD

HALVES = [torch.float16] if INTERPRETED else [torch.float16, torch.bfloat16]  # numpy knows no bfloat16


def layout(*lengths):
    return Ragged.from_lengths(torch.tensor(lengths, device=DEVICE))


def relative_error(found, wanted):
    """Against the norm of what is wanted; against 1 where that is zero, which sums that cancel come near to."""
    scale = wanted.double().norm()
    return ((found.double() - wanted.double()).norm() / torch.where(scale > 0, scale, 1.0)).item()


def compare(operation, reference, inputs, limit, draw=torch.randn):
    """Hold the outputs of `operation`, and the gradients of all inputs, against `reference` in float64.

    The loss weighs the outputs by numbers from `draw`.
    """
    inputs = [part.to(DEVICE).requires_grad_() for part in inputs]
    exact = [part.detach().double().requires_grad_() for part in inputs]
    found, wanted = operation(*inputs), reference(*exact)
    seen = [draw(part.shape, device=DEVICE, dtype=torch.double) for part in wanted]
    loss = sum((part.double() * weight).sum() for part, weight in zip(found, seen, strict=True))
    gradients = torch.autograd.grad(loss, inputs)
    expected = torch.autograd.grad(
        sum((part * weight).sum() for part, weight in zip(wanted, seen, strict=True)), exact
    )
    errors = [relative_error(*pair) for pair in zip((*found, *gradients), (*wanted, *expected), strict=True)]
    assert all(error < limit for error in errors), errors  # false where one is NaN


def scan_arguments(rows, heads, p, groups, n, dtype=torch.float32, step=0.1):
    """x, dt, a, b, c and skip."""
    b, c = torch.randn(2, rows, groups, n).to(dtype)
    return (
        torch.randn(rows, heads, p).to(dtype),
        torch.rand(rows, heads) * step,
        -8 * torch.rand(heads),
        b,
        c,
        torch.randn(heads),
    )


def recurrent(ragged, x, dt, a, b, c, skip, initial=None):
    y, states = ssd_recurrent_with_states(x, dt, a, b, c, ragged, initial)
    return y + skip[:, None] * x, states


@pytest.mark.parametrize(
    ("lengths", "heads", "p", "groups", "n", "span"),
    [
        ((70, 1, 200), 2, 16, 1, 16, 1),
        ((64, 130, 2), 2, 16, 2, 32, 2),
        ((90,), 4, 8, 2, 5, None),  # sizes that fill no tile
        ((1, 1, 1), 1, 16, 1, 16, None),
    ],
)
@pytest.mark.parametrize("entering", [True, False])
def test_scan(lengths, heads, p, groups, n, span, entering):
    ragged = layout(*lengths)
    inputs = scan_arguments(ragged.total, heads, p, groups, n)
    if entering:
        inputs = (*inputs, torch.randn(ragged.batch, heads, n, p))

    def operation(x, dt, a, b, c, skip, initial=None):
        return SSD.apply(x, dt, a, b, c, skip, initial, ragged, torch.float32, True, span)

    compare(operation, lambda *exact: recurrent(ragged, *exact), inputs, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize(("p", "n"), [(16, 16), (64, 128), (64, 64), (32, 16)])
def test_sizes_of_states(dtype, p, n):
    """Those that models have. All is positive, since in sums that cancel rounded operands say little."""
    ragged = layout(70, 1, 130)
    x, dt, a, b, c, skip = scan_arguments(ragged.total, 2, p, 1, n, dtype)
    inputs = (x.abs(), dt, a, b.abs(), c.abs(), skip.abs())

    def operation(x, dt, a, b, c, skip):
        return SSD.apply(x, dt, a, b, c, skip, None, ragged, torch.float32, True, 1)

    limit = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    compare(operation, lambda *exact: recurrent(ragged, *exact), inputs, limit, torch.rand)


@pytest.mark.parametrize("fetched", [True, False])
@pytest.mark.parametrize(("p", "groups", "n"), [(64, 1, 128), (16, 2, 16)])
def test_sequences_see_nothing_of_each_other(fetched, p, groups, n, monkeypatch):
    """Also where whole tiles are fetched, which reach into the sequence behind: here it is infinite."""
    can = triton_ssd.has_tensor_memory_accelerator
    fetched = fetched and (INTERPRETED or can(torch.device(DEVICE)))
    monkeypatch.setattr(triton_ssd, "has_tensor_memory_accelerator", lambda device: fetched)
    arguments = scan_arguments(200, 4, p, groups, n, HALVES[-1])
    x, dt, a, b, c, skip = (part.to(DEVICE) for part in arguments)
    assert triton_ssd.fetches_tiles(x, b, c) == fetched
    for part in (x, b, c):
        part[70:] = torch.inf
    y, _ = SSD.apply(x, dt, a, b, c, skip, None, layout(70, 130), torch.float32, False)
    first = [part[:70].double() for part in (x, dt, b, c)]
    wanted, _ = recurrent(layout(70), *first[:2], a.double(), *first[2:], skip.double())
    assert relative_error(y[:70], wanted) < 2e-2


def test_rows_that_cannot_be_fetched(monkeypatch):
    """Rows that share memory, and rows that begin at no multiple of 16 bytes."""
    monkeypatch.setattr(triton_ssd, "has_tensor_memory_accelerator", lambda device: True)
    rows = torch.zeros(8, 1, 16, dtype=torch.float16, device=DEVICE)
    assert triton_ssd.fetches_tiles(rows, rows)
    assert not triton_ssd.fetches_tiles(rows, rows[:1].expand(8, 1, 16))
    assert not triton_ssd.fetches_tiles(torch.zeros(8, 20, dtype=torch.float16)[:, None, :16])
    assert not triton_ssd.fetches_tiles(rows.float())


def test_small_gpus_fetch_nothing_ahead(monkeypatch):
    """Their shared memory holds one tile of each kind."""
    x = torch.zeros(1, 1, 16, dtype=torch.float16)
    assert triton_ssd.launch("projections_backward", x)["num_stages"] > 1
    monkeypatch.setattr(triton_ssd, "has_room_to_fetch_ahead", lambda device: False)
    launches = [triton_ssd.launch(kernel, x) for kernel in triton_ssd.LAUNCHES]
    assert [launch["num_stages"] for launch in launches] == [1] * len(launches)


def test_outputs_alone():
    """Without states asked for, a sequence of one span passes none."""
    ragged = layout(100, 30)
    x, dt, a, b, c, _ = inputs = [part.to(DEVICE) for part in scan_arguments(130, 2, 16, 1, 16)]
    y, states = SSD.apply(x, dt, a, b, c, None, None, ragged, torch.float32, False)
    assert states is None
    assert relative_error(y, ssd_recurrent(*(part.double() for part in inputs[:5]), ragged)) < 1e-5


def test_inputs_that_lie_apart():
    """x, b and c may be columns of one wider tensor."""
    ragged = layout(80, 20)
    x, dt, a, b, c, skip = scan_arguments(100, 2, 16, 1, 16)
    wide = torch.cat([torch.randn(100, 3), x.flatten(1), b[:, 0], c[:, 0]], 1)

    def split(wide):
        return wide[:, 3:35].unflatten(1, (2, 16)), wide[:, None, 35:51], wide[:, None, 51:]

    def operation(wide, dt, a, skip):
        x, b, c = split(wide)
        return SSD.apply(x, dt, a, b, c, skip, None, ragged, torch.float32, True)

    def reference(wide, dt, a, skip):
        x, b, c = split(wide)
        return recurrent(ragged, x, dt, a, b, c, skip)

    compare(operation, reference, (wide, dt, a, skip), 1e-5)


def test_weak_decay_behind_strong_decay():
    """Large steps empty the state; the small steps behind them must keep their precision."""
    x, dt, a, b, c, _ = (part.to(DEVICE) for part in scan_arguments(128, 2, 16, 1, 16))
    weak = torch.arange(128, device=DEVICE)[:, None] % 64 >= 50
    dt = torch.where(weak, 1e-3, 20.0).expand(-1, 2)
    y, _ = SSD.apply(x, dt, 2 * a, b, c, None, None, layout(128), torch.float32, False)
    wanted = ssd_recurrent(*(part.double() for part in (x, dt, 2 * a, b, c)), layout(128))
    weak = weak[:, 0]
    assert relative_error(y[weak], wanted[weak]) < 1e-6


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(("lengths", "taps"), [((50, 1, 2, 90), 4), ((7, 5), 1), ((200,), 2)])
def test_convolution(silu, lengths, taps):
    ragged, channels = layout(*lengths), 20
    reference = causal_conv_silu if silu else causal_conv
    inputs = (torch.randn(ragged.total, channels), torch.randn(channels, taps), torch.randn(channels))
    compare(
        lambda *parts: [CausalConv.apply(*parts, ragged, silu)],
        lambda *parts: [_on_cpu(reference, parts, ragged)],
        inputs,
        1e-6,
    )


def _on_cpu(reference, parts, ragged):
    """The torch reference in float64."""
    ragged = Ragged(ragged.cu_seqlens.cpu(), ragged.total, ragged.max_seqlen)
    return reference(*(part.cpu() for part in parts), ragged).to(DEVICE)


def test_gated_norm():
    def reference(y, z, weight):
        gated = y * z * torch.sigmoid(z)
        return [gated / (gated.square().mean(1, keepdim=True) + 1e-3).sqrt() * weight]

    inputs = (torch.randn(37, 40), torch.randn(37, 40), torch.randn(40))
    compare(lambda *parts: [GatedNorm.apply(*parts, 1e-3, torch.float32)], reference, inputs, 1e-6)


@pytest.mark.parametrize(("width", "dtype", "stages"), [(4096, torch.float16, 3), (8192, torch.float32, 1)])
def test_what_is_fetched_ahead_fits_into_shared_memory(width, dtype, stages):
    """A wide gated norm, whose rows would not."""
    y, z, weight = torch.randn(3, width, dtype=dtype), torch.randn(3, width, dtype=dtype), torch.ones(width)
    assert triton_gated_norm._stages(triton_gated_norm._tile(width), y, z, y) == stages

    def operation(y, z, weight):
        return [GatedNorm.apply(y, z, weight, 1e-5, dtype)]

    def reference(y, z, weight):
        return [gated_rms_norm(y, z, weight, 1e-5, torch.float64)]

    compare(operation, reference, [y, z, weight], 2e-3 if dtype == torch.float16 else 1e-5)


def test_all_between_the_projections():
    ragged, heads, p, states = layout(70, 1, 100), 2, 16, 16
    inner = heads * p
    inputs = (
        torch.randn(ragged.total, 2 * inner + 2 * states + heads),
        torch.randn(inner + 2 * states, 4) / 2,
        torch.randn(inner + 2 * states),
        torch.linspace(-6, 1, heads),
        2 * torch.rand(heads),
        torch.randn(heads),
        torch.randn(inner),
    )
    compare(
        lambda *parts: [Mamba2Inner.apply(*parts, 1e-5, states, ragged)[0]],
        # The reference computes in float32, float64 inputs or not.
        lambda *parts: [mamba2_inner(*parts, 1e-5, states, ragged)],
        inputs,
        1e-4,
    )


@pytest.mark.skipif(INTERPRETED, reason="CPU tensors take the reference")
def test_public_functions_on_a_gpu():
    """On CUDA the public functions are these kernels; float64 takes the reference."""
    ragged = layout(300, 5)
    x, dt, a, b, c, skip = (part.cuda() for part in scan_arguments(305, 2, 16, 1, 16))
    found = ssd_with_states(x, dt, a, b, c, ragged, skip=skip)
    direct = SSD.apply(x, dt, a, b, c, skip, None, ragged, torch.float32, True)
    assert all(torch.equal(*pair) for pair in zip(found, direct, strict=True))
    y, z, weight = torch.randn(3, 305, 305, device="cuda").double()
    assert gated_rms_norm(y, z, weight[0], 1e-5, torch.double).dtype == torch.double


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("entering", [True, False])
@pytest.mark.parametrize("lengths", [(70, 1, 90), (1, 2, 3, 1)])
def test_states_in_front_and_behind(lengths, entering, ends):
    """From raw step sizes; without the states behind, those in front enter one span each."""
    ragged, heads, p, n = layout(*lengths), 2, 8, 16
    convolved = torch.randn(ragged.total, heads * p + 2 * n, device=DEVICE)
    dt, bias, a_log, skip = (
        torch.randn(*shape, heads, device=DEVICE) for shape in ((ragged.total,), (), (), ())
    )
    initial = torch.randn(len(lengths), heads, n, p, device=DEVICE) if entering else None
    arguments = (convolved, dt, bias, a_log, skip)
    y, left = scan_convolved(*arguments, n, ragged, initial, torch.float32, ends)
    exact = [part.double() for part in arguments]
    value, *rest = scan_inputs(*exact[:4], n)
    initial = None if initial is None else initial.double()
    wanted, behind = recurrent(ragged, value, *rest, exact[4], initial)
    assert relative_error(y, wanted) < 1e-5
    assert left is None if not ends else relative_error(left, behind) < 1e-5


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("taps", [4, 2, 1])
def test_a_step(masked, taps):
    """Both parts of it; the memory of sequences that do not step stays as it is, to the bit."""
    batch, heads, p, n = 5, 2, 8, 5
    channels = heads * p + 2 * n
    projected, before = torch.randn(batch, channels + 3), torch.randn(batch, taps - 1, channels)
    mixed = projected.to(DEVICE)[:, :channels]
    weight, bias, before = torch.randn(channels, taps), torch.randn(channels), before.to(DEVICE)
    state = torch.randn(batch, heads, n, p, device=DEVICE)
    scalars = [torch.randn(*shape, heads).to(DEVICE) for shape in ((batch,), (), (), ())]
    weight, bias = weight.to(DEVICE), bias.to(DEVICE)
    stepped = torch.tensor([True, False, False, True, True], device=DEVICE) if masked else None
    wanted, rows = causal_conv_step(*(part.double() for part in (mixed, weight, bias, before)))
    old = before.clone(), state.clone()
    convolved = convolve_step(mixed, weight, bias, before, stepped)
    assert relative_error(convolved, torch.nn.functional.silu(wanted)) < 1e-6
    dt, dt_bias, a_log, skip = (part.double() for part in scalars)
    scan = scan_inputs(convolved.double(), dt, dt_bias, a_log, n)
    wanted, behind = ssd_step(*scan, state)
    y = scan_step(convolved, *scalars, state, stepped)
    assert relative_error(y, (wanted + skip[:, None] * scan[0]).flatten(1)) < 1e-6
    moves = torch.ones(batch, dtype=torch.bool, device=DEVICE) if stepped is None else stepped
    assert relative_error(state[moves], behind[moves]) < 1e-6
    torch.testing.assert_close(before[moves].double(), rows[moves])
    assert torch.equal(state[~moves], old[1][~moves])
    assert torch.equal(before[~moves], old[0][~moves])

"""The long convolution against torch's conv1d, sequence by sequence."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv1d, pad

from genotok.kernels import fft_conv as module
from genotok.kernels.fft_conv import fast_length, fft_conv
from genotok.kernels.ragged import Ragged

CHANNELS = 3


def one_by_one(x, taps, lengths):
    weight = taps.flip(0).T[:, None]
    done = [
        conv1d(pad(rows.T[None], (len(taps) - 1, 0)), weight, groups=CHANNELS)[0].T
        for rows in x.split(lengths)
    ]
    return torch.cat(done)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 50))
def test_equals_conv1d(lengths, taps):
    x, filters = torch.randn(sum(lengths), CHANNELS), torch.randn(taps, CHANNELS)
    found = fft_conv(x, filters, Ragged.from_lengths(torch.tensor(lengths)))
    torch.testing.assert_close(found, one_by_one(x, filters, lengths), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("lengths", [[4, 1, 6], [5, 5], [2, 90, 1, 3, 3, 40, 1, 2], [1] * 9 + [17]])
@pytest.mark.parametrize("taps", [6, 100])
@pytest.mark.parametrize("at_once", [1, 12, module.AT_ONCE])
def test_gradients(lengths, taps, at_once, monkeypatch):
    """In groups of one channel, of some and of all, and with sequences that are not padded together."""
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    x, filters = torch.randn(sum(lengths), CHANNELS), torch.randn(taps, CHANNELS)
    weights = torch.randn(sum(lengths), CHANNELS)
    found, wanted = (
        torch.autograd.grad((convolve(*parts) * weights).sum(), parts)
        for convolve in (
            lambda x, taps: fft_conv(x, taps, Ragged.from_lengths(torch.tensor(lengths))),
            lambda x, taps: one_by_one(x, taps, lengths),
        )
        for parts in [(x.clone().requires_grad_(), filters.clone().requires_grad_())]
    )
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9) | st.integers(1, 900), min_size=1, max_size=30))
def test_padding_at_most_doubles_the_rows(lengths):
    parts = module._alike(Ragged.from_lengths(torch.tensor(lengths)))
    assert sum(layout.batch * layout.max_seqlen for _, layout in parts) <= 2 * sum(lengths)
    if len(parts) > 1:
        assert torch.cat([rows for rows, _ in parts]).sort().values.tolist() == list(range(sum(lengths)))


MEASURED = """
import resource, torch
from genotok.kernels import fft_conv as module
from genotok.kernels.ragged import Ragged

def grown(layout, channels):
    x, taps = torch.randn(2, layout.total, channels).unbind()
    x.requires_grad_(), taps.requires_grad_()
    before = peak()
    module.fft_conv(x, taps[: layout.max_seqlen], layout).sum().backward()
    return peak() - before

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # MiB

module.AT_ONCE = 1 << 20
grown(Ragged.uniform(1, 64), 4)
print(grown(Ragged.from_lengths(torch.tensor([1 << 15] + [8] * 2000)), 8))
print(grown(Ragged.uniform(1, 1 << 17), 32))
"""


def test_memory_is_bounded():
    """MiB that a pass there and back adds to what `x` and the taps take."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    ragged, long = map(float, done.stdout.split())
    assert ragged < 60  # padded to the longest the 2000 short sequences would be 2000 MiB
    assert long < 170  # 64 of them the result and the gradients; all channels at once would take 256 more


def test_float32_under_autocast():
    x, filters = torch.randn(12, CHANNELS), torch.randn(6, CHANNELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fft_conv(x.bfloat16(), filters, Ragged.uniform(2, 6))
    assert found.dtype == torch.float32
    wanted = one_by_one(x.bfloat16().float(), filters, [6, 6])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_lengths_of_transforms():
    sizes = sorted({factor << k for factor in (1, 3, 5) for k in range(12)})
    for at_least in range(1, 2000):
        assert fast_length(at_least) == next(size for size in sizes if size >= at_least)

"""The long convolution against torch's conv1d, sequence by sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv1d, pad

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


@pytest.mark.parametrize("lengths", [[4, 1, 6], [5, 5]])
def test_gradients(lengths):
    x, filters = torch.randn(sum(lengths), CHANNELS), torch.randn(6, CHANNELS)
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

"""The convolution over packed rows against torch's, sequence by sequence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv1d, pad

from genotok.kernels.causal_conv import causal_conv
from genotok.kernels.ragged import Ragged

CHANNELS = 3


def one_by_one(x, weight, bias, lengths):
    taps = weight.shape[1]
    done = [
        conv1d(pad(rows.T[None], (taps - 1, 0)), weight[:, None], bias, groups=CHANNELS)[0].T
        for rows in x.split(lengths)
    ]
    return torch.cat(done)


def arguments(rows, taps):
    return [
        torch.randn(*shape, dtype=torch.double) for shape in ((rows, CHANNELS), (CHANNELS, taps), (CHANNELS,))
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 5))
def test_equals_conv1d(lengths, taps):
    x, weight, bias = arguments(sum(lengths), taps)
    found = causal_conv(x, weight, bias, Ragged.from_lengths(torch.tensor(lengths)))
    torch.testing.assert_close(found, one_by_one(x, weight, bias, lengths))


@pytest.mark.parametrize("lengths", [[4, 1, 6], [5, 5], [2]])
@pytest.mark.parametrize("taps", [1, 4])
def test_gradients(lengths, taps):
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    inputs = [part.requires_grad_() for part in arguments(ragged.total, taps)]
    assert torch.autograd.gradcheck(lambda x, w, b: causal_conv(x, w, b, ragged), inputs)

"""The torch reference of Hyena's gated convolution against sums row by row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genotok.kernels.gated_long_conv import gated_long_conv
from genotok.kernels.ragged import Ragged

CHANNELS = 3


def row_by_row(value, before, taps, skip, behind, lengths):
    done = []
    for x, gate in zip((value * before).split(lengths), behind.split(lengths), strict=True):
        for t in range(len(x)):
            reached = range(min(t + 1, len(taps)))
            done.append(gate[t] * (skip * x[t] + sum(taps[k] * x[t - k] for k in reached)))
    return torch.stack(done)


def arguments(rows, taps):
    shapes = (rows, CHANNELS), (rows, CHANNELS), (taps, CHANNELS), (CHANNELS,), (rows, CHANNELS)
    return [torch.randn(shape) for shape in shapes]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 12))
def test_equals_sums(lengths, taps):
    inputs, ragged = arguments(sum(lengths), taps), Ragged.from_lengths(torch.tensor(lengths))
    torch.testing.assert_close(
        gated_long_conv(*inputs, ragged), row_by_row(*inputs, lengths), atol=1e-5, rtol=1e-5
    )
    inputs[4] = torch.ones_like(inputs[4])
    ungated = gated_long_conv(*inputs[:4], None, ragged)
    torch.testing.assert_close(ungated, row_by_row(*inputs, lengths), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dtype_of_the_value(dtype):
    value, before, taps, skip, behind = arguments(6, 6)
    given = [part.to(dtype) for part in (value, before, behind)]
    found = gated_long_conv(*given[:2], taps, skip, given[2], Ragged.uniform(2, 3))
    assert found.dtype == dtype

"""Products in float8 are near those of float32; the simulation gives what torch's operation gives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genotok.kernels.float8_linear import (
    FLOAT8,
    device_product,
    fits_float8,
    float8_linear,
    has_float8,
    rows_to_float8,
    scaled_product,
)

# Two operands of 3 mantissa bits each: errors of at most 1/16 and by root mean square some 1/40 each.
TOLERANCE = 0.05


def relative_error(found, wanted):
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def scaled_error(found, wanted, left, right):
    """The error of left @ right.T, where small rows of either count as much as large ones."""
    sizes = left.double().norm(dim=-1)[:, None] * right.double().norm(dim=-1)
    return relative_error(found / sizes, wanted / sizes)


def inputs(rows=50, width=64, out=48, seed=0):
    torch.manual_seed(seed)
    x = torch.randn(rows, width) * torch.logspace(-3, 3, rows)[:, None]  # rows of very different size
    weight = torch.randn(out, width) * torch.logspace(-4, 1, out)[:, None]
    return x.requires_grad_(), weight.requires_grad_()


def test_product_and_gradients_are_near_those_of_float32():
    x, weight = inputs()
    seen = torch.randn(50, 48) * torch.logspace(2, -6, 50)[:, None]
    found = float8_linear(x, weight)
    assert found.dtype == torch.bfloat16
    gradients = torch.autograd.grad(found, (x, weight), seen.bfloat16())
    wanted = x @ weight.t()
    wanted_gradients = torch.autograd.grad(wanted, (x, weight), seen)
    assert scaled_error(found, wanted, x, weight) < TOLERANCE
    assert scaled_error(gradients[0], wanted_gradients[0], seen, weight.t()) < TOLERANCE
    assert scaled_error(gradients[1], wanted_gradients[1], seen.t(), x.t()) < 0.01  # bfloat16
    assert gradients[0].dtype == gradients[1].dtype == torch.float32


def test_it_does_round_to_float8():
    """The error is that of 3 mantissa bits, far over that of bfloat16, so that the test above sees float8."""
    x, weight = inputs()
    assert scaled_error(float8_linear(x, weight), x @ weight.t(), x, weight) > 0.01


@given(st.floats(-30, 30), st.integers(0, 2**31))
def test_the_largest_of_a_row_is_exact_whatever_its_size(exponent, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 16, generator=generator) * 2.0**exponent
    values, scale = rows_to_float8(x)
    assert values.dtype == FLOAT8
    assert values.float().isfinite().all()
    back, place = values.float() * scale, x.abs().argmax(-1, keepdim=True)
    assert torch.allclose(back.gather(1, place), x.gather(1, place), rtol=1e-5, atol=1e-11)
    assert (back - x).abs().max() <= x.abs().max() / 16 + 1e-11


def test_rows_of_zeros_stay_so_and_no_number_stays_none():
    x, weight = inputs(rows=3)
    x = x.detach().clone()
    x[0], x[1, 2] = 0, torch.nan
    found = float8_linear(x, weight)
    assert (found[0] == 0).all()
    assert found[1].isnan().all()
    assert found[2].isfinite().all()


@pytest.mark.parametrize("rows", [1, 16, 37])
@pytest.mark.parametrize("quick", [False, True])
def test_simulation_and_operation_agree(rows, quick):
    """torch's scaled product, which the GPU runs, has a version for the CPU."""
    x, weight = inputs(rows=rows)
    operands = (*rows_to_float8(x.detach()), *rows_to_float8(weight.detach()))
    found = device_product(*operands, quick)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, scaled_product(*operands, quick), rtol=0.01, atol=1e-5)


def test_autocast_around_it_changes_nothing():
    x, weight = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = float8_linear(x, weight)
    assert torch.equal(found, float8_linear(x, weight))


def test_without_gradients_of_what_is_frozen():
    x, weight = inputs()
    float8_linear(x, weight.detach()).float().sum().backward()
    assert x.grad is not None
    found = float8_linear(x.detach(), weight)
    found.float().sum().backward()
    assert weight.grad is not None


def test_what_fits():
    assert fits_float8(torch.empty(32, 16))
    assert not fits_float8(torch.empty(32, 24))
    assert not has_float8(torch.device("cpu"))

"""Linear layers in half precision: autocast's own products, and gradients of weights with one rounding less."""

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from genotok.kernels import autocast_linear as module
from genotok.models.linear import Linear

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALVES = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Tensors are on a GPU, or taken for such."""
    monkeypatch.setattr(module, "uses_triton", lambda *tensors: True)


def inputs(rows=300, width=24, out=40, bias=True, seed=0):
    torch.manual_seed(seed)
    layer = Linear(width, out, bias=bias).to(DEVICE)
    x, seen = torch.randn(rows, width, device=DEVICE), torch.randn(rows, out, device=DEVICE)
    return layer, x.requires_grad_(), seen


def results(layer, x, seen, half):
    """Product, and gradients by rows, weight and bias."""
    with torch.autocast(DEVICE, half):
        y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], seen.to(half))]


def plain(layer):
    """torch's layer with the same parameters."""
    own = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device=DEVICE)
    own.load_state_dict(layer.state_dict())
    return own


def relative_error(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@HALVES
@pytest.mark.parametrize("bias", [True, False])
def test_product_is_autocasts_and_gradients_are_nearer_to_float64(half, bias, on_a_gpu):
    layer, x, seen = inputs(bias=bias)
    found, own = results(layer, x, seen, half), results(plain(layer), x, seen, half)
    assert found[0].dtype == half
    assert torch.equal(
        found[0], linear(*(p if p is None else p.to(half) for p in (x, layer.weight, layer.bias)))
    )
    assert torch.equal(found[0], own[0])
    assert torch.equal(found[1], own[1])
    g, rows = (part.to(half).double() for part in (seen, x))
    wanted = [g.t() @ rows, g.sum(0)]
    for gradient, of_torch, exact in zip(found[2:], own[2:], wanted, strict=False):
        assert gradient.dtype == torch.float32
        assert relative_error(gradient, exact) < 1e-6  # of sums in float32
        assert relative_error(of_torch, exact) > 1e-4  # half precision in between


def test_gradients_that_half_precision_cannot_hold(on_a_gpu):
    """A scaled loss may make gradients of weights larger than float16's largest number, 65,504."""
    layer, x, _ = inputs()
    scaler = torch.amp.GradScaler(DEVICE, init_scale=2.0**12)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before = layer.weight.detach().clone()
    with torch.autocast(DEVICE, torch.float16):
        loss = layer(x.detach().abs() + 1).float().sum()
    scaler.scale(loss).backward()
    assert layer.weight.grad.abs().min() > 65_504
    scaler.step(optimizer)
    wanted = (x.detach().abs() + 1).half().double().sum(0)
    torch.testing.assert_close(
        (before - layer.weight.detach()).double(), wanted.expand(40, -1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("seen", [torch.ones(()).expand(300, 40), torch.randn(40, 300).t()])
def test_gradients_in_other_orders_of_memory(seen, on_a_gpu):
    layer, x, _ = inputs()
    seen = seen.to(DEVICE)
    found, wanted = (results(layer, x, part, torch.bfloat16) for part in (seen, seen.contiguous()))
    assert all(torch.allclose(*pair, rtol=1e-5, atol=1e-5) for pair in zip(found, wanted, strict=True))


def test_what_does_not_learn_has_no_gradient(on_a_gpu):
    layer, x, _ = inputs()
    layer.bias.requires_grad_(False)
    with torch.autocast(DEVICE, torch.bfloat16):
        layer(x.detach()).sum().backward()
        assert layer.bias.grad is None
        assert layer.weight.grad is not None
        layer.weight.requires_grad_(False)
        assert torch.equal(layer(x), plain(layer)(x))


def test_no_rows(on_a_gpu):
    layer, x, seen = inputs(rows=0)
    y, to_x, *of_parameters = results(layer, x, seen, torch.bfloat16)
    assert y.shape == (0, 40)
    assert to_x.shape == (0, 24)
    assert all((gradient == 0).all() for gradient in of_parameters)


def test_a_gradient_of_gradients_is_refused(on_a_gpu):
    layer, x, _ = inputs()
    with torch.autocast(DEVICE, torch.bfloat16):
        (to_x,) = torch.autograd.grad(layer(x).float().square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        to_x.sum().backward()


def test_elsewhere_it_is_torchs_layer(monkeypatch):
    monkeypatch.setattr(module, "uses_triton", lambda *tensors: False)
    layer, x, seen = inputs()
    for half in (torch.bfloat16, torch.float16):
        found, wanted = results(layer, x, seen, half), results(plain(layer), x, seen, half)
        assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    assert torch.equal(layer(x), plain(layer)(x))
    assert layer.state_dict().keys() == {"weight", "bias"}

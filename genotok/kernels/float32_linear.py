"""Linear layers of float32 states."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import linear


def float32_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b in float32, also under autocast.

    Under a GPU's autocast the operands of the products are rounded to TensorFloat-32 (10 bits of mantissa, sums in
    float32): three bits more than bfloat16 has, as many as float16, and some ten times as fast as float32.

    Args:
        x: (T, D).
        weight: (E, D).
        bias: (E,) or None.

    Returns:
        (T, E) float32.
    """
    if x.is_cuda and torch.is_autocast_enabled("cuda"):
        return _Tf32Linear.apply(x.float(), weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return linear(x, weight, bias)


@contextmanager
def _tf32() -> Iterator[None]:
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "tf32"
    try:
        yield
    finally:
        settings.fp32_precision = before


class _Tf32Linear(torch.autograd.Function):
    """The setting is global and read when a product runs, hence a backward pass that sets it as well."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        with torch.autocast("cuda", enabled=False), _tf32():
            return linear(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        with _tf32():
            to_x = gradient @ weight if needs_x else None
            to_weight = gradient.t() @ x if needs_weight else None
        return to_x, to_weight, gradient.sum(0) if needs_bias else None

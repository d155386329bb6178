"""Linear layers of training in half precision, whose weights get their gradients in float32 at once."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from genotok.kernels.backend import uses_triton
from genotok.kernels.rounding import product_dtype

HALVES = (torch.float16, torch.bfloat16)


def autocast_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b, as autocast works it out.

    Autocast rounds the gradient of a weight to half precision before it makes float32 of it, in a pass of its own
    over each weight. Where a weight learns under a GPU's autocast, its gradient here is the float32 in which the
    product's sums are added up. Such a gradient has no gradient of its own.

    Args:
        x: (T, D).
        weight: (E, D).
        bias: (E,) or None.

    Returns:
        (T, E).
    """
    if not _learns_in_half(x, weight):
        return linear(x, weight, bias)
    return _Linear.apply(x.to(product_dtype(x, x.dtype)), weight, bias)


def _learns_in_half(x: Tensor, weight: Tensor) -> bool:
    learns = torch.is_grad_enabled() and weight.requires_grad and weight.dtype == torch.float32
    return learns and x.ndim == 2 and uses_triton(x) and product_dtype(x, torch.float32) in HALVES


class _Linear(torch.autograd.Function):
    """Of rows in half precision and a float32 weight."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        low = weight.to(x.dtype)
        ctx.save_for_backward(x, low)
        return linear(x, low, None if bias is None else bias.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, low = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        to_x = gradient @ low if needs_x else None
        to_weight = _float32_product(gradient.t(), x) if needs_weight else None
        return to_x, to_weight, gradient.sum(0, dtype=torch.float32) if needs_bias else None


def _float32_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of half precision, with the sums as they are; torch has it on CUDA devices alone."""
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()

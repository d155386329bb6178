"""The product of rows with a weight matrix in float8, each row and each output feature with a scale of its own."""

import torch
from torch import Tensor

from genotok.kernels.without_autocast import without_autocast

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
SMALLEST_SCALE = 1e-12
MULTIPLE = 16  # the device's product takes widths of multiples of this alone
CAPABILITY = (8, 9)  # Ada and Hopper


def has_float8(device: torch.device) -> bool:
    """Whether the device multiplies matrices of float8."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= CAPABILITY


def fits_float8(weight: Tensor) -> bool:
    """Whether a weight (N, K) has the widths that the product takes."""
    return all(size % MULTIPLE == 0 for size in weight.shape)


@without_autocast
def float8_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T with both rounded to float8 (e4m3), and so its gradient by x; that by the weight is bfloat16.

    Scales are worked out anew in every call, so that the largest number of each row of x, of the gradient and of the
    weight (in the backward pass: of each of its columns) becomes the largest of float8. The gradient by the weight,
    a sum over all rows, is what suffers most from rounding, and stays in bfloat16 with float32 sums. Where the device
    has no float8 the same rounding is simulated and the products are float32.

    Args:
        x: (T, K) of any float type.
        weight: (N, K) in master precision; N and K are multiples of 16.

    Returns:
        (T, N) bfloat16.
    """
    return _Float8Linear.apply(x, weight)


class _Float8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return scaled_product(*rows_to_float8(x), *rows_to_float8(weight), quick=True)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            columns = rows_to_float8(weight.t())
            to_x = scaled_product(*rows_to_float8(gradient), *columns, quick=False).to(x.dtype)
        if ctx.needs_input_grad[1]:
            to_weight = (gradient.to(torch.bfloat16).t() @ x.to(torch.bfloat16)).to(weight.dtype)
        return to_x, to_weight


def rows_to_float8(x: Tensor) -> tuple[Tensor, Tensor]:
    """(R, C) to float8, contiguous, and the scale (R, 1) float32 that brings each row back."""
    largest = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True, dtype=torch.float32)
    scale = (largest / LARGEST).clamp(min=SMALLEST_SCALE)
    return (x / scale).to(
        FLOAT8
    ).contiguous(), scale  # what is a rounding error over the largest becomes the largest


def scaled_product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, quick: bool) -> Tensor:
    """(a * a_scale) @ (b * b_scale).T in bfloat16, of (M, C) and (N, C) float8 with (M, 1) and (N, 1) scales.

    With `quick` the device adds up in its tensor cores alone, which is faster and less exact.
    """
    if has_float8(a.device):
        return device_product(a, a_scale, b, b_scale, quick)
    return ((a.float() * a_scale) @ (b.float() * b_scale).t()).to(torch.bfloat16)


def device_product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, quick: bool) -> Tensor:
    """`scaled_product` by the device's own operation."""
    scales = {"scale_a": a_scale, "scale_b": b_scale.t().contiguous()}
    return torch._scaled_mm(a, b.t(), **scales, out_dtype=torch.bfloat16, use_fast_accum=quick)

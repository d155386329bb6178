"""Triton kernel of the backward pass of a product of Fourier transforms, in one pass over memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.tile_sizes import cdiv, next_power_of_2

FREQUENCIES, LINES = 512, 16  # of a program


@triton.jit
def _backward_kernel(
    x, gradient, filters, partial, lines, frequencies, FREQUENCIES: tl.constexpr, LINES: tl.constexpr
):
    """Over `gradient` goes that of x, and each program's sum to `partial`; complex numbers lie as pairs."""
    channel = tl.program_id(1).to(tl.int64)
    pair = tl.program_id(0) * FREQUENCIES * 2 + tl.arange(0, 2 * FREQUENCIES)
    mask = pair < 2 * frequencies
    at = filters + channel * 2 * frequencies + pair
    real, imaginary = tl.split(tl.reshape(tl.load(at, mask=mask, other=0.0), [FREQUENCIES, 2]))
    sum_real, sum_imaginary = tl.zeros_like(real), tl.zeros_like(real)
    first = tl.program_id(2) * LINES
    for line in range(first, tl.minimum(first + LINES, lines)):
        here = (channel * lines + line) * 2 * frequencies + pair
        x_real, x_imaginary = tl.split(tl.reshape(tl.load(x + here, mask=mask, other=0.0), [FREQUENCIES, 2]))
        given_real, given_imaginary = tl.split(
            tl.reshape(tl.load(gradient + here, mask=mask, other=0.0), [FREQUENCIES, 2])
        )
        sum_real += x_real * given_real + x_imaginary * given_imaginary
        sum_imaginary += x_real * given_imaginary - x_imaginary * given_real
        to_real = given_real * real + given_imaginary * imaginary
        to_imaginary = given_imaginary * real - given_real * imaginary
        joined = tl.reshape(tl.join(to_real, to_imaginary), [2 * FREQUENCIES])
        tl.store(gradient + here, joined, mask=mask)
    at = partial + (channel * tl.num_programs(2) + tl.program_id(2)) * 2 * frequencies + pair
    tl.store(at, tl.reshape(tl.join(sum_real, sum_imaginary), [2 * FREQUENCIES]), mask=mask)


def backward_of_product(x: Tensor, gradient: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients' transforms of x and filters, where x convolved with the filters has `gradient`.

    Args:
        x: (C, N, F) complex64, contiguous.
        gradient: as x; is overwritten.
        filters: (C, F) complex64, contiguous.

    Returns:
        gradient * conj(filters), (C, N, F), and the sum over N of conj(x) * gradient, (C, F).
    """
    channels, lines, frequencies = x.shape
    block, parts = min(FREQUENCIES, next_power_of_2(frequencies)), cdiv(lines, LINES)
    partial = x.new_empty(channels, parts, frequencies)
    _backward_kernel[(cdiv(frequencies, block), channels, parts)](
        *(torch.view_as_real(part) for part in (x, gradient, filters, partial)),
        lines, frequencies, FREQUENCIES=block, LINES=LINES, num_warps=4,
    )  # fmt: skip
    return gradient, partial.sum(1) if parts > 1 else partial[:, 0]

"""Mamba-2 between its two projections as one operation, so that no gradient is put together from parts."""

import torch
from torch import Tensor

from genotok.kernels.less_kept import remember
from genotok.kernels.ragged import Ragged
from genotok.kernels.triton_causal_conv import convolve, convolve_backward
from genotok.kernels.triton_gated_norm import gated_norm, gated_norm_backward
from genotok.kernels.triton_ssd import Gradients, Sizes, cumulate, scan, scan_backward


def _split(convolved: Tensor, heads: int, states: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (T, H, P), b and c (T, 1, N), views of (T, H P + 2 N)."""
    x, b, c = convolved.split([convolved.shape[1] - 2 * states, states, states], 1)
    return x.unflatten(1, (heads, -1)), b[:, None], c[:, None]


def _convolved(mixed: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged) -> Tensor:
    with torch.cuda.device_of(mixed):
        return convolve(mixed, weight, bias, ragged, True)


class Mamba2Inner(torch.autograd.Function):
    """`genotok.kernels.mamba2.mamba2_inner`, and what its norm reads beside the gate: y (T, C), no gradient."""

    @staticmethod
    def forward(
        ctx, projected, conv_weight, conv_bias, dt_bias, a_log, skip, norm_weight, eps, states, ragged
    ):
        """See `mamba2_inner`."""
        projected = projected.contiguous()
        inner, heads = len(norm_weight), len(skip)
        z, mixed, dt = projected.split([inner, inner + 2 * states, heads], 1)
        a = -a_log.float().exp()
        with torch.cuda.device_of(projected):
            convolved = _convolved(mixed, conv_weight, conv_bias, ragged)
            remember(convolved, _convolved, mixed, conv_weight, conv_bias, ragged)
            x, b, c = _split(convolved, heads, states)
            sizes = Sizes.of(x, b, ragged)
            decays = cumulate(dt, a, dt_bias, sizes)
            y, entering, _ = scan(x, b, c, decays, skip, sizes, projected.dtype)
            y = y.flatten(1)
            out = gated_norm(y, z, norm_weight, eps, projected.dtype)
        ctx.save_for_backward(
            projected, conv_weight, conv_bias, dt_bias, a, skip, norm_weight, convolved, y, entering
        )
        ctx.sizes, ctx.eps = sizes, eps
        ctx.mark_non_differentiable(y)
        ctx.set_materialize_grads(False)
        return out, y

    @staticmethod
    def backward(ctx, gradient, _):
        """Gradients of `projected` and of the parameters; all of the former are written into one tensor."""
        projected, conv_weight, conv_bias, dt_bias, a, skip, norm_weight, convolved, y, entering = (
            ctx.saved_tensors
        )
        sizes, (inner, heads) = ctx.sizes, (len(norm_weight), len(skip))
        parts = [inner, inner + 2 * sizes.n, heads]
        z, mixed, dt = projected.split(parts, 1)
        to_projected = torch.empty_like(projected)
        to_z, to_mixed, to_dt = to_projected.split(parts, 1)
        to_convolved, to_y = torch.empty_like(convolved), torch.empty_like(y)
        with torch.cuda.device_of(projected):
            to_norm = gated_norm_backward(y, z, norm_weight, ctx.eps, gradient.contiguous(), to_y, to_z)
            decays = cumulate(dt, a, dt_bias, sizes)
            into = Gradients(*_split(to_convolved, heads, sizes.n), to_dt)
            (to_a, to_skip, to_bias), _ = scan_backward(
                *_split(convolved, heads, sizes.n),
                a,
                decays,
                skip,
                sizes,
                entering,
                to_y.unflatten(1, (heads, -1)),
                into,
                softplus=True,
            )
            to_conv_weight, to_conv_bias = convolve_backward(
                mixed, conv_weight, conv_bias, sizes.ragged, True, to_convolved, to_mixed
            )
        # a = -exp(a_log), whose derivative is a itself.
        gradients = (to_conv_weight, to_conv_bias, to_bias, to_a * a, to_skip, to_norm)
        return to_projected, *gradients, None, None, None

"""Mamba-2 between its two projections (arXiv 2405.21060, section 7)."""

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from genotok.kernels.backend import uses_triton
from genotok.kernels.causal_conv import (
    causal_conv_silu,
    causal_conv_silu_behind,
    causal_conv_step,
    last_inputs,
)
from genotok.kernels.gated_norm import gated_rms_norm
from genotok.kernels.less_kept import cheap, remember
from genotok.kernels.ragged import Ragged
from genotok.kernels.ssd import ssd, ssd_step, ssd_with_states


def mamba2_inner(
    projected: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    skip: Tensor,
    norm_weight: Tensor,
    eps: float,
    states: int,
    ragged: Ragged,
    chunk: int = 64,
) -> Tensor:
    """Convolution and SiLU, state space with its skip, gated norm; one group of B and C.

    On a CUDA device this is one operation, whose backward pass writes all parts of the gradient of `projected` into
    one tensor.

    Args:
        projected: (T, 2 C + 2 N + H): gate z, input x, B, C, raw step sizes, side by side.
        conv_weight, conv_bias: (C + 2 N, K) and (C + 2 N,).
        dt_bias, a_log, skip: (H,); step sizes are softplus(dt + dt_bias), decay rates -exp(a_log).
        norm_weight: (C,).
        eps: of the norm.
        states: N.
        ragged: the layout of the T rows.
        chunk: as in `ssd`.

    Returns:
        (T, C) in the dtype of `projected`.
    """
    inner, heads = len(norm_weight), len(skip)
    if uses_triton(projected):
        from genotok.kernels.triton_gated_norm import WIDEST  # Triton exists on Linux only
        from genotok.kernels.triton_mamba2 import Mamba2Inner
        from genotok.kernels.triton_ssd import state_fits

        if inner <= WIDEST and state_fits(inner // heads, states):
            parameters = (conv_weight, conv_bias, dt_bias, a_log, skip, norm_weight)
            out, y = Mamba2Inner.apply(projected, *parameters, eps, states, ragged)
            remember(out, gated_rms_norm, y, projected[:, :inner], norm_weight, eps, projected.dtype)
            return out
    z, mixed, dt = projected.split([inner, inner + 2 * states, heads], -1)
    convolved = cheap(causal_conv_silu, mixed, conv_weight, conv_bias, ragged)
    scan = scan_inputs(convolved, dt, dt_bias, a_log, states)
    y = ssd(*scan, ragged, chunk, skip, projected.dtype)
    return cheap(gated_rms_norm, y.flatten(1), z, norm_weight, eps, projected.dtype)


def mamba2_inner_with_states(
    projected: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    skip: Tensor,
    norm_weight: Tensor,
    eps: float,
    states: int,
    ragged: Ragged,
    chunk: int = 64,
    before: tuple[Tensor, Tensor] | None = None,
    ends: bool = True,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """`mamba2_inner` from given states to those that the sequences leave.

    Args:
        projected, conv_weight, conv_bias, dt_bias, a_log, skip, norm_weight, eps, states, ragged, chunk: as in
            `mamba2_inner`.
        before: in front of each sequence, the convolution's last inputs (B, K - 1, C + 2 N), oldest first, and the
            state (B, H, N, P); None for zeros. No gradients where it is given.
        ends: whether to return what `before` is for rows that follow.

    Returns:
        (T, C) in the dtype of `projected`, and with `ends` the same two as `before`, without gradients.
    """
    inner, heads = len(norm_weight), len(skip)
    z, mixed, dt = projected.split([inner, inner + 2 * states, heads], -1)
    conv, state = (None, None) if before is None else before
    if conv is None:
        convolved = causal_conv_silu(mixed, conv_weight, conv_bias, ragged)
    else:
        convolved = causal_conv_silu_behind(mixed, conv_weight, conv_bias, ragged, conv)
    if _fused(projected, inner // heads, states):
        from genotok.kernels.triton_mamba2_states import scan_convolved

        y, left = scan_convolved(
            convolved, dt, dt_bias, a_log, skip, states, ragged, state, projected.dtype, ends
        )
    else:
        scan = scan_inputs(convolved, dt, dt_bias, a_log, states)
        y, left = ssd_with_states(*scan, ragged, state, chunk, skip, projected.dtype)
    out = gated_rms_norm(y.flatten(1), z, norm_weight, eps, projected.dtype)
    if not ends:
        return out, None
    return out, (last_inputs(mixed, conv_weight.shape[1], ragged, conv).detach(), left.detach())


def mamba2_step(
    projected: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    skip: Tensor,
    norm_weight: Tensor,
    eps: float,
    states: int,
    before: tuple[Tensor, Tensor],
    stepped: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One row of `mamba2_inner` for each of B sequences; no gradients on a CUDA device.

    Args:
        projected: (B, 2 C + 2 N + H).
        conv_weight, conv_bias, dt_bias, a_log, skip, norm_weight, eps, states: as in `mamba2_inner`.
        before: as in `mamba2_inner_with_states`; on a CUDA device it is brought up to date in place.
        stepped: (B,) bool, the sequences of which it changes; what the others give means nothing. None for all.

    Returns:
        (B, C) in the dtype of `projected`, and the same two as `before`.
    """
    inner, heads = len(norm_weight), len(skip)
    z, mixed, dt = projected.split([inner, inner + 2 * states, heads], -1)
    conv, state = before
    if _fused(projected, inner // heads, states):
        from genotok.kernels.triton_mamba2_step import convolve_step, scan_step

        convolved = convolve_step(mixed, conv_weight, conv_bias, conv, stepped)
        y = scan_step(convolved, dt, dt_bias, a_log, skip, state, stepped)
    else:
        convolved, next_conv = causal_conv_step(mixed, conv_weight, conv_bias, conv)
        scan = scan_inputs(silu(convolved), dt, dt_bias, a_log, states)
        y, next_state = ssd_step(*scan, state)
        y = (y + skip[:, None] * scan[0]).flatten(1)
        if stepped is not None:
            next_conv = torch.where(stepped[:, None, None], next_conv, conv)
            next_state = torch.where(stepped[:, None, None, None], next_state, state)
        conv, state = next_conv, next_state
    return gated_rms_norm(y, z, norm_weight, eps, projected.dtype), (conv, state)


def _fused(projected: Tensor, width: int, states: int) -> bool:
    """Whether Triton takes the raw step sizes of a head of some `width`; only where nobody asks for gradients."""
    if torch.is_grad_enabled() or not uses_triton(projected):
        return False
    from genotok.kernels.triton_ssd import state_fits

    return state_fits(width, states)


def scan_inputs(
    convolved: Tensor, dt: Tensor, dt_bias: Tensor, a_log: Tensor, states: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `ssd` takes: x (T, H, P), dt (T, H) float32, a (H,), b and c (T, 1, N).

    Args:
        convolved: (T, C + 2 N): x, B and C side by side.
        dt: (T, H), raw.
        dt_bias, a_log, states: as in `mamba2_inner`.
    """
    value, b, c = convolved.split([convolved.shape[-1] - 2 * states, states, states], -1)
    value = value.unflatten(-1, (len(dt_bias), -1))
    return value, softplus(dt.float() + dt_bias), -a_log.float().exp(), b[:, None], c[:, None]

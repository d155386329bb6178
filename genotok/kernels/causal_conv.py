"""Causal depth-wise convolution over packed sequences."""

import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from genotok.kernels.backend import uses_triton
from genotok.kernels.ragged import Ragged


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged) -> Tensor:
    """out[t] = bias + sum_k weight[:, K - 1 - k] * x[t - k], taking 0 for rows in front of the sequence.

    Args:
        x: (T, C).
        weight: (C, K), oldest tap first, as in torch's conv1d.
        bias: (C,).
        ragged: the layout of the T rows.

    Returns:
        (T, C).
    """
    if uses_triton(x):
        return _triton(x, weight, bias, ragged, False)
    gap = weight.shape[1] - 1
    if ragged.is_uniform:
        spaced = pad(x.view(ragged.batch, ragged.max_seqlen, -1), (0, 0, gap, 0)).flatten(0, 1)
    else:
        rows = torch.arange(len(x), device=x.device) + gap * (ragged.sequence_ids + 1)
        spaced = x.new_zeros(len(x) + gap * ragged.batch, x.shape[1]).index_copy(0, rows, x)
    out = _SpacedConv.apply(spaced, weight.to(x.dtype), bias.to(x.dtype))
    if ragged.is_uniform:
        return pad(out, (0, 0, gap, 0)).view(ragged.batch, -1, x.shape[1])[:, gap:].reshape(x.shape)
    return out.index_select(0, rows - gap)


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged) -> Tensor:
    """silu(causal_conv(x, weight, bias, ragged)), of the same shapes."""
    if uses_triton(x):
        return _triton(x, weight, bias, ragged, True)
    return silu(causal_conv(x, weight, bias, ragged))


def causal_conv_silu_behind(
    x: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged, before: Tensor | None
) -> Tensor:
    """`causal_conv_silu` of rows that follow on others; no gradients.

    Only the first rows of each sequence are another number than without those: they are worked out anew.

    Args:
        x, weight, bias, ragged: as in `causal_conv`.
        before: (B, K - 1, C), what is in front of each sequence, oldest first; None for nothing.
    """
    out, gap = causal_conv_silu(x, weight, bias, ragged), weight.shape[1] - 1
    if before is None or gap == 0:
        return out
    rows, places = ragged.first_places(gap)
    joined = torch.cat([before.to(x.dtype), x[rows]], 1)
    layout = Ragged.uniform(len(before), 2 * gap, x.device)
    early = causal_conv_silu(joined.flatten(0, 1), weight, bias, layout)
    early = early.index_select(0, (layout.first_rows[:, None] + gap + places).flatten())
    return out.index_copy_(0, rows.flatten(), early)


def _triton(x: Tensor, weight: Tensor, bias: Tensor, ragged: Ragged, with_silu: bool) -> Tensor:
    from genotok.kernels.triton_causal_conv import CausalConv  # Triton exists on Linux only

    return CausalConv.apply(x, weight, bias, ragged, with_silu)


def last_inputs(x: Tensor, taps: int, ragged: Ragged, before: Tensor | None = None) -> Tensor:
    """The last `taps` - 1 rows of each sequence, (B, taps - 1, C), oldest first.

    In front of its first row they are those of `before` (B, taps - 1, C), None for zeros.
    """
    rows, places = ragged.last_places(taps - 1)
    last, inside = x[rows.clamp(min=0)], (places >= 0)[..., None]
    if before is None:
        return last * inside
    which = torch.arange(len(before), device=x.device)[:, None]
    return torch.where(inside, last, before[which, places.clamp(max=-1) % (taps - 1)].to(x.dtype))


def causal_conv_step(x: Tensor, weight: Tensor, bias: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """One row of `causal_conv` for each of B sequences.

    Args:
        x: (B, C).
        weight: (C, K).
        bias: (C,).
        before: (B, K - 1, C), the rows before it, oldest first.

    Returns:
        out (B, C) and the last K - 1 rows, `x` included.
    """
    rows = torch.cat([before, x[:, None].to(before.dtype)], 1)
    out = (rows.to(x.dtype) * weight.t().to(x.dtype)).sum(1) + bias.to(x.dtype)
    return out, rows[:, 1:]


class _SpacedConv(torch.autograd.Function):
    """The valid convolution of (S, C) rows: (S - K + 1, C).

    Written out, since autograd would take thrice the memory.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        taps, rows = weight.shape[1], len(x) - weight.shape[1] + 1
        out = torch.addcmul(bias, x[:rows], weight[:, 0])
        for tap in range(1, taps):
            out.addcmul_(x[tap : tap + rows], weight[:, tap])
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        taps, rows = weight.shape[1], len(gradient)
        to_x = torch.zeros_like(x)
        for tap in range(taps):
            to_x[tap : tap + rows].addcmul_(gradient, weight[:, tap])
        to_weight = [(gradient * x[tap : tap + rows]).sum(0) for tap in range(taps)]
        return to_x, torch.stack(to_weight, 1), gradient.sum(0)

"""Causal depth-wise convolution over packed sequences."""

import torch
from torch import Tensor
from torch.nn.functional import pad

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

"""Causal depth-wise convolution over packed sequences."""

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
    taps = weight.shape[1]
    out = x * weight[:, -1] + bias
    for back in range(1, taps):
        reaches = (ragged.positions >= back).to(x.dtype)[:, None]
        earlier = pad(x, (0, 0, back, 0))[: len(x)]
        out = out + earlier * reaches * weight[:, taps - 1 - back]
    return out

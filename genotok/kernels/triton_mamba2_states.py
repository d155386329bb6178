"""Mamba-2's state space with states in front of the sequences and behind them, from raw step sizes."""

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.kernels.triton_ssd import Sizes, cumulate, scan


def scan_convolved(
    convolved: Tensor,
    dt: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    skip: Tensor,
    states: int,
    ragged: Ragged,
    initial: Tensor | None,
    dtype: torch.dtype,
    ends: bool,
) -> tuple[Tensor, Tensor | None]:
    """`ssd_with_states` of `scan_inputs`, without gradients.

    Args:
        convolved: (T, C + 2 N): x, B and C side by side.
        dt: (T, H), raw.
        dt_bias, a_log, skip: (H,).
        states: N.
        ragged: the layout of the T rows.
        initial: (B, H, N, P); None for zeros.
        dtype: of the result.
        ends: whether the states behind the sequences are wanted.

    Returns:
        (T, H, P), and (B, H, N, P) float32 or None.
    """
    value, b, c = convolved.split([convolved.shape[1] - 2 * states, states, states], 1)
    x, b, c = value.unflatten(1, (len(skip), -1)), b[:, None], c[:, None]
    initial = None if initial is None else initial.float().contiguous()
    with torch.cuda.device_of(convolved):
        sizes = Sizes.of(x, b, ragged)
        decays = cumulate(dt, -a_log.float().exp(), dt_bias, sizes)
        y, _, left = scan(x, b, c, decays, skip, sizes, dtype, initial, ends)
    return y, left

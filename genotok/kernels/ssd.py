"""Mamba-2's state-space dual: a selective state space computed by chunks (arXiv 2405.21060, section 6)."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from genotok.kernels.linear_scan import carried_states, reaches_from_before, segment_decay
from genotok.kernels.ragged import Ragged
from genotok.kernels.without_autocast import without_autocast


@without_autocast
def ssd(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, ragged: Ragged, chunk: int = 64) -> Tensor:
    """y_t = C_t h_t with h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, states reset at each sequence.

    Args:
        x: (T, H, P) inputs of H heads.
        dt: (T, H) positive step sizes.
        a: (H,) negative decay rates.
        b, c: (T, G, N) input and output projections of the state; H is a multiple of G.
        ragged: the layout of the T rows.
        chunk: rows a block; changes speed and rounding only.

    Returns:
        (T, H, P) float32. Decays and states are float32 whatever the caller's precision.
    """
    total, heads, width = x.shape
    groups, states = b.shape[1:]
    x, dt, b, c = x.float(), dt.float(), b.float(), c.float()
    chunks = -(-total // chunk)
    extra = chunks * chunk - total
    weighted = pad(x * dt[..., None], (0, 0, 0, 0, 0, extra)).view(chunks, chunk, heads, width)
    log_decay = pad(dt * a.float(), (0, 0, 0, extra)).view(chunks, chunk, heads)
    b = pad(b, (0, 0, 0, 0, 0, extra)).view(chunks, chunk, groups, states).transpose(1, 2)
    c = pad(c, (0, 0, 0, 0, 0, extra)).view(chunks, chunk, groups, states).transpose(1, 2)
    segments = pad(ragged.sequence_ids, (0, extra), value=-1).view(chunks, chunk)

    cumulative, decay = segment_decay(log_decay, segments)
    scores = (c @ b.transpose(-1, -2)).unsqueeze(2)
    weights = (scores * decay.unflatten(1, (groups, -1))).flatten(1, 2)
    inside = (weights @ weighted.transpose(1, 2)).transpose(1, 2)

    # What each chunk leaves behind: its inputs, decayed from their row to the chunk's last row.
    to_end = decay[:, :, -1].transpose(1, 2)[..., None]
    left_behind = b.transpose(-1, -2) @ _by_group(weighted * to_end, groups)
    left_behind = left_behind.unflatten(-1, (-1, width)).transpose(2, 3).flatten(1, 2)
    carried = carried_states(left_behind, cumulative[:, -1], segments)
    carried = carried.unflatten(1, (groups, -1)).transpose(2, 3).flatten(3)
    from_before = (c @ carried).unflatten(-1, (-1, width)).transpose(1, 2).flatten(2, 3)
    reach = (cumulative.exp() * reaches_from_before(segments))[..., None]
    y = torch.addcmul(inside, from_before, reach)
    return y.reshape(chunks * chunk, heads, width)[:total]


def _by_group(x: Tensor, groups: int) -> Tensor:
    """(C, Q, H, P) to (C, G, Q, H / G * P): the heads of one group side by side."""
    return x.unflatten(2, (groups, -1)).transpose(1, 2).flatten(3)


def ssd_recurrent(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, ragged: Ragged) -> Tensor:
    """The definition of `ssd`, one row after the other; slow, and the measure of the fast ones."""
    heads, groups = x.shape[1], b.shape[1]
    rows, state, begins = [], None, set(ragged.first_rows.tolist())
    for t in range(len(x)):
        if t in begins:
            state = x.new_zeros(heads, b.shape[2], x.shape[2])
        decay = torch.exp(dt[t] * a)[:, None, None]
        b_t = b[t].repeat_interleave(heads // groups, 0)
        c_t = c[t].repeat_interleave(heads // groups, 0)
        state = decay * state + (dt[t, :, None] * b_t)[..., None] * x[t][:, None]
        rows.append((c_t[:, None] @ state)[:, 0])
    return torch.stack(rows)

"""Mamba-2's state-space dual: a selective state space computed by chunks (arXiv 2405.21060, section 6)."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from genotok.kernels.linear_scan import carried_states, reaches_from_before, segment_decay
from genotok.kernels.ragged import Ragged


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
    b = pad(b, (0, 0, 0, 0, 0, extra)).view(chunks, chunk, groups, states)
    c = pad(c, (0, 0, 0, 0, 0, extra)).view(chunks, chunk, groups, states)
    segments = pad(ragged.sequence_ids, (0, extra), value=-1).view(chunks, chunk)

    cumulative, decay = segment_decay(log_decay, segments)
    scores = (c.transpose(1, 2) @ b.permute(0, 2, 3, 1)).repeat_interleave(heads // groups, 1)
    inside = (scores * decay) @ weighted.transpose(1, 2)

    # What each chunk leaves behind: its inputs, decayed from their row to the chunk's last row.
    to_end = decay[:, :, -1].transpose(1, 2)[..., None]
    by_head = b.repeat_interleave(heads // groups, 2).permute(0, 2, 3, 1)
    left_behind = by_head @ (weighted * to_end).transpose(1, 2)
    carried = carried_states(left_behind, cumulative[:, -1], segments)

    reach = (cumulative.exp() * reaches_from_before(segments)).transpose(1, 2)[..., None]
    from_before = (c.repeat_interleave(heads // groups, 2).transpose(1, 2) @ carried) * reach
    y = (inside + from_before).transpose(1, 2)
    return y.reshape(chunks * chunk, heads, width)[:total]


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

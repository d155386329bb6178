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
    x, dt = x.float(), dt.float()
    return _Blocks(
        x * dt[..., None], dt * a.float(), b.float(), c.float(), ragged.sequence_ids, chunk
    ).outputs()


@without_autocast
def ssd_with_states(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    ragged: Ragged,
    initial_states: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """As `ssd`, from given states in front of the sequences to the states behind them.

    Args:
        x, dt, a, b, c, ragged, chunk: as in `ssd`.
        initial_states: (B, H, N, P), the state that enters each sequence's first row; None for zeros.

    Returns:
        y (T, H, P) and the state that each sequence's last row leaves, (B, H, N, P), both float32.
    """
    x, dt, c = x.float(), dt.float(), c.float()
    log_decay = dt * a.float()
    blocks = _Blocks(x * dt[..., None], log_decay, b.float(), c, ragged.sequence_ids, chunk)
    y, states = blocks.outputs(), blocks.states_after(ragged.last_rows)
    if initial_states is None:
        return y, states
    initial = initial_states.float()
    reach = _decay_since_start(log_decay, ragged)[..., None]
    y = torch.addcmul(y, _read_states(c, initial, ragged), reach)
    return y, torch.addcmul(states, initial, reach[ragged.last_rows][..., None])


def _decay_since_start(log_decay: Tensor, ragged: Ragged) -> Tensor:
    """(T, H): what is left at each row of a state that entered its sequence's first row."""
    return ragged.to_packed(ragged.to_padded(log_decay).cumsum(1)).exp()


def _read_states(c: Tensor, states: Tensor, ragged: Ragged) -> Tensor:
    """(T, H, P): what each row's `c` (T, G, N) reads from its sequence's state (B, H, N, P)."""
    grouped = states.unflatten(1, (c.shape[1], -1)).transpose(2, 3).flatten(3)
    read = ragged.to_padded(c).transpose(1, 2) @ grouped
    return ragged.to_packed(read.transpose(1, 2)).unflatten(-1, (-1, states.shape[-1])).flatten(1, 2)


class _Blocks:
    """The rows cut into C blocks of Q, and the state that enters each block.

    Args:
        weighted: (T, H, P) inputs, multiplied by their step sizes.
        log_decay: (T, H), the logarithm of the decay on entering each row.
        b, c: (T, G, N).
        segments: (T,) int64, which sequence each row belongs to.
        chunk: Q.
    """

    def __init__(
        self, weighted: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, segments: Tensor, chunk: int
    ):
        self.total, heads, width = weighted.shape
        self.groups, states = b.shape[1:]
        self.chunk, chunks = chunk, -(-self.total // chunk)
        extra = chunks * chunk - self.total
        self.weighted = pad(weighted, (0, 0, 0, 0, 0, extra)).view(chunks, chunk, heads, width)
        log_decay = pad(log_decay, (0, 0, 0, extra)).view(chunks, chunk, heads)
        b = pad(b, (0, 0, 0, 0, 0, extra)).view(chunks, chunk, self.groups, states)
        c = pad(c, (0, 0, 0, 0, 0, extra)).view(chunks, chunk, self.groups, states)
        self.b, self.c = b.transpose(1, 2), c.transpose(1, 2)
        segments = pad(segments, (0, extra), value=-1).view(chunks, chunk)

        cumulative, self.decay = segment_decay(log_decay, segments)
        self.carried = carried_states(self._left_behind(self.decay[:, :, -1]), cumulative[:, -1], segments)
        self.reach = (cumulative.exp() * reaches_from_before(segments))[..., None]

    def outputs(self) -> Tensor:
        """(T, H, P): what each row reads from its own block, and from the state that entered the block."""
        scores = (self.c @ self.b.transpose(-1, -2)).unsqueeze(2)
        weights = (scores * self.decay.unflatten(1, (self.groups, -1))).flatten(1, 2)
        inside = (weights @ self.weighted.transpose(1, 2)).transpose(1, 2)
        carried = self.carried.unflatten(1, (self.groups, -1)).transpose(2, 3).flatten(3)
        from_before = (self.c @ carried).unflatten(-1, (-1, inside.shape[-1])).transpose(1, 2).flatten(2, 3)
        return torch.addcmul(inside, from_before, self.reach).flatten(0, 1)[: self.total]

    def states_after(self, rows: Tensor) -> Tensor:
        """(R, H, N, P): the state behind each of R rows."""
        block, place = rows // self.chunk, rows % self.chunk
        inside = self._left_behind(self.decay[block, :, place], block)
        return torch.addcmul(inside, self.carried[block], self.reach[block, place][..., None])

    def _left_behind(self, to_row: Tensor, block: Tensor | slice = slice(None)) -> Tensor:
        """(R, H, N, P): the inputs of a block, decayed from their row to a later one by `to_row` (R, H, Q)."""
        weighted = self.weighted[block] * to_row.transpose(1, 2)[..., None]
        left = self.b[block].transpose(-1, -2) @ _by_group(weighted, self.groups)
        return left.unflatten(-1, (-1, weighted.shape[-1])).transpose(2, 3).flatten(1, 2)


def _by_group(x: Tensor, groups: int) -> Tensor:
    """(C, Q, H, P) to (C, G, Q, H / G * P): the heads of one group side by side."""
    return x.unflatten(2, (groups, -1)).transpose(1, 2).flatten(3)


def ssd_step(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One row of `ssd` for each of B sequences.

    Args:
        x: (B, H, P).
        dt: (B, H).
        a: (H,).
        b, c: (B, G, N).
        state: (B, H, N, P), left by the row before.

    Returns:
        y (B, H, P) and the new state, both float32.
    """
    x, dt, heads = x.float(), dt.float(), x.shape[1]
    b, c = (part.float().repeat_interleave(heads // part.shape[1], 1) for part in (b, c))
    inputs = (dt[..., None] * b)[..., None] * x[:, :, None]
    state = torch.exp(dt * a.float())[..., None, None] * state + inputs
    return (c[..., None] * state).sum(2), state


def ssd_recurrent(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, ragged: Ragged) -> Tensor:
    """The definition of `ssd`, one row after the other; slow, and the measure of the fast ones."""
    return ssd_recurrent_with_states(x, dt, a, b, c, ragged)[0]


def ssd_recurrent_with_states(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    ragged: Ragged,
    initial_states: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The definition of `ssd_with_states`."""
    heads, groups = x.shape[1], b.shape[1]
    if initial_states is None:
        initial_states = x.new_zeros(ragged.batch, heads, b.shape[2], x.shape[2])
    rows, behind = [], []
    for state, first, last in zip(initial_states, ragged.first_rows, ragged.last_rows, strict=True):
        for t in range(first, last + 1):
            decay = torch.exp(dt[t] * a)[:, None, None]
            b_t = b[t].repeat_interleave(heads // groups, 0)
            c_t = c[t].repeat_interleave(heads // groups, 0)
            state = decay * state + (dt[t, :, None] * b_t)[..., None] * x[t][:, None]
            rows.append((c_t[:, None] @ state)[:, 0])
        behind.append(state)
    return torch.stack(rows), torch.stack(behind)

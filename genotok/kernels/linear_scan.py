"""Linear recurrences over packed sequences, by chunks: state spaces and moving averages both are one."""

import torch
from torch import Tensor

from genotok.kernels.without_autocast import without_autocast

CHUNK = 32


def segment_decay(log_decay: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Decay between every two rows of a chunk.

    Args:
        log_decay: (..., Q, H) float32, the logarithm of the decay applied on entering each row.
        segments: (..., Q), rows of different segments do not see each other.

    Returns:
        cumulative (..., Q, H): the running sum of `log_decay`;
        decay (..., H, Q, Q): exp of the decay from row j to row i at [i, j], 0 where j > i or where the
        segments differ.
    """
    rows = segments.shape[-1]
    visible = (segments[..., :, None] == segments[..., None, :]).tril().unsqueeze(-3)
    # Summed between the two rows, since in a difference of running sums strong decays drown weak ones.
    between = log_decay.transpose(-1, -2)[..., None].expand(*visible.shape[:-3], -1, -1, rows)
    between = between.tril(-1).cumsum(-2)
    return log_decay.cumsum(-2), between.masked_fill(~visible, float("-inf")).exp()


@without_autocast
def linear_scan(log_decay: Tensor, inputs: Tensor, segments: Tensor) -> Tensor:
    """h_t = exp(log_decay_t) * h_{t-1} + inputs_t, with h = 0 in front of each segment.

    The recurrence is cut into chunks that are computed as matrix products, and the states at the ends of
    the chunks follow a recurrence of the same kind, computed by the same function: O(T log T) work, no loop
    over time. float32 inside whatever the caller's precision.

    Args:
        log_decay: (T, H), at most 0. The value at the first row of a segment is ignored.
        inputs: (T, H, E).
        segments: (T,) int64, equal for the rows of one segment, which are contiguous.

    Returns:
        (T, H, E) float32.
    """
    total, heads, width = inputs.shape
    log_decay, inputs = log_decay.float(), inputs.float()
    if total <= CHUNK:
        _, decay = segment_decay(log_decay, segments)
        return (decay @ inputs.transpose(0, 1)).transpose(0, 1)
    chunks = -(-total // CHUNK)
    log_decay, inputs, segments = pad_rows(chunks * CHUNK, log_decay, inputs, segments)
    log_decay = log_decay.view(chunks, CHUNK, heads)
    segments = segments.view(chunks, CHUNK)
    cumulative, decay = segment_decay(log_decay, segments)
    within = decay @ inputs.view(chunks, CHUNK, heads, width).transpose(1, 2)
    carried = carried_states(within[:, :, -1], cumulative[:, -1], segments)
    reach = cumulative.exp() * reaches_from_before(segments)
    states = within.transpose(1, 2) + reach[..., None] * carried[:, None]
    return states.reshape(chunks * CHUNK, heads, width)[:total]


def carried_states(last_states: Tensor, log_decay: Tensor, segments: Tensor) -> Tensor:
    """The state that enters each chunk from the chunks before it.

    Args:
        last_states: (C, H, ...), what each chunk alone leaves behind in its last row.
        log_decay: (C, H), the decay over the whole chunk.
        segments: (C, Q), the segments of the chunk's rows.

    Returns:
        (C, H, ...) float32; zero for the first chunk.
    """
    shape = last_states.shape
    whole = segments[:, -1]
    flat = last_states.reshape(shape[0], shape[1], -1)
    after = linear_scan(log_decay, flat, whole).view(shape)
    return torch.cat([torch.zeros_like(after[:1]), after[:-1]])


def reaches_from_before(segments: Tensor) -> Tensor:
    """(C, Q, 1) float32: 1 where a row continues the segment that the chunk before it ended with."""
    before = torch.cat([segments.new_full((1,), -2), segments[:-1, -1]])
    return (segments == before[:, None]).float()[..., None]


def pad_rows(rows: int, log_decay: Tensor, inputs: Tensor, segments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lengthen all three to `rows` with rows of a segment of their own (-1), which nothing reads."""
    extra = rows - len(segments)
    if extra == 0:
        return log_decay, inputs, segments
    return (
        torch.nn.functional.pad(log_decay, (0, 0, 0, extra)),
        torch.nn.functional.pad(inputs, (0, 0, 0, 0, 0, extra)),
        torch.nn.functional.pad(segments, (0, extra), value=-1),
    )

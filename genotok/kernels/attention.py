"""Attention over packed sequences, and rotary positions."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from genotok.kernels.backend import uses_triton
from genotok.kernels.less_kept import cheap, remember
from genotok.kernels.ragged import Ragged

# What torch's flash attention takes; other heads and precisions go through padded sequences and a mask.
FLASH_TYPES, WIDEST_FLASH_HEAD = (torch.float16, torch.bfloat16), 256
MASKED_AT_ONCE = 1 << 28  # queries by keys of a mask, in bytes


def ragged_attention(
    q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, *, causal: bool = True, window: int = -1
) -> Tensor:
    """Scaled dot-product attention within each sequence.

    Args:
        q: (T, H, E).
        k, v: (T, K, E), where K divides H: query head h reads key head h // (H / K), as in grouped-query attention
            (arXiv 2305.13245).
        ragged: the layout of the T rows.
        causal: whether row t sees only rows up to t.
        window: how many earlier rows (and later ones when not causal) are seen besides the row itself;
            -1 sees all. A window of w thus covers w + 1 keys, as flash attention's `window_size=(w, 0)`.

    Returns:
        (T, H, E).
    """
    # Repeated rather than `enable_gqa`, with which masks and float32 miss torch's fused kernels.
    k, v = (cheap(_repeated, part, q.shape[1]) for part in (k, v))
    limited = 0 <= window < ragged.max_seqlen - 1
    if (limited or not ragged.is_uniform) and _flash_takes(q, k, v):
        return _flash_attention(q, k, v, ragged, causal, window if limited else -1)
    q, k, v = (ragged.to_padded(part).transpose(1, 2) for part in (q, k, v))
    # Behind the end of a shorter sequence lie rows that no causal query in front of them can see.
    if causal and not limited:
        out = scaled_dot_product_attention(q, k, v, is_causal=True)
    elif ragged.is_uniform and not limited:
        out = scaled_dot_product_attention(q, k, v)
    else:
        out = _masked_attention(q, k, v, ragged, causal, window if limited else -1)
    return ragged.to_packed(out.transpose(1, 2))


def attention_weights(
    q: Tensor, k: Tensor, ragged: Ragged, *, causal: bool = True, window: int = -1
) -> Tensor:
    """What each query of `ragged_attention` takes of each row: the weights themselves, for looking at.

    Args:
        q: (T, H, E).
        k: (T, K, E), and the rest as there.

    Returns:
        (B, H, L, L) float32, queries by keys; each row sums to 1. Queries behind a shorter sequence's end have no
        meaning.
    """
    q, k = (ragged.to_padded(part.float()).transpose(1, 2) for part in (q, _repeated(k, q.shape[1])))
    scores, every = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, slice(0, ragged.max_seqlen)
    return scores.masked_fill(~_visible(ragged, causal, window, every, every), -torch.inf).softmax(-1)


def _flash_takes(q: Tensor, k: Tensor, v: Tensor) -> bool:
    width = q.shape[-1]
    fits = q.dtype in FLASH_TYPES and k.dtype == v.dtype == q.dtype
    return uses_triton(q) and fits and width % 8 == 0 and width <= WIDEST_FLASH_HEAD


def _flash_attention(q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, causal: bool, window: int) -> Tensor:
    """Attention over the packed rows as they lie.

    Sequences of one length without a window are left to `scaled_dot_product_attention`, which knows faster kernels.
    """
    if window >= 0:
        from genotok.kernels import triton_attention

        if triton_attention.takes(q, k, v):
            return triton_attention.attention(q, k, v, ragged, causal, window)
    return torch_flash_attention(q, k, v, ragged, causal, window)


def torch_flash_attention(
    q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, causal: bool, window: int
) -> Tensor:
    """Flash attention (arXiv 2307.08691) as torch has it, which masks every tile under a window."""
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = ragged.cu_seqlens, ragged.max_seqlen
    sides = (window, 0 if causal else window)
    return varlen_attn(q, k, v, ends, ends, longest, longest, window_size=sides)


def step_attention(q: Tensor, k: Tensor, v: Tensor, filled: Tensor) -> Tensor:
    """One query a sequence over the keys that it sees.

    Args:
        q: (B, H, E).
        k, v: (B, C, K, E), where K divides H, as in `ragged_attention`.
        filled: (B, C) bool, which of the C keys are there; at least one for each sequence.

    Returns:
        (B, H, E).
    """
    k, v = (part.to(q.dtype).transpose(1, 2) for part in (k, v))
    # The queries that share keys stand as rows of one head, so that no key is copied.
    grouped = q.unflatten(1, (k.shape[1], -1))
    return scaled_dot_product_attention(grouped, k, v, attn_mask=filled[:, None, None]).flatten(1, 2)


def _repeated(x: Tensor, heads: int) -> Tensor:
    """(T, K, E) to (T, heads, E), each head as often as query heads read it."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def extending_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ragged: Ragged,
    held_keys: Tensor,
    held_values: Tensor,
    held_lengths: Tensor,
    of_held: Tensor,
    window: int = -1,
) -> Tensor:
    """Causal attention of rows that follow on others, whose keys and values are held already.

    Args:
        q: (T, H, E).
        k, v: (T, K, E); K divides H.
        ragged: the layout of the T rows in B sequences.
        held_keys, held_values: (S, C, K, E), of S sequences the latest rows: row p lies in slot p modulo C. Under a
            window C is at most `window` + 1.
        held_lengths: (S,) int64, the rows so far.
        of_held: (B,) int64, which of the S sequences each of the B goes on from.
        window: as in `ragged_attention`.

    Returns:
        (T, H, E).
    """
    held = held_keys, held_values, held_lengths[of_held], of_held
    if _flash_takes(q, k, v):
        return _extending_flash(q, k, v, ragged, *held, window)
    return _extending_padded(q, k, v, ragged, *held, window)


def _extending_flash(q, k, v, ragged, held_keys, held_values, lengths, of_held, window) -> Tensor:
    """In one call: the keys of each sequence, held and own, lie in one row, the queries at its end."""
    from torch.nn.attention.varlen import varlen_attn

    index, ends, longest = keys_in_line(ragged, held_keys.shape[1], lengths, of_held, len(held_keys), window)
    k, v = (
        _repeated(torch.cat([held.flatten(0, 1).to(new.dtype), new]).index_select(0, index), q.shape[1])
        for held, new in ((held_keys, k), (held_values, v))
    )
    sides = (window if window < longest - 1 else -1, 0)
    return varlen_attn(q, k, v, ragged.cu_seqlens, ends, ragged.max_seqlen, longest, window_size=sides)


def keys_in_line(
    ragged: Ragged, capacity: int, lengths: Tensor, of_held: Tensor, sequences: int, window: int
) -> tuple[Tensor, Tensor, int]:
    """Where the keys that rows see lie, sequence by sequence, held ones in front of their own.

    Costs no host synchronisation: behind the last key there may be rows that nothing reads.

    Args:
        ragged: the layout of the T rows in B sequences.
        capacity: C, slots of each held sequence.
        lengths: (B,) int64, rows held in front of each sequence, of which the last C or fewer are there.
        of_held: (B,) int64, the held sequence of each.
        sequences: S, how many are held.
        window: as in `ragged_attention`.

    Returns:
        (N,) int64 into the (S * C + T) slots and rows, (B + 1,) int32 cumulative lengths, and a length that none of
        them exceeds.
    """
    most = capacity if window < 0 else min(capacity, window)
    kept = lengths.clamp(max=most)
    ends = torch.nn.functional.pad((kept + ragged.lengths).cumsum(0), (1, 0))
    line = torch.arange(ragged.batch * most + ragged.total, device=lengths.device)
    sequence = torch.searchsorted(ends[1:], line, right=True).clamp(max=ragged.batch - 1)
    place = line - (ends[:-1] + kept)[sequence]  # counted from the sequence's first own row
    own = sequences * capacity + (ragged.first_rows[sequence] + place).clamp(0, ragged.total - 1)
    slot = of_held[sequence] * capacity + (lengths[sequence] + place) % capacity
    return torch.where(place < 0, slot, own), ends.int(), most + ragged.max_seqlen


def _extending_padded(q, k, v, ragged, held_keys, held_values, lengths, of_held, window) -> Tensor:
    """By a mask over padded sequences."""
    shared, capacity = q.shape[1] // k.shape[1], held_keys.shape[1]
    q, k, v = (ragged.to_padded(part) for part in (q, k, v))
    k, v = (
        torch.cat([held[of_held].to(new.dtype), new], 1).repeat_interleave(shared, 2).transpose(1, 2)
        for held, new in ((held_keys, k), (held_values, v))
    )
    rows = torch.arange(ragged.max_seqlen, device=q.device)
    last, own = lengths[:, None] - 1, lengths[:, None] + rows
    held_positions = last - (last - torch.arange(capacity, device=q.device)) % capacity
    keys = torch.cat([held_positions, own], 1)
    distance = own[:, :, None] - keys[:, None]
    visible = (distance >= 0) & (keys >= 0)[:, None]
    if window >= 0:
        visible = visible & (distance <= window)
    out = scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=visible[:, None])
    return ragged.to_packed(out.transpose(1, 2))


def _masked_attention(q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, causal: bool, window: int) -> Tensor:
    """(B, H, L, E) all, by masks; where one of all queries by all keys is too large, some queries at a time."""
    length, masks = ragged.max_seqlen, 1 if causal or ragged.is_uniform else ragged.batch
    if masks * length * length <= MASKED_AT_ONCE:
        mask = _visible(ragged, causal, window, slice(0, length), slice(0, length))
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)
    around = length if window < 0 else min(length, window if causal else 2 * window)
    at_once = max(around, 256)
    at_once = max(1, min(at_once, MASKED_AT_ONCE // (masks * min(length, around + at_once))))
    done = []
    for first in range(0, length, at_once):
        rows = slice(first, min(first + at_once, length))
        end = rows.stop if causal else length
        keys = slice(0, end) if window < 0 else slice(max(first - window, 0), min(rows.stop + window, end))
        mask = _visible(ragged, causal, window, rows, keys)
        done.append(scaled_dot_product_attention(q[:, :, rows], k[:, :, keys], v[:, :, keys], attn_mask=mask))
    return torch.cat(done, 2)


def _visible(ragged: Ragged, causal: bool, window: int, queries: slice, keys: slice) -> Tensor:
    """(B or 1, 1, Q, K) bool: which of some keys each of some queries may see."""
    rows, keys = (
        torch.arange(part.start, part.stop, device=ragged.cu_seqlens.device) for part in (queries, keys)
    )
    distance = rows[:, None] - keys[None, :]
    visible = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    if window >= 0:
        visible = visible & (distance.abs() <= window)
    if causal or ragged.is_uniform:
        return visible[None, None]
    real = (keys[None, :] < ragged.lengths[:, None])[:, None, None, :]
    # A row behind the end sees itself, so that its softmax is defined; it is dropped afterwards.
    return (visible & real) | (distance == 0)


def rotate(x: Tensor, positions: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """Rotary position embedding of the first `dim` features, halves not interleaved (RoFormer, arXiv 2104.09864).

    Args:
        x: (T, H, E) queries or keys.
        positions: (T,) position of each row in its own sequence.
        dim: how many of the E features turn; even. The rest pass unchanged.
        base: of the geometric series of wave lengths.
    """
    if uses_triton(x):
        from genotok.kernels import triton_rotary

        return triton_rotary.rotate(x, positions, rotary_frequencies(dim, base, x.device))
    angle = positions[:, None].float() * rotary_frequencies(dim, base, x.device)
    cos, sin = (part.to(x.dtype)[:, None] for part in (angle.cos(), angle.sin()))
    first, second, rest = x[..., : dim // 2], x[..., dim // 2 : dim], x[..., dim:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)


def rotated_parts(
    rows: Tensor, heads: int, kv_heads: int, positions: Tensor, dim: int, base: float = 10_000.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys, turned as by `rotate`, and values, of rows that hold them side by side.

    Turned queries and keys are remembered, see `genotok.kernels.less_kept.cheap`.

    Args:
        rows: (T, H + 2 K, E): H heads of queries, then K of keys and K of values.
        heads, kv_heads: H and K.
        positions, dim, base: as in `rotate`; with a `dim` of 0 nothing turns.

    Returns:
        (T, H, E), (T, K, E) and (T, K, E).
    """
    both = heads + kv_heads
    if not dim:
        return rows.split([heads, kv_heads, kv_heads], 1)
    if uses_triton(rows):
        from genotok.kernels import triton_rotary

        frequencies = rotary_frequencies(dim, base, rows.device)
        q, k, v = triton_rotary.rotated_parts(rows, heads, kv_heads, positions, frequencies)
        # Of the memory that q begins, in which the keys lie as well.
        remember(q, rotate, rows[:, :both], positions, dim, base)
        return q, k, v
    turned, v = rows.split([both, kv_heads], 1)
    return *cheap(rotate, turned, positions, dim, base).split([heads, kv_heads], 1), v


def rotary_frequencies(dim: int, base: float, device: torch.device) -> Tensor:
    """(dim / 2,) float32, the angle by which each pair of features turns from one row to the next."""
    return base ** -(torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)

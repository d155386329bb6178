"""Attention over packed sequences, and rotary positions."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from genotok.kernels.backend import uses_triton
from genotok.kernels.ragged import Ragged

# What torch's flash attention takes; other heads and precisions go through padded sequences and a mask.
FLASH_TYPES, WIDEST_FLASH_HEAD = (torch.float16, torch.bfloat16), 256


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
    k, v = (_repeated(part, q.shape[1]) for part in (k, v))
    limited = 0 <= window < ragged.max_seqlen - 1
    if (limited or not ragged.is_uniform) and _flash_takes(q, k, v):
        return _flash_attention(q, k, v, ragged, causal, window if limited else -1)
    q, k, v = (ragged.to_padded(part).transpose(1, 2) for part in (q, k, v))
    # Behind the end of a shorter sequence lie rows that no causal query in front of them can see.
    if causal and not limited:
        out = scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        mask = None if ragged.is_uniform and not limited else _visible(ragged, causal, window)
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
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
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    return scores.masked_fill(~_visible(ragged, causal, window), -torch.inf).softmax(-1)


def _flash_takes(q: Tensor, k: Tensor, v: Tensor) -> bool:
    width = q.shape[-1]
    fits = q.dtype in FLASH_TYPES and k.dtype == v.dtype == q.dtype
    return uses_triton(q) and fits and width % 8 == 0 and width <= WIDEST_FLASH_HEAD


def _flash_attention(q: Tensor, k: Tensor, v: Tensor, ragged: Ragged, causal: bool, window: int) -> Tensor:
    """Attention over the packed rows as they lie, by flash attention (arXiv 2307.08691).

    Sequences of one length without a window are left to `scaled_dot_product_attention`, which knows faster kernels.
    """
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
    held_positions: Tensor,
    held_lengths: Tensor,
    window: int = -1,
) -> Tensor:
    """Causal attention of rows that follow on others, whose keys and values are held already.

    Args:
        q: (T, H, E).
        k, v: (T, K, E); K divides H.
        ragged: the layout of the T rows in B sequences.
        held_keys, held_values: (B, C, K, E).
        held_positions: (B, C) int64, in the sequence; negative where nothing is held.
        held_lengths: (B,) int64, rows in front of the first of each sequence.
        window: as in `ragged_attention`.

    Returns:
        (T, H, E).
    """
    shared = q.shape[1] // k.shape[1]
    q, k, v = (ragged.to_padded(part) for part in (q, k, v))
    k, v = (
        torch.cat([held.to(new.dtype), new], 1).repeat_interleave(shared, 2).transpose(1, 2)
        for held, new in ((held_keys, k), (held_values, v))
    )
    rows = torch.arange(ragged.max_seqlen, device=q.device)
    own = held_lengths[:, None] + rows
    keys = torch.cat([held_positions, own], 1)
    distance = own[:, :, None] - keys[:, None]
    visible = (distance >= 0) & (keys >= 0)[:, None]
    if window >= 0:
        visible = visible & (distance <= window)
    out = scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=visible[:, None])
    return ragged.to_packed(out.transpose(1, 2))


def _visible(ragged: Ragged, causal: bool, window: int) -> Tensor:
    """(B or 1, 1, L, L) bool: which key each query may see."""
    rows = torch.arange(ragged.max_seqlen, device=ragged.cu_seqlens.device)
    distance = rows[:, None] - rows[None, :]
    visible = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    if window >= 0:
        visible = visible & (distance.abs() <= window)
    if causal or ragged.is_uniform:
        return visible[None, None]
    real = (rows[None, :] < ragged.lengths[:, None])[:, None, None, :]
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


def rotary_frequencies(dim: int, base: float, device: torch.device) -> Tensor:
    """(dim / 2,) float32, the angle by which each pair of features turns from one row to the next."""
    return base ** -(torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)

"""Bringing chunk states back to their rows."""

import torch
from torch import Tensor

from genotok.kernels.ema import ema_scan, ema_step
from genotok.kernels.ragged import Ragged
from genotok.models.cache import EMACache
from genotok.models.chunkers.routing import Boundaries


class _StraightThroughOne(torch.autograd.Function):
    """1 in the forward pass, the identity in the backward pass."""

    @staticmethod
    def forward(ctx, confidence: Tensor) -> Tensor:
        return torch.ones_like(confidence)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


def ema_upsample(chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> Tensor:
    """Smooth the chunk states by their boundaries' probabilities and give each row its chunk's state.

    The rows are multiplied by a one whose gradient reaches the boundary probabilities (straight-through), so
    that confident decisions are rewarded.

    Args:
        chunks: (M, D) states.
        boundaries: of the T rows, M of them boundaries.
        chunk_layout: the layout of the M chunks.

    Returns:
        (T, D) float32.
    """
    return ema_prefill(chunks, boundaries, chunk_layout)[0]


def ema_prefill(chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> tuple[Tensor, EMACache]:
    """`ema_upsample`, and the cache behind each sequence's last chunk."""
    smooth = ema_scan(chunks, boundaries.prob[boundaries.mask], chunk_layout)
    return _to_rows(smooth, boundaries), EMACache(smooth[chunk_layout.last_rows].detach())


def repeat_upsample(chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> Tensor:
    """Give each row its chunk's state as it is; otherwise as `ema_upsample`, whose arguments it takes."""
    return repeat_prefill(chunks, boundaries, chunk_layout)[0]


def repeat_prefill(chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> tuple[Tensor, EMACache]:
    """`repeat_upsample`, and the cache behind each sequence's last chunk."""
    chunks = chunks.float()
    return _to_rows(chunks, boundaries), EMACache(chunks[chunk_layout.last_rows].detach())


def _to_rows(chunks: Tensor, boundaries: Boundaries) -> Tensor:
    rows = chunks.index_select(0, boundaries.chunk_of_row)
    return rows * _StraightThroughOne.apply(boundaries.confidence)[:, None]


def ema_upsample_step(chunks: Tensor, boundaries: Boundaries, begins: Tensor, cache: EMACache) -> Tensor:
    """The upsampled state of one further row of each sequence.

    Args:
        chunks: (M, D), the states of the chunks that begin with that row.
        boundaries: of the B rows.
        begins: (M,) int64, the sequences in which a chunk begins.
        cache: of the B sequences.

    Returns:
        (B, D) float32.
    """
    smooth = ema_step(chunks, boundaries.prob[begins], cache.value[begins])
    cache.value = cache.value.index_copy(0, begins, smooth)
    return cache.value


def repeat_upsample_step(chunks: Tensor, boundaries: Boundaries, begins: Tensor, cache: EMACache) -> Tensor:
    """As `ema_upsample_step`, without smoothing."""
    cache.value = cache.value.index_copy(0, begins, chunks.float())
    return cache.value


UPSAMPLERS = {"ema": ema_upsample, "repeat": repeat_upsample}
PREFILLS = {"ema": ema_prefill, "repeat": repeat_prefill}
STEPS = {"ema": ema_upsample_step, "repeat": repeat_upsample_step}

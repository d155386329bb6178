"""Bringing chunk states back to their rows."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genotok.kernels.cross_attention import attend_to_near_chunks
from genotok.kernels.ema import ema_scan, ema_step, ema_upsample, rewarded
from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache
from genotok.models.chunkers.routing import Boundaries


@dataclass
class EMACache(Cache):
    """The upsampler's memory: `value` (B, D) float32, the upsampled state of each sequence's last chunk."""

    value: Tensor


@dataclass
class NearChunksCache(Cache):
    """`keys` and `values` (B, W, H, E) of the latest chunks, the last first; `chunks` (B,) int64, their number."""

    keys: Tensor
    values: Tensor
    chunks: Tensor


def continued_rows(chunks: Tensor, boundaries: Boundaries, before: Tensor) -> Tensor:
    """Give each row its chunk's state, and rows in front of a sequence's first chunk the state `before` (B, D)."""
    ragged = boundaries.ragged
    chunk = boundaries.chunk_of_row
    # The chunks that began in the sequences in front; a row has one of its own where the count is higher.
    in_front = (chunk - boundaries.mask.long())[ragged.first_rows][ragged.sequence_ids]
    place = torch.where(chunk > in_front, len(before) + chunk, ragged.sequence_ids)
    return torch.cat([before, chunks]).index_select(0, place)


def only_real(values: Tensor, layout: Ragged) -> Tensor:
    """(M, ...) values, 0 in rows that only fill the layout up; no gradient reaches these.

    The kernels write no gradient for a chunk that no row reads.
    """
    if layout.real is None:
        return values
    return torch.where(layout.is_real.view(-1, *[1] * (values.ndim - 1)), values, 0)


class RepeatUpsampler(nn.Module):
    """Gives each row its chunk's state as it is."""

    def forward(
        self, chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged, rows: Tensor, causal: bool = True
    ) -> Tensor:
        """Bring chunk states to their rows.

        Args:
            chunks: (M, D) states.
            boundaries: of the T rows, M of them boundaries.
            chunk_layout: the layout of the M chunks.
            rows: (T, D), the states in front of the chunker.
            causal: whether rows learn nothing of chunks behind their own.

        Returns:
            (T, D) float32.
        """
        return rewarded(chunks.float().index_select(0, boundaries.chunk_of_row), boundaries.confidence)

    def prefill(
        self, chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged, rows: Tensor
    ) -> tuple[Tensor, EMACache]:
        """`forward`, and the cache behind each sequence's last chunk."""
        upsampled = self(chunks, boundaries, chunk_layout, rows)
        return upsampled, EMACache(chunks[chunk_layout.last_rows].float().detach())

    def extend(
        self,
        chunks: Tensor,
        boundaries: Boundaries,
        rows: Tensor,
        begun: Tensor,
        chunk_layout: Ragged,
        before: Tensor,
    ) -> Tensor:
        """The upsampled states of rows that follow on others.

        Args:
            chunks: (M, D), the states of the chunks that begin in these rows.
            boundaries: of the T rows of B sequences.
            rows: (M,) int64, those with which the chunks begin.
            begun: (S,) int64, the sequences in which a chunk begins.
            chunk_layout: of the M chunks in these.
            before: (B, D), the cache's values in front of the B sequences.

        Returns:
            (T, D) float32.
        """
        further = self._further(chunks, boundaries.prob[rows], chunk_layout, before[begun])
        return continued_rows(further, boundaries, before)

    def step(
        self, chunks: Tensor, boundaries: Boundaries, begins: Tensor, rows: Tensor, cache: EMACache
    ) -> Tensor:
        """The upsampled state of one further row of each sequence.

        Args:
            chunks: (M, D), the states of the chunks that begin with that row.
            boundaries: of the B rows.
            begins: (M,) int64, the sequences in which a chunk begins.
            rows: (B, D), the rows in front of the chunker.
            cache: of the B sequences.

        Returns:
            (B, D) float32.
        """
        cache.value = cache.value.index_copy(0, begins, chunks.float())
        return cache.value

    def _further(self, chunks: Tensor, prob: Tensor, chunk_layout: Ragged, before: Tensor) -> Tensor:
        """(M, D) float32 of chunks (M, D) with the boundaries' probabilities (M,), behind `before` (S, D)."""
        return chunks.float()


class EMAUpsampler(RepeatUpsampler):
    """Smooths the chunk states by their boundaries' probabilities and gives each row its chunk's state.

    A causal moving average runs from the beginning to the end only; otherwise both ways.
    """

    def forward(
        self, chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged, rows: Tensor, causal: bool = True
    ) -> Tensor:
        """Bring chunk states to their rows, (T, D) float32."""
        if causal:
            return self._spread(chunks, boundaries, chunk_layout)
        smooth = ema_scan(chunks, boundaries.of_chunks(boundaries.prob, chunk_layout), chunk_layout)
        smooth = (smooth + self._smooth_backwards(chunks, boundaries, chunk_layout)) / 2
        return rewarded(smooth.index_select(0, boundaries.chunk_of_row), boundaries.confidence)

    def prefill(
        self, chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged, rows: Tensor
    ) -> tuple[Tensor, EMACache]:
        """`forward`, and the cache behind each sequence's last chunk."""
        upsampled = self._spread(chunks, boundaries, chunk_layout)
        return upsampled, EMACache(upsampled[boundaries.ragged.last_rows].detach())

    def step(
        self, chunks: Tensor, boundaries: Boundaries, begins: Tensor, rows: Tensor, cache: EMACache
    ) -> Tensor:
        """The upsampled state of one further row of each sequence, (B, D) float32."""
        smooth = ema_step(chunks, boundaries.prob[begins], cache.value[begins])
        return super().step(smooth, boundaries, begins, rows, cache)

    def _further(self, chunks: Tensor, prob: Tensor, chunk_layout: Ragged, before: Tensor) -> Tensor:
        return ema_scan(chunks, prob, chunk_layout, before)

    def _spread(self, chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> Tensor:
        prob = only_real(boundaries.of_chunks(boundaries.prob, chunk_layout), chunk_layout)
        chunks, chunk_of_row = only_real(chunks, chunk_layout), boundaries.chunk_of_row
        return ema_upsample(chunks, prob, boundaries.confidence, chunk_of_row, chunk_layout)

    def _smooth_backwards(self, chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged) -> Tensor:
        """Read from the end, a chunk begins at the boundary that ends it; the last one at the sequence's end."""
        prob = boundaries.of_chunks(boundaries.prob, chunk_layout).roll(-1)
        prob = prob.index_fill(0, chunk_layout.last_rows, 1.0)
        mirrored = chunk_layout.mirrored_rows
        return ema_scan(chunks[mirrored], prob[mirrored], chunk_layout)[mirrored]


class CrossAttentionUpsampler(nn.Module):
    """Each row asks its own chunk and the nearest ones, up to `window` in all on a side.

    A causal row sees its own chunk and the `window` - 1 before it, otherwise as many behind it as well. A learned
    bias tells how far off a chunk is. Arguments as those of `RepeatUpsampler`.

    Args:
        width: features a row.
        heads: number of heads, dividing `width`.
        window: chunks seen on a side, the row's own included.
        norm: the norms in front of the attention, of the rows and of the chunks.
    """

    def __init__(self, width: int, heads: int, window: int, norm: tuple[nn.Module, nn.Module]):
        super().__init__()
        self.heads, self.window = heads, window
        self.row_norm, self.chunk_norm = norm
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(window, heads))

    def forward(
        self, chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged, rows: Tensor, causal: bool = True
    ) -> Tensor:
        """Bring chunk states to their rows, (T, D) float32."""
        return self._ask(self._key_value(chunks), boundaries, chunk_layout, rows, causal)

    def prefill(
        self, chunks: Tensor, boundaries: Boundaries, chunk_layout: Ragged, rows: Tensor
    ) -> tuple[Tensor, NearChunksCache]:
        """`forward`, and the cache behind each sequence's last chunk."""
        k, v = self._key_value(chunks)
        back = torch.arange(self.window, device=chunks.device)
        nearest = (chunk_layout.last_rows[:, None] - back).clamp(min=0)
        cache = NearChunksCache(k[nearest].detach(), v[nearest].detach(), chunk_layout.lengths.clone())
        return self._ask((k, v), boundaries, chunk_layout, rows, True), cache

    def step(
        self, chunks: Tensor, boundaries: Boundaries, begins: Tensor, rows: Tensor, cache: NearChunksCache
    ) -> Tensor:
        """The upsampled state of one further row of each sequence, (B, D) float32."""
        k, v = self._key_value(chunks)
        for name, latest in (("keys", k), ("values", v)):
            held = getattr(cache, name)
            moved = torch.cat([latest[:, None].to(held.dtype), held[begins, :-1]], 1)
            setattr(cache, name, held.index_copy(0, begins, moved))
        cache.chunks = cache.chunks.index_add(0, begins, torch.ones_like(begins))
        batch = torch.arange(len(rows), device=rows.device) * self.window
        last = batch + cache.chunks.clamp(max=self.window) - 1
        # The chunks lie latest first, so that one further back is one further on.
        seen = attend_to_near_chunks(
            self._query(rows),
            cache.keys.flatten(0, 1),
            cache.values.flatten(0, 1),
            batch,
            (batch, last),
            range(self.window),
            self.bias,
        )
        return self.out(seen.flatten(1)).float()

    def _ask(
        self,
        key_value: tuple[Tensor, Tensor],
        boundaries: Boundaries,
        chunk_layout: Ragged,
        rows: Tensor,
        causal: bool,
    ) -> Tensor:
        sequence = boundaries.ragged.sequence_ids
        ends = chunk_layout.first_rows[sequence], chunk_layout.last_rows[sequence]
        offsets = [*range(0, -self.window, -1), *(() if causal else range(1, self.window))]
        bias = self.bias if causal else torch.cat([self.bias, self.bias[1:]])
        seen = attend_to_near_chunks(
            self._query(rows), *key_value, boundaries.chunk_of_row, ends, offsets, bias
        )
        return rewarded(self.out(seen.flatten(1)).float(), boundaries.confidence)

    def _query(self, rows: Tensor) -> Tensor:
        return self.query(self.row_norm(rows)).unflatten(1, (self.heads, -1))

    def _key_value(self, chunks: Tensor) -> tuple[Tensor, Tensor]:
        return self.key_value(self.chunk_norm(chunks)).unflatten(1, (2, self.heads, -1)).unbind(1)


UPSAMPLERS = ("ema", "repeat", "cross_attention")


def make_upsampler(
    settings: str | dict, width: int, heads: int, norm: tuple[nn.Module, nn.Module]
) -> nn.Module:
    """Build what `upsamplers` of a configuration names."""
    if isinstance(settings, dict):
        return CrossAttentionUpsampler(width, heads, settings["window"], norm)
    return EMAUpsampler() if settings == "ema" else RepeatUpsampler()

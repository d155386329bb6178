"""The recursion: a stage encodes its rows, cuts them into chunks, lets the inner stage think, and decodes."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genotok.kernels.float32_linear import float32_linear
from genotok.kernels.ragged import Ragged
from genotok.models.blocks import BlockStack
from genotok.models.cache import Cache, PositionCache, StageCache
from genotok.models.chunkers.routing import Boundaries, RoutingChunker
from genotok.models.chunkers.settings import make_chunker
from genotok.models.chunkers.states import make_chunk_states
from genotok.models.chunkers.upsampling import make_upsampler
from genotok.models.config import ModelConfig
from genotok.models.layout import StageLayout
from genotok.models.norms import NORMS
from genotok.models.positions import ChunkPositions, GlobalPositions, Places


class Stage(nn.Module):
    """One level of an H-Net (arXiv 2507.07955, figure 1).

    Args:
        layout: the blocks of this stage and of the stages inside.
        config: widths and settings.
        index: 0 for the outermost stage.
    """

    def __init__(self, layout: StageLayout, config: ModelConfig, index: int = 0):
        super().__init__()
        width = config.d_model[index]
        outer = config.d_model[index - 1] if index else width
        # Rows that come from a narrower stage are widened by learned features, the same for every row.
        self.widening = nn.Parameter(torch.zeros(width - outer)) if width > outer else None
        self.has_places = any(config.positions)
        periods = config.positions[index]
        self.positions = GlobalPositions(width, periods["periods"]) if periods else None
        self.encoder = BlockStack(layout.encoder, config, index)
        self.inner = None
        if layout.inner is not None:
            self._build_chunking(layout, config, index)

    def _build_chunking(self, layout: StageLayout, config: ModelConfig, index: int) -> None:
        width, heads = config.d_model[index], config.attention.heads[index]
        norms = [NORMS[config.norm](width, config.norm_eps) for _ in range(3)]
        self.chunker = make_chunker(config.chunkers[index], width)
        self.states = make_chunk_states(config.chunk_states[index], width, heads, norms[0])
        self.upsampler = make_upsampler(config.upsamplers[index], width, heads, (norms[1], norms[2]))
        self.skip = nn.Linear(width, width)
        self.chunk_positions = ChunkPositions(width) if config.positions[index] else None
        self.inner = Stage(layout.inner, config, index + 1)
        self.decoder = BlockStack(layout.decoder, config, index)

    def forward(
        self,
        x: Tensor,
        ragged: Ragged,
        boundary_inputs: Tensor | None = None,
        causal: bool = True,
        between: list[Tensor] | None = None,
        places: Places | None = None,
        capacity: Sequence[float] = (),
    ) -> tuple[Tensor, list[Boundaries]]:
        """Run the stage and those inside it.

        Costs one host synchronisation for each stage that chunks, and none for those with a capacity.

        Args:
            x: (T, D_outer) rows of the stage around this one.
            ragged: their layout.
            boundary_inputs: (T,), what a `given` or `entropy` chunker of this stage reads.
            causal: whether no row sees a later one; otherwise blocks, router and upsampler look both ways.
            between: where a stage without chunks adds the states (T, D) between its blocks.
            places: of the rows; None in the outermost stage.
            capacity: of this stage and of those inside, how many chunks there is room for, as a share of the rows;
                chunks are filled up to so many, and boundaries beyond are left out, see `Boundaries.left_out`.

        Returns:
            (T, D_outer) float32, and the boundaries of this stage and of those inside, outermost first.
        """
        outer = x.shape[-1]
        places = self._places(places, ragged)
        x = self._placed(self._widened(x), places)
        if self.inner is None:
            return self.encoder(x, ragged, causal, between)[:, :outer], []
        x = self.encoder(x, ragged, causal)
        boundaries = self._boundaries(x, ragged, boundary_inputs, causal).of_real_rows()
        room = max(math.ceil(capacity[0] * ragged.total), ragged.batch) if capacity else None
        boundaries = boundaries if room is None else boundaries.at_most(room)
        chunk_layout = boundaries.chunk_layout(room)
        chunk_places = places.of_chunks(boundaries, chunk_layout, causal) if places else None
        states = self.states(x, boundaries, chunk_layout, causal)
        settings = {"causal": causal, "places": chunk_places, "capacity": capacity[1:]}
        chunks, inner_boundaries = self.inner(states, chunk_layout, **settings)
        upsampled = self.upsampler(chunks, boundaries, chunk_layout, x, causal)
        x = self._placed_in_chunks(upsampled + self._skipped(x), places, chunk_places, boundaries)
        return self.decoder(x, ragged, causal)[:, :outer], [boundaries, *inner_boundaries]

    def prefill(
        self,
        x: Tensor,
        ragged: Ragged,
        boundary_inputs: Tensor | None = None,
        between: list[Tensor] | None = None,
        places: Places | None = None,
    ) -> tuple[Tensor, list[Boundaries], StageCache]:
        """`forward`, and the caches behind each sequence's last row."""
        outer, outermost = x.shape[-1], places is None
        places = self._places(places, ragged)
        tokens = ragged.lengths.clone() if outermost and self.has_places else None
        between = between if self.inner is None else None
        x, encoder = self.encoder.prefill(self._placed(self._widened(x), places), ragged, between)
        if self.inner is None:
            return x[:, :outer], [], StageCache(encoder, tokens=tokens)
        inputs = () if boundary_inputs is None else (boundary_inputs,)
        boundaries, chunker = self.chunker.prefill(x, ragged, *inputs)
        chunk_layout = boundaries.chunk_layout()
        chunk_places = places.of_chunks(boundaries, chunk_layout, True) if places else None
        selected, states = self.states.prefill(x, boundaries, chunk_layout)
        chunks, inner_boundaries, inner = self.inner.prefill(selected, chunk_layout, places=chunk_places)
        upsampled, upsampler = self.upsampler.prefill(chunks, boundaries, chunk_layout, x)
        x = self._placed_in_chunks(upsampled + self._skipped(x), places, chunk_places, boundaries)
        x, decoder = self.decoder.prefill(x, ragged)
        cache = StageCache(encoder, chunker, states, inner, upsampler, decoder, tokens=tokens)
        if places is not None:
            last = chunk_layout.last_rows
            cache.places = PositionCache(chunk_places.token[last], chunk_places.length[last])
        return x[:, :outer], [boundaries, *inner_boundaries], cache

    def extend(self, x: Tensor, ragged: Ragged, cache: StageCache, of_cache: Tensor) -> Tensor:
        """Many further rows of some sequences at once; the cache stays as it is.

        Costs one host synchronisation for each stage that chunks.

        Args:
            x: (T, D_outer) rows that follow on those that the cache has read.
            ragged: their layout in B sequences.
            cache: of any number of sequences.
            of_cache: (B,) int64, the sequence of the cache that each goes on from; one may be named several times.

        Returns:
            (T, D_outer) float32.
        """
        outer = x.shape[-1]
        x = self.encoder.extend(self._widened(x), ragged, cache.encoder, of_cache)
        if self.inner is None:
            return x[:, :outer]
        boundaries = self.chunker.extend(x, ragged, cache.chunker, of_cache)
        begun, layout = boundaries.continued_layout()
        before = cache.upsampler.value[of_cache]
        if layout is None:
            upsampled = before[ragged.sequence_ids]
        else:
            rows = boundaries.chunk_rows(layout)
            chunks = self.states.extend(x, rows, cache.states)
            chunks = self.inner.extend(chunks, layout, cache.inner, of_cache[begun])
            upsampled = self.upsampler.extend(chunks, boundaries, rows, begun, layout, before)
        return self.decoder.extend(upsampled + self._skipped(x), ragged, cache.decoder, of_cache)[:, :outer]

    def step(
        self,
        x: Tensor,
        cache: StageCache,
        place: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """One further row (B, D_outer) of each sequence; the stage inside takes those that begin a chunk.

        Costs one host synchronisation for each stage that chunks.

        Args:
            x: (B, D_outer).
            cache: of the B sequences.
            place: (B,) int64 both, the row's token and the length of the chunk that it knows of, as in `Places`;
                None in the outermost stage.
        """
        outer = x.shape[-1]
        x = self._widened(x)
        if cache.tokens is not None:
            place, cache.tokens = (cache.tokens, torch.zeros_like(cache.tokens)), cache.tokens + 1
        x = self.encoder.step(x if self.positions is None else self.positions(x, *place), cache.encoder)
        if self.inner is None:
            return x[:, :outer]
        boundaries = self.chunker.step(x, cache.chunker)
        begins = boundaries.mask.nonzero()[:, 0]
        in_chunk = chunk_place = None
        if cache.places is not None:
            in_chunk, chunk_place = cache.places.step(place[0], begins)
        chunks = self.states.step(x, begins, cache.states)
        if len(begins) == len(x):
            chunks = self.inner.step(chunks, cache.inner, place=chunk_place)
        elif len(begins):
            part = cache.inner.select(begins)
            chunks = self.inner.step(chunks, part, place=chunk_place)
            cache.inner.put(begins, part)
        upsampled = self.upsampler.step(chunks, boundaries, begins, x, cache.upsampler)
        x = upsampled + self._skipped(x)
        x = x if self.chunk_positions is None else self.chunk_positions(x, *in_chunk)
        return self.decoder.step(x, cache.decoder)[:, :outer]

    def fixed_step(
        self,
        x: Tensor,
        cache: StageCache,
        stepped: Tensor | None = None,
        place: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """`step` of shapes that do not depend on where chunks begin, and without a host synchronisation.

        The stage inside runs for all sequences, and keeps its memory of those in which no chunk begins as it was.

        Args:
            x, cache, place: as in `step`.
            stepped: (B,) bool, the sequences that read the row: the memory of the others stays as it is, and what is
                returned for them means nothing. None for all.
        """
        outer, parts = x.shape[-1], cache.of_chunks() if stepped is not None else []
        before = [part.held() for part in parts]
        x = self._widened(x)
        if cache.tokens is not None:
            place, cache.tokens = (cache.tokens, torch.zeros_like(cache.tokens)), cache.tokens + 1
        x = x if self.positions is None else self.positions(x, *place)
        x = self.encoder.step(x, cache.encoder, stepped)
        if self.inner is not None:
            x = self._fixed_chunk_step(x, cache, stepped, place)
        for part, of_part in zip(parts, before, strict=True):
            part.keep(stepped, of_part)
        return x[:, :outer]

    def _fixed_chunk_step(
        self, x: Tensor, cache: StageCache, stepped: Tensor | None, place: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """What `fixed_step` does from the chunker on, (B, D)."""
        boundaries = self.chunker.step(x, cache.chunker)
        begins = boundaries.mask if stepped is None else boundaries.mask & stepped
        in_chunk = chunk_place = None
        if cache.places is not None:
            where = lambda rows, places: places.step(place[0], rows)  # noqa: E731
            (begun, chunk_place), (gone_on, _) = _both_ways(where, cache.places, begins)
            in_chunk = tuple(torch.where(begins, *parts) for parts in zip(begun, gone_on, strict=True))
        chunks, _ = _both_ways(lambda rows, states: self.states.step(x, rows, states), cache.states, begins)
        chunks = self.inner.fixed_step(chunks, cache.inner, begins, chunk_place)
        upsample = lambda rows, state: self.upsampler.step(chunks[: len(rows)], boundaries, rows, x, state)  # noqa: E731
        upsampled = torch.where(begins[:, None], *_both_ways(upsample, cache.upsampler, begins))
        x = upsampled + self._skipped(x)
        x = x if self.chunk_positions is None else self.chunk_positions(x, *in_chunk)
        return self.decoder.step(x, cache.decoder, stepped)

    def parts_with_memory(self) -> Iterator[nn.Module]:
        """The mixers and chunkers of this stage and of those inside."""
        stacks = [self.encoder] if self.inner is None else [self.encoder, self.decoder]
        yield from (block.mixer for stack in stacks for block in stack.blocks)
        if self.inner is not None:
            yield self.chunker
            yield from self.inner.parts_with_memory()

    @property
    def can_extend(self) -> bool:
        """Whether every part can read many rows behind a cache at once."""
        parts = list(self.parts_with_memory())
        if self.inner is not None:
            parts += [self.states, self.upsampler]
        inside = self.inner is None or self.inner.can_extend
        return inside and not self.has_places and all(hasattr(part, "extend") for part in parts)

    def _boundaries(self, x: Tensor, ragged: Ragged, inputs: Tensor | None, causal: bool) -> Boundaries:
        if isinstance(self.chunker, RoutingChunker):
            return self.chunker(x, ragged, causal)
        return self.chunker(x, ragged) if inputs is None else self.chunker(x, ragged, inputs)

    def _places(self, places: Places | None, ragged: Ragged) -> Places | None:
        return Places.of_tokens(ragged) if places is None and self.has_places else places

    def _placed(self, x: Tensor, places: Places | None) -> Tensor:
        return x if self.positions is None else self.positions(x, places.token, places.length)

    def _placed_in_chunks(
        self, x: Tensor, places: Places | None, chunk_places: Places | None, boundaries: Boundaries
    ) -> Tensor:
        if self.chunk_positions is None:
            return x
        return self.chunk_positions(x, *places.in_chunks(chunk_places, boundaries))

    def _widened(self, x: Tensor) -> Tensor:
        if self.widening is None:
            return x
        return torch.cat([x, self.widening.to(x.dtype).expand(len(x), -1)], -1)

    def _skipped(self, x: Tensor) -> Tensor:
        return float32_linear(x, self.skip.weight, self.skip.bias)

    def initialise(self, residual_writes: int = 0) -> None:
        """Draw the weights as H-Net does: N(0, 0.02), outputs scaled down by the depth of the residual stream.

        Args:
            residual_writes: additions to the residual stream in the stages around this one.
        """
        residual_writes += self.encoder.residual_writes
        if self.inner is not None:
            residual_writes += self.decoder.residual_writes
            self.inner.initialise(residual_writes)
            nn.init.zeros_(self.skip.weight)
            nn.init.zeros_(self.skip.bias)
            for part in (self.decoder, self.states, self.upsampler, self.chunk_positions):
                _draw_linear(part, residual_writes)
        _draw_linear(self.encoder, residual_writes)
        _draw_linear(self.positions, residual_writes)


def _both_ways(
    step: Callable[[Tensor, Cache | None], Any], cache: Cache | None, begins: Tensor
) -> tuple[Any, Any]:
    """A step in which chunks begin in all sequences, and one in which none begins.

    Args:
        step: of the sequences (M,) int64 in which chunks begin, and the cache.
        cache: left as the sequences that `begins` (B,) bool names would leave it.

    Returns:
        What both give.
    """
    everyone = torch.arange(len(begins), device=begins.device)
    aside = None if cache is None else cache.held()
    found, gone_on = step(everyone, cache), step(everyone[:0], aside)
    if cache is not None:
        cache.keep(begins, aside)
    return found, gone_on


def _draw_linear(part: nn.Module | None, residual_writes: int) -> None:
    for name, module in part.named_modules() if part is not None else ():
        if isinstance(module, nn.Linear):
            scale = residual_writes**-0.5 if name.split(".")[-1] == "out" else 1.0
            nn.init.normal_(module.weight, std=0.02 * scale)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

"""The recursion: a stage encodes its rows, cuts them into chunks, lets the inner stage think, and decodes."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from genotok.kernels.ragged import Ragged
from genotok.models.blocks import BlockStack
from genotok.models.cache import StageCache
from genotok.models.chunkers.routing import Boundaries
from genotok.models.chunkers.settings import make_chunker
from genotok.models.chunkers.upsampling import PREFILLS, STEPS, UPSAMPLERS
from genotok.models.config import ModelConfig
from genotok.models.layout import StageLayout


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
        self.encoder = BlockStack(layout.encoder, config, index)
        self.inner = None
        if layout.inner is not None:
            self.chunker = make_chunker(config.chunkers[index], width)
            kind = config.upsamplers[index]
            self.upsample, self.upsample_prefill, self.upsample_step = (
                UPSAMPLERS[kind],
                PREFILLS[kind],
                STEPS[kind],
            )
            self.skip = nn.Linear(width, width)
            self.inner = Stage(layout.inner, config, index + 1)
            self.decoder = BlockStack(layout.decoder, config, index)

    def forward(
        self,
        x: Tensor,
        ragged: Ragged,
        boundary_inputs: Tensor | None = None,
        causal: bool = True,
        between: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Boundaries]]:
        """Run the stage and those inside it.

        Args:
            x: (T, D_outer) rows of the stage around this one.
            ragged: their layout.
            boundary_inputs: (T,), what a `given` or `entropy` chunker of this stage reads.
            causal: whether no row sees a later one; False only for one stage of attention blocks.
            between: where a stage without chunks adds the states (T, D) between its blocks.

        Returns:
            (T, D_outer) float32, and the boundaries of this stage and of those inside, outermost first.
        """
        outer = x.shape[-1]
        x = self._widened(x)
        if self.inner is None:
            return self.encoder(x, ragged, causal, between)[:, :outer], []
        x = self.encoder(x, ragged)
        inputs = () if boundary_inputs is None else (boundary_inputs,)
        boundaries = self.chunker(x, ragged, *inputs)
        chunk_layout = boundaries.chunk_layout()
        chunks, inner_boundaries = self.inner(x[boundaries.mask], chunk_layout)
        x = self.decoder(self.upsample(chunks, boundaries, chunk_layout) + self._skipped(x), ragged)
        return x[:, :outer], [boundaries, *inner_boundaries]

    def prefill(
        self,
        x: Tensor,
        ragged: Ragged,
        between: list[Tensor] | None = None,
        boundary_inputs: Tensor | None = None,
    ) -> tuple[Tensor, list[Boundaries], StageCache]:
        """`forward`, and the caches behind each sequence's last row."""
        outer = x.shape[-1]
        between = between if self.inner is None else None
        x, encoder = self.encoder.prefill(self._widened(x), ragged, between)
        if self.inner is None:
            return x[:, :outer], [], StageCache(encoder)
        inputs = () if boundary_inputs is None else (boundary_inputs,)
        boundaries, chunker = self.chunker.prefill(x, ragged, *inputs)
        chunk_layout = boundaries.chunk_layout()
        chunks, inner_boundaries, inner = self.inner.prefill(x[boundaries.mask], chunk_layout)
        upsampled, upsampler = self.upsample_prefill(chunks, boundaries, chunk_layout)
        x, decoder = self.decoder.prefill(upsampled + self._skipped(x), ragged)
        cache = StageCache(encoder, chunker, inner, upsampler, decoder)
        return x[:, :outer], [boundaries, *inner_boundaries], cache

    def step(self, x: Tensor, cache: StageCache) -> Tensor:
        """One further row (B, D_outer) of each sequence; the stage inside takes those that begin a chunk.

        Costs one host synchronisation for each stage that chunks.
        """
        outer = x.shape[-1]
        x = self.encoder.step(self._widened(x), cache.encoder)
        if self.inner is None:
            return x[:, :outer]
        boundaries = self.chunker.step(x, cache.chunker)
        begins = boundaries.mask.nonzero()[:, 0]
        chunks = x[begins]
        if len(begins) == len(x):
            chunks = self.inner.step(chunks, cache.inner)
        elif len(begins):
            part = cache.inner.select(begins)
            chunks = self.inner.step(chunks, part)
            cache.inner.put(begins, part)
        upsampled = self.upsample_step(chunks, boundaries, begins, cache.upsampler)
        return self.decoder.step(upsampled + self._skipped(x), cache.decoder)[:, :outer]

    def parts_with_memory(self) -> Iterator[nn.Module]:
        """The mixers and chunkers of this stage and of those inside."""
        stacks = [self.encoder] if self.inner is None else [self.encoder, self.decoder]
        yield from (block.mixer for stack in stacks for block in stack.blocks)
        if self.inner is not None:
            yield self.chunker
            yield from self.inner.parts_with_memory()

    def _widened(self, x: Tensor) -> Tensor:
        if self.widening is None:
            return x
        return torch.cat([x, self.widening.to(x.dtype).expand(len(x), -1)], -1)

    def _skipped(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.skip(x)

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
            _draw_linear(self.decoder, residual_writes)
        _draw_linear(self.encoder, residual_writes)


def _draw_linear(stack: BlockStack, residual_writes: int) -> None:
    for name, module in stack.named_modules():
        if isinstance(module, nn.Linear):
            scale = residual_writes**-0.5 if name.endswith(".out") else 1.0
            nn.init.normal_(module.weight, std=0.02 * scale)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

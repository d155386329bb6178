"""A mixer and an MLP around a residual stream, and a stack of such blocks."""

import torch
from torch import Tensor, nn

from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache, StackCache
from genotok.models.config import ModelConfig
from genotok.models.layout import BlockLayout
from genotok.models.mixers.attention import Attention
from genotok.models.mixers.both_ways import both_ways
from genotok.models.mixers.hyena import Hyena
from genotok.models.mixers.mamba2 import Mamba2
from genotok.models.mlps import MLPS
from genotok.models.norms import NORMS


class Block(nn.Module):
    """Pre-norm residual block; the residual stream stays float32 under autocast.

    Blocks hand on the stream and, apart from it, what is still to be added, so that the addition and the norm
    behind it, of the next block, are one pass over memory.
    """

    def __init__(self, layout: BlockLayout, config: ModelConfig, stage: int):
        super().__init__()
        width = config.d_model[stage]
        norm, mlp = NORMS[config.norm], MLPS[config.mlp]
        self.mixer_norm = norm(width, config.norm_eps)
        self.mixer = make_mixer(layout.mixer, config, stage)
        self.mlp_norm = norm(width, config.norm_eps) if layout.mlp else None
        self.mlp = mlp(width, config.d_intermediate[stage]) if layout.mlp else None

    def forward(
        self, x: Tensor, added: Tensor | None, ragged: Ragged, causal: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Run the block.

        Args:
            x: (T, D) float32, the residual stream.
            added: (T, D), what is still to be added to it; None for nothing.
            ragged: the layout of the T rows.
            causal: otherwise rows see what lies behind them as well.

        Returns:
            The stream and what is still to be added, as `x` and `added`.
        """
        x, normed = self.mixer_norm.after_adding(x, added)
        if isinstance(self.mixer, Attention):
            return self.after_mixer(x, self.mixer(normed, ragged, causal))
        mixed = self.mixer(normed, ragged) if causal else both_ways(self.mixer, normed, ragged)
        return self.after_mixer(x, mixed)

    def prefill(
        self, x: Tensor, added: Tensor | None, ragged: Ragged, before: Cache | None = None
    ) -> tuple[Tensor, Tensor, Cache]:
        """`forward`, and the mixer's cache behind each sequence's last row; `before` is for Mamba-2 alone."""
        follows = {} if before is None else {"before": before}
        x, normed = self.mixer_norm.after_adding(x, added)
        mixed, cache = self.mixer.prefill(normed, ragged, **follows)
        return *self.after_mixer(x, mixed), cache

    def extend(
        self, x: Tensor, added: Tensor | None, ragged: Ragged, cache: Cache, of_cache: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`forward` of rows that follow on those of the cache's sequences `of_cache` (B,); it stays as it is."""
        x, normed = self.mixer_norm.after_adding(x, added)
        return self.after_mixer(x, self.mixer.extend(normed, ragged, cache, of_cache))

    def step(
        self, x: Tensor, added: Tensor | None, cache: Cache, stepped: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`forward` of one further row of each sequence, (B, D); of those not `stepped` (B,) the cache stays."""
        x, normed = self.mixer_norm.after_adding(x, added)
        return self.after_mixer(x, self.mixer.step(normed, cache, stepped))

    def after_mixer(self, x: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """What follows the mixer, row by row: (T, D) stream and (T, D) of the mixer to what `forward` returns."""
        if self.mlp is None:
            return x, mixed
        x, normed = self.mlp_norm.after_adding(x, mixed)
        return x, self.mlp(normed)

    @property
    def residual_writes(self) -> int:
        """How often the block adds to the residual stream; the initialisation scales by it."""
        return 1 if self.mlp is None else 2


class BlockStack(nn.Module):
    """Blocks one after the other, with a norm behind the last."""

    def __init__(self, layouts: tuple[BlockLayout, ...], config: ModelConfig, stage: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(layout, config, stage) for layout in layouts)
        self.norm = NORMS[config.norm](config.d_model[stage], config.norm_eps)

    def forward(
        self, x: Tensor, ragged: Ragged, causal: bool = True, between: list[Tensor] | None = None
    ) -> Tensor:
        """(T, D) to (T, D) float32; the states between two blocks are added to `between`."""
        x, added = x.float(), None
        for i, block in enumerate(self.blocks):
            if i and between is not None:
                x, added = x + added, None
                between.append(x)
            x, added = block(x, added, ragged, causal)
        return self._closed(x, added)

    def prefill(
        self,
        x: Tensor,
        ragged: Ragged,
        between: list[Tensor] | None = None,
        before: StackCache | None = None,
    ) -> tuple[Tensor, StackCache]:
        """`forward`, and the caches behind each sequence's last row.

        Given the cache `before` of the same sequences, the rows are those that follow on it; Mamba-2 alone.
        """
        x, added, cache = x.float(), None, StackCache([])
        for i, block in enumerate(self.blocks):
            if i and between is not None:
                x, added = x + added, None
                between.append(x)
            x, added, of_block = block.prefill(x, added, ragged, None if before is None else before.blocks[i])
            cache.blocks.append(of_block)
        return self._closed(x, added), cache

    def extend(self, x: Tensor, ragged: Ragged, cache: StackCache, of_cache: Tensor) -> Tensor:
        """(T, D) to (T, D), rows that follow on those of the cache's sequences `of_cache` (B,); it stays as it is."""
        x, added = x.float(), None
        for block, of_block in zip(self.blocks, cache.blocks, strict=True):
            x, added = block.extend(x, added, ragged, of_block, of_cache)
        return self._closed(x, added)

    def step(self, x: Tensor, cache: StackCache, stepped: Tensor | None = None) -> Tensor:
        """One further row (B, D) of each sequence; of those that are not `stepped` (B,) bool the cache stays."""
        x, added = x.float(), None
        for block, of_block in zip(self.blocks, cache.blocks, strict=True):
            x, added = block.step(x, added, of_block, stepped)
        return self._closed(x, added)

    def _closed(self, x: Tensor, added: Tensor | None) -> Tensor:
        """The norm behind the last block, (T, D) float32."""
        with torch.autocast(x.device.type, enabled=False):
            return self.norm.after_adding(x, added)[1]

    @property
    def residual_writes(self) -> int:
        """The sum over the blocks."""
        return sum(block.residual_writes for block in self.blocks)


def make_mixer(name: str, config: ModelConfig, stage: int) -> nn.Module:
    """Build the mixer that the layout names, with the settings of its stage."""
    width = config.d_model[stage]
    if name == "mamba2":
        return Mamba2(width, config.mamba2, config.norm_eps)
    if name == "hyena":
        return Hyena(width, config.hyena)
    settings = config.attention
    return Attention(
        width,
        settings.heads[stage],
        settings.rotary_dim[stage],
        settings.window[stage],
        settings.rotary_base,
        settings.bias,
        settings.kv_heads_of(stage),
    )

"""BLT's rule: a chunk begins where the next token was hard to foresee (arXiv 2412.09871, section 2.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache
from genotok.models.chunkers.length_limits import split_long_chunks
from genotok.models.chunkers.routing import Boundaries


def starts_behind(
    entropies: Tensor,
    positions: Tensor,
    threshold: float,
    threshold_add: float | None = None,
    monotonicity: bool = False,
) -> Tensor:
    """Whether a patch begins right behind each token.

    The entropy H_t at token t is that of the prediction of token t + 1. A patch begins at t + 1 where

    - H_t > `threshold`;
    - with `threshold_add`: also H_t - H_{t-1} > `threshold_add`;
    - with `monotonicity`: H_t - H_{t-1} > `threshold`, and nothing else counts.

    As in BLT's code the first patch is one token long; under the two rules that look at the rise the second one
    is as well, and under the second rule no patch begins at token 3.

    Args:
        entropies: (..., L) float32 in nats.
        positions: broadcastable to it, the 0-based position of each token in its sequence.
        threshold, threshold_add, monotonicity: see above.

    Returns:
        (..., L) bool.
    """
    rise = entropies - entropies.roll(1, -1)  # read from position 2 on, so that no sequence sees another
    if monotonicity:
        starts = (rise > threshold) | (positions == 1)
    elif threshold_add is not None:
        starts = (rise > threshold_add) & (entropies > threshold) & (positions != 2)
        starts = starts | (positions == 1)
    else:
        starts = entropies > threshold
    return starts | (positions == 0)


def entropy_starts(
    entropies: Tensor,
    ragged: Ragged,
    threshold: float,
    threshold_add: float | None = None,
    monotonicity: bool = False,
    max_length: int | None = None,
) -> Tensor:
    """(T,) bool: the tokens at which a patch begins, from the (T,) entropies; see `starts_behind`."""
    positions = ragged.positions
    behind = starts_behind(entropies.float(), positions, threshold, threshold_add, monotonicity)
    starts = behind.roll(1) | (positions == 0)
    return starts if max_length is None else split_long_chunks(starts, max_length)


@dataclass
class EntropyCache(Cache):
    """The memory of chunks that begin behind tokens of high entropy.

    Attributes:
        entropy, previous: (B,) float32, at each sequence's last row and at the one before it.
        position: (B,) int64, that of the row that comes next.
        begun: (B,) int64, that of the last row at which the entropies, not the longest length, began a chunk.
        model: of the entropy model, which has read every row.
    """

    entropy: Tensor
    previous: Tensor
    position: Tensor
    begun: Tensor
    model: Cache | None = None


class EntropyChunker(nn.Module):
    """Boundaries of BLT's patches, from the entropies of a small language model.

    Args:
        threshold, threshold_add, monotonicity: see `starts_behind`; `entropy_threshold` finds a threshold, and
            until then it is None.
        max_length: tokens a chunk; longer ones are split. None for no limit.
    """

    def __init__(
        self,
        threshold: float | None,
        threshold_add: float | None = None,
        monotonicity: bool = False,
        max_length: int | None = None,
    ):
        super().__init__()
        self.threshold, self.threshold_add, self.monotonicity = threshold, threshold_add, monotonicity
        self.max_length = max_length

    @property
    def rule(self) -> tuple[float, float | None, bool]:
        """The arguments of `starts_behind`."""
        if self.threshold is None:
            raise InputError(
                "chunkers[0].threshold: is not known yet; `genotok train` finds it from mean_length, "
                "or set it with GenomicLM.set_entropy_threshold"
            )
        return self.threshold, self.threshold_add, self.monotonicity

    def forward(self, x: Tensor, ragged: Ragged, entropies: Tensor) -> Boundaries:
        """(T, D) rows and (T,) entropies in nats at these rows to boundaries; the rows' states do not matter."""
        return Boundaries.fixed(entropy_starts(entropies, ragged, *self.rule, self.max_length), ragged)

    def prefill(self, x: Tensor, ragged: Ragged, entropies: Tensor) -> tuple[Boundaries, EntropyCache]:
        """`forward`, and the cache behind each sequence's last row, to which the entropy model's is added."""
        entropies, last = entropies.float(), ragged.last_rows
        starts = entropy_starts(entropies, ragged, *self.rule)
        rows = torch.arange(ragged.total, device=x.device)
        begun = torch.where(starts, rows, 0).cummax(0).values[last] - ragged.first_rows
        # Of a sequence of one row nothing reads what was before it.
        previous = entropies[(last - 1).clamp(min=0)]
        cache = EntropyCache(entropies[last], previous, ragged.lengths.clone(), begun)
        return self(x, ragged, entropies), cache

    def step(self, x: Tensor, cache: EntropyCache) -> Boundaries:
        """Whether one further row (B, D) of each sequence begins a chunk: the entropy in front of it decides."""
        entropies = torch.stack([cache.previous, cache.entropy], 1)
        positions = torch.stack([cache.position - 2, cache.position - 1], 1)
        begins = starts_behind(entropies, positions, *self.rule)[:, 1]
        cache.begun = torch.where(begins, cache.position, cache.begun)
        if self.max_length is not None:
            begins = begins | ((cache.position - cache.begun) % self.max_length == 0)
        cache.position = cache.position + 1
        return Boundaries.fixed(begins, Ragged.uniform(len(x), 1, x.device))

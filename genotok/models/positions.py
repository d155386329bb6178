"""Segment-aware positions: where a row stands on the sequence and in its chunk, as features that a model may read.

Rotary positions count a stage's own rows. Of a stage that runs on chunks they hence say how many chunks lie between
two rows, and nothing of the nucleotides between them. Here a row reads the token that it begins at, with the periods
that DNA has (a codon, one and two turns of the double helix, a nucleosome), the length of the last chunk that is
complete when it is read, and, behind the upsampler, its place in its chunk.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from genotok.kernels.ragged import Ragged
from genotok.models.chunkers.routing import Boundaries

DNA_PERIODS = (3.0, 10.5, 21.0, 147.0)
GLOBAL_WAVES = tuple(4.0 ** (exponent + 1) for exponent in range(10))  # 4 to 2^20 tokens
PLACE_WAVES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # of places in a chunk and of lengths
PERIODS = ("fixed", "learned")
GLOBAL_FEATURES = 2 * (len(DNA_PERIODS) + len(GLOBAL_WAVES) + len(PLACE_WAVES)) + 1
PLACE_FEATURES = 4 * len(PLACE_WAVES) + 2


@dataclass(frozen=True)
class Places:
    """Where the rows of a stage stand, (T,) int64 each.

    Attributes:
        token: the 0-based token of its sequence that a row begins at.
        length: tokens of the chunk that a row knows of: of the one before it in a causal model, 0 where there is
            none, and otherwise of its own; 0 in the outermost stage, whose rows are tokens.
        end: tokens of the sequence that the row belongs to.
    """

    token: Tensor
    length: Tensor
    end: Tensor

    @classmethod
    def of_tokens(cls, ragged: Ragged) -> "Places":
        """Those of the outermost stage."""
        return cls(ragged.positions, torch.zeros_like(ragged.positions), ragged.lengths[ragged.sequence_ids])

    def of_chunks(self, boundaries: Boundaries, chunk_layout: Ragged, causal: bool) -> "Places":
        """Those of the rows inside, one a chunk."""
        rows = boundaries.chunk_rows(chunk_layout)
        token, end = self.token[rows], self.end[rows]
        if causal:
            length = (token - token.roll(1)).index_fill(0, chunk_layout.first_rows, 0)
        else:
            last = chunk_layout.last_rows
            length = token.roll(-1).index_copy(0, last, end[last]) - token
        return Places(token, length.clamp(min=0), end)  # those that only fill the layout up lie in any order

    def in_chunks(self, chunks: "Places", boundaries: Boundaries) -> tuple[Tensor, Tensor]:
        """For each row of this stage: tokens from its chunk's beginning to it, and the length the chunk knows of."""
        chunk = boundaries.chunk_of_row
        return (self.token - chunks.token[chunk]).clamp(min=0), chunks.length[chunk]


class GlobalPositions(nn.Module):
    """Adds what a row reads of its token and of the chunk that it knows of.

    Args:
        width: features a row.
        periods: `fixed`, or `learned` from the DNA periods on.
    """

    def __init__(self, width: int, periods: str):
        super().__init__()
        log_periods = torch.tensor(DNA_PERIODS).log()
        if periods == "learned":
            self.log_periods = nn.Parameter(log_periods)
        else:
            self.register_buffer("log_periods", log_periods)
        self.out = nn.Linear(GLOBAL_FEATURES, width)

    def forward(self, x: Tensor, token: Tensor, length: Tensor) -> Tensor:
        """(T, D) rows, their (T,) tokens and chunk lengths, to (T, D) float32."""
        with torch.autocast(x.device.type, enabled=False):
            periodic = waves(token, self.log_periods.exp())
            features = [periodic, waves(token, GLOBAL_WAVES), length_features(length)]
            return x.float() + self.out(torch.cat(features, -1))


class ChunkPositions(nn.Module):
    """Adds what a row reads of its place in its chunk, and of the length that the chunk knows of.

    Args:
        width: features a row.
    """

    def __init__(self, width: int):
        super().__init__()
        self.out = nn.Linear(PLACE_FEATURES, width)

    def forward(self, x: Tensor, place: Tensor, length: Tensor) -> Tensor:
        """(T, D) rows, their (T,) places and chunk lengths, to (T, D) float32."""
        with torch.autocast(x.device.type, enabled=False):
            return x.float() + self.out(torch.cat([length_features(place), length_features(length)], -1))


def waves(position: Tensor, periods: Tensor | tuple[float, ...]) -> Tensor:
    """Cosines and sines of a position under some periods, (T, 2 W) float32; exact to a millionth of a turn.

    Args:
        position: (T,) int64.
        periods: (W,).
    """
    periods = _on_device(periods, position.device) if isinstance(periods, tuple) else periods.double()
    turns = position[:, None].double() / periods
    angle = (2 * math.pi * (turns - turns.detach().floor())).float()
    return torch.cat([angle.cos(), angle.sin()], -1)


@cache
def _on_device(periods: tuple[float, ...], device: torch.device) -> Tensor:
    """(W,) float64; copied to the device once."""
    return torch.tensor(periods, dtype=torch.float64, device=device)


def length_features(length: Tensor) -> Tensor:
    """(T,) int64 to (T, 2 W + 1) float32: waves, and the logarithm, since lengths have no bound."""
    return torch.cat([waves(length, PLACE_WAVES), length.float().log1p()[:, None]], -1)

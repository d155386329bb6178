"""Adaptive merging: a row that resembles the rows before it joins their chunk."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from genotok.kernels.linear_scan import linear_scan
from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache
from genotok.models.chunkers.length_limits import choose_starts
from genotok.models.chunkers.routing import Boundaries

SHARPNESS = 2.0  # slope of the probability in standard deviations, at the start of training
LEAST_VARIANCE = 1e-4  # of distances, which lie between 0 and 1; steadier ones count as all the same


@dataclass
class MergeCache(Cache):
    """The memory of merging chunks.

    Attributes:
        memory: (B, D) float32, the fading sum of the keys so far.
        moments: (B, 2) float64, the sums of the distances so far and of their squares.
        position: (B,) int64, of the row that comes next.
        since: (B,) int64, the rows of the last chunk so far.
    """

    memory: Tensor
    moments: Tensor
    position: Tensor
    since: Tensor


class MergeChunker(nn.Module):
    """Similarity-driven merging with a threshold that adapts to each sequence, and limits on the length.

    1. Similarity. Every row is projected to a key. A fading memory sums the keys of the rows before it in its
       sequence, m_t = a m_{t-1} + key_t with a learned a, and the distance of a row is
       d_t = (1 - cos(m_{t-1}, key_t)) / 2.
    2. Adaptive threshold. d_t is standardised by the mean and the variance of the distances of its sequence so far,
       d_1 to d_t: what matters is whether the row differs more than rows of this sequence do. The probability of
       a boundary is sigmoid(sharpness * (standardised d_t - offset)), sharpness and offset learned. The offset
       sets the share of boundaries whatever the scale of the states, so the ratio loss can steer it.
    3. Limits. Rows with a probability over 1/2 are candidates; `choose_starts` begins a chunk at the first
       candidate that leaves the chunk before it at least `min_length` rows long, and after `max_length` rows in any
       case.

    All three look at no later row. The choice itself has no gradient; the probabilities receive theirs from the
    ratio loss, from the upsampler's straight-through confidence, and from the moving average `ema`. Where a limit
    overrules the score, the probability stays what the score says: under `ema` a chunk that was cut off by
    `max_length` mostly continues the state of the chunk before it, and the confidence of the row is low.

    Args:
        width: features of a row.
        min_length: rows a chunk, at least 1; the last chunk of a sequence may be shorter.
        max_length: at least `min_length`.
    """

    def __init__(self, width: int, min_length: int, max_length: int):
        super().__init__()
        self.min_length, self.max_length = min_length, max_length
        self.key = nn.Linear(width, width, bias=False)
        self.memory = nn.Parameter(torch.empty(()))
        self.log_sharpness = nn.Parameter(torch.empty(()))
        self.offset = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin with the states themselves as keys, and chunks of about the geometric mean of the limits."""
        length = math.sqrt(self.min_length * self.max_length)
        # After a chunk's shortest length a candidate comes with this probability in each row.
        share = min(0.5, 1 / (length - self.min_length + 1))
        nn.init.eye_(self.key.weight)
        nn.init.constant_(self.memory, math.log(max(length, 2.0) - 1))
        nn.init.constant_(self.log_sharpness, math.log(SHARPNESS))
        nn.init.constant_(self.offset, NormalDist().inv_cdf(1 - share))

    def forward(self, x: Tensor, ragged: Ragged) -> Boundaries:
        """(T, D) states to boundaries; the first row of each sequence always begins a chunk."""
        return self._boundaries(self._distances(x, ragged)[0], ragged)

    def prefill(self, x: Tensor, ragged: Ragged) -> tuple[Boundaries, MergeCache]:
        """`forward`, and the cache behind each sequence's last row."""
        distance, memory = self._distances(x, ragged)
        boundaries, last = self._boundaries(distance, ragged), ragged.last_rows
        rows = torch.arange(ragged.total, device=x.device)
        latest = torch.where(boundaries.mask, rows, 0).cummax(0).values
        return boundaries, MergeCache(
            memory[last].detach(),
            _sums(distance, ragged)[last].double().detach(),
            ragged.lengths.clone(),
            last + 1 - latest[last],
        )

    def step(self, x: Tensor, cache: MergeCache) -> Boundaries:
        """Whether one further row (B, D) of each sequence begins a chunk."""
        key = self._keys(x)
        distance = _distance(cache.memory, key)
        cache.memory = self.memory.float().sigmoid() * cache.memory + key
        cache.moments = cache.moments + torch.stack([distance, distance.square()], -1)
        prob = self._probability(_standardised(distance, cache.moments, cache.position))
        long_enough, full = cache.since >= self.min_length, cache.since >= self.max_length
        begins = full | ((prob > 0.5) & long_enough)
        cache.position = cache.position + 1
        cache.since = torch.where(begins, 1, cache.since + 1)
        return Boundaries(prob, begins, Ragged.uniform(len(x), 1, x.device))

    def _boundaries(self, distance: Tensor, ragged: Ragged) -> Boundaries:
        score = _standardised(distance, _sums(distance, ragged), ragged.positions.clamp(min=1))
        prob = self._probability(score).index_fill(0, ragged.first_rows, 1.0)
        mask = choose_starts(prob > 0.5, ragged, self.min_length, self.max_length)
        return Boundaries(prob, mask, ragged)

    def _probability(self, standardised: Tensor) -> Tensor:
        return (self.log_sharpness.exp() * (standardised - self.offset)).sigmoid()

    def _keys(self, x: Tensor) -> Tensor:
        return normalize(self.key(x).float(), dim=-1)

    def _distances(self, x: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        """Distances (T,) float32 from 0 to 1, 0 at the first row of each sequence, which nothing precedes; and
        the fading sums (T, D) of the keys up to each row."""
        key = self._keys(x)
        log_decay = logsigmoid(self.memory.float()).expand(len(x), 1)
        memory = linear_scan(log_decay, key[:, None], ragged.sequence_ids)[:, 0]
        distance = _distance(memory[:-1], key[1:])
        return torch.cat([distance.new_zeros(1), distance]).index_fill(0, ragged.first_rows, 0.0), memory


def _distance(memory: Tensor, key: Tensor) -> Tensor:
    """(T,) of (T, D) keys from the memories of the rows in front of them."""
    return (0.5 - 0.5 * (normalize(memory, dim=-1) * key).sum(-1)).clamp(0, 1)


def _sums(distance: Tensor, ragged: Ragged) -> Tensor:
    """(T, 2), the sums of the distances of a sequence up to each row, and of their squares."""
    moments = torch.stack([distance, distance.square()], -1)[:, None]
    steady = distance.new_zeros(len(distance), 1)
    return linear_scan(steady, moments, ragged.sequence_ids)[:, 0]


def _standardised(distance: Tensor, sums: Tensor, count: Tensor) -> Tensor:
    """(T,) distances less their mean, over their standard deviation, both over the sequence up to each row.

    Args:
        distance: (T,).
        sums: (T, 2) of the distances up to each row and of their squares.
        count: (T,) how many there are. The first row of a sequence does not count, since its distance is none.
    """
    mean, mean_square = (sums / count[:, None]).unbind(-1)
    variance = (mean_square - mean.square()).clamp(min=0)
    return ((distance - mean) / (variance + LEAST_VARIANCE).sqrt()).float()

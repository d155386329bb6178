"""What a model remembers of the rows it has read, so that the next row costs one step.

Every part with a memory offers, beside `forward(x, ragged) -> y`:

- `prefill(x, ragged) -> (y, cache)`: the same pass, which also keeps what each sequence's last row leaves behind.
- `step(x, cache) -> y`: one further row (B, D) for each of the B sequences of the cache, which is brought up to
  date in place.

A part of its own kind derives its cache from `Cache`. Caches hold no gradients; run steps under `torch.no_grad`.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged


@dataclass
class Cache:
    """The memory of B sequences: fields are tensors (B, ...), caches, lists of caches, or None.

    Some of the sequences are stepped alone through `part = cache.select(rows)`, a step with `part`, and
    `cache.put(rows, part)`.
    """

    def select(self, rows: Tensor) -> "Cache":
        """The memory of the sequences `rows` (R,) int64."""
        return type(self)(**{item.name: _select(getattr(self, item.name), rows) for item in fields(self)})

    def put(self, rows: Tensor, part: "Cache") -> None:
        """Take over the memory of the sequences `rows` (R,), all different, from what `select` gave."""
        for item in fields(self):
            _put(getattr(self, item.name), rows, getattr(part, item.name))

    @property
    def bytes(self) -> int:
        """The memory taken, in bytes."""
        return sum(_bytes(getattr(self, item.name)) for item in fields(self))


def _select(value: Any, rows: Tensor) -> Any:
    if isinstance(value, list):
        return [_select(part, rows) for part in value]
    if isinstance(value, Cache):
        return value.select(rows)
    return None if value is None else value[rows]


def _put(value: Any, rows: Tensor, part: Any) -> None:
    if isinstance(value, list):
        for one, other in zip(value, part, strict=True):
            _put(one, rows, other)
    elif isinstance(value, Cache):
        value.put(rows, part)
    elif value is not None:
        value[rows] = part.to(value.dtype)


def _bytes(value: Any) -> int:
    if isinstance(value, list):
        return sum(_bytes(part) for part in value)
    return value.nbytes if isinstance(value, Tensor) else value.bytes if isinstance(value, Cache) else 0


class KeyValueStore:
    """Keys and values of B sequences of different length; under a window, of the last rows alone.

    Row p of a sequence lies in slot p modulo the capacity. The capacity grows by doubling up to `window` + 1.

    Args:
        keys, values: (T, H, E) packed rows to begin with.
        ragged: their layout.
        window: how many earlier rows a query sees; -1 for all.
    """

    def __init__(self, keys: Tensor, values: Tensor, ragged: Ragged, window: int):
        self.limit = window + 1 if window >= 0 else None
        self.lengths = ragged.lengths.clone()
        self.longest = ragged.max_seqlen  # at least the longest length: known without asking the device
        self.capacity = self._at_most_limit(self.longest)
        rows = (self._positions(self.lengths) + ragged.first_rows[:, None]).clamp(min=0)
        self.keys, self.values = keys.detach()[rows], values.detach()[rows]

    def append(self, keys: Tensor, values: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Add one row to each of R sequences.

        Args:
            keys, values: (R, H, E).
            rows: (R,) int64 the sequences, all different; None for all B of them.

        Returns:
            Keys and values (R, C, H, E) that the added rows see, themselves included, and (R, C) bool, which of
            the slots hold one.
        """
        if self.longest >= self.capacity and self.capacity != self.limit:
            self._grow()
        everyone = torch.arange(len(self.lengths), device=keys.device) if rows is None else rows
        slots = self.lengths[everyone] % self.capacity
        self.keys[everyone, slots] = keys.to(self.keys.dtype)
        self.values[everyone, slots] = values.to(self.values.dtype)
        self.lengths[everyone] += 1
        self.longest += 1
        used = min(self.longest, self.capacity)
        chosen = slice(None) if rows is None else rows
        filled = self._positions(self.lengths[everyone])[:, :used] >= 0
        return self.keys[chosen, :used], self.values[chosen, :used], filled

    def _positions(self, lengths: Tensor) -> Tensor:
        """(R, C) int64: the latest position that each slot may hold; negative in an empty slot."""
        last = lengths[:, None] - 1
        return last - (last - torch.arange(self.capacity, device=lengths.device)) % self.capacity

    def _at_most_limit(self, capacity: int) -> int:
        return capacity if self.limit is None else min(capacity, self.limit)

    def _grow(self) -> None:
        self.longest = int(self.lengths.max())
        if self.longest < self.capacity:
            return
        old, self.capacity = self.capacity, self._at_most_limit(max(2 * self.capacity, 16))
        for name in ("keys", "values"):
            part = getattr(self, name)
            larger = part.new_zeros(part.shape[0], self.capacity, *part.shape[2:])
            larger[:, :old] = part
            setattr(self, name, larger)


@dataclass
class AttentionCache(Cache):
    """Rotated keys, and values; a selection of sequences shares the memory, so that a step copies no history.

    Attributes:
        store: of all sequences.
        rows: (B,) int64 the sequences of the store that this cache stands for; None for all.
    """

    store: KeyValueStore
    rows: Tensor | None = None

    @property
    def positions(self) -> Tensor:
        """(B,) int64, the position of the row that comes next in each sequence."""
        return self.store.lengths if self.rows is None else self.store.lengths[self.rows]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add a row to each sequence and return what it sees; see `KeyValueStore.append`."""
        return self.store.append(keys, values, self.rows)

    def select(self, rows: Tensor) -> "AttentionCache":
        """A view of the sequences `rows`."""
        return AttentionCache(self.store, rows if self.rows is None else self.rows[rows])

    def put(self, rows: Tensor, part: "AttentionCache") -> None:
        """Nothing is left to do: the selection wrote to the same memory."""

    @property
    def bytes(self) -> int:
        """The memory taken by the store, in bytes."""
        return self.store.keys.nbytes + self.store.values.nbytes


@dataclass
class Mamba2Cache(Cache):
    """Mamba-2's memory.

    Attributes:
        conv: (B, K - 1, C), the convolution's last inputs, oldest first.
        state: (B, H, N, P) float32.
    """

    conv: Tensor
    state: Tensor


@dataclass
class StackCache(Cache):
    """One cache a block."""

    blocks: list[Cache]


@dataclass
class RoutingCache(Cache):
    """The router's memory: `query` (B, D), that of each sequence's last row."""

    query: Tensor


@dataclass
class StaticCache(Cache):
    """The memory of chunks of a fixed length: `position` (B,) int64, that of the row that comes next."""

    position: Tensor


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


@dataclass
class EMACache(Cache):
    """The upsampler's memory: `value` (B, D) float32, the upsampled state of each sequence's last chunk."""

    value: Tensor


@dataclass
class StageCache(Cache):
    """A stage's memory; all but the encoder's are None in the innermost stage.

    Attributes:
        encoder: of the blocks before the chunker.
        chunker: of the chunker.
        inner: of the stage inside, which has read one row a chunk.
        upsampler: of the upsampler.
        decoder: of the blocks behind it.
    """

    encoder: Cache
    chunker: Cache | None = None
    inner: "StageCache | None" = None
    upsampler: Cache | None = None
    decoder: Cache | None = None

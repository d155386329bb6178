"""The keys and values that attention remembers of sequences of different length."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.models.cache import Cache, advanced


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
        self.capacity, self.reserved = self._at_most_limit(self.longest), False
        rows = (self.positions(self.lengths) + ragged.first_rows[:, None]).clamp(min=0)
        self.keys, self.values = keys.detach()[rows], values.detach()[rows]

    def append(
        self, keys: Tensor, values: Tensor, rows: Tensor | None, stepped: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add one row to each of R sequences.

        Args:
            keys, values: (R, H, E).
            rows: (R,) int64 the sequences, all different; None for all B of them.
            stepped: (R,) bool, the sequences that remember it: of others it lies where the next row comes to lie,
                and no query but this one sees it. None for all.

        Returns:
            Keys and values (R, C, H, E) that the added rows see, themselves included, and (R, C) bool, which of
            the slots hold one.
        """
        if self.longest >= self.capacity and self.capacity != self.limit and not self.reserved:
            self._grow()
        everyone = torch.arange(len(self.lengths), device=keys.device) if rows is None else rows
        slots = self.lengths[everyone] % self.capacity
        self.keys[everyone, slots] = keys.to(self.keys.dtype)
        self.values[everyone, slots] = values.to(self.values.dtype)
        filled = self.positions(self.lengths[everyone] + 1)
        self.lengths = advanced(self.lengths, everyone, stepped)
        self.longest += 1
        used = self.capacity if self.reserved else min(self.longest, self.capacity)
        chosen = slice(None) if rows is None else rows
        return self.keys[chosen, :used], self.values[chosen, :used], filled[:, :used] >= 0

    def positions(self, lengths: Tensor) -> Tensor:
        """(R, C) int64: the latest position that each slot may hold; negative in an empty slot."""
        last = lengths[:, None] - 1
        return last - (last - torch.arange(self.capacity, device=lengths.device)) % self.capacity

    def _at_most_limit(self, capacity: int) -> int:
        return capacity if self.limit is None else min(capacity, self.limit)

    def reserve(self, rows: int) -> bool:
        """See that `rows` more rows of each sequence fit, and let steps see all slots; whether memory was added."""
        self.reserved = True
        if self.capacity == self.limit:
            return False
        self.longest = int(self.lengths.max())
        needed = self._at_most_limit(self.longest + rows)
        if self.limit is not None and self.limit <= 4 * needed:
            needed = self.limit  # at once, so that it is for good
        if needed <= self.capacity:
            return False
        self._enlarge(needed)
        return True

    def _grow(self) -> None:
        self.longest = int(self.lengths.max())
        if self.longest >= self.capacity:
            self._enlarge(self._at_most_limit(max(2 * self.capacity, 16)))

    def _enlarge(self, capacity: int) -> None:
        old, self.capacity = self.capacity, capacity
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

    def append(
        self, keys: Tensor, values: Tensor, stepped: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add a row to each sequence and return what it sees; see `KeyValueStore.append`."""
        return self.store.append(keys, values, self.rows, stepped)

    def select(self, rows: Tensor) -> "AttentionCache":
        """A view of the sequences `rows`."""
        return AttentionCache(self.store, rows if self.rows is None else self.rows[rows])

    def put(self, rows: Tensor, part: "AttentionCache") -> None:
        """Nothing is left to do: the selection wrote to the same memory."""

    def reserve(self, rows: int) -> bool:
        """See `KeyValueStore.reserve`."""
        return self.store.reserve(rows)

    def tensors(self) -> Iterator[tuple[object, str]]:
        """Those of the store."""
        return iter([(self.store, name) for name in ("keys", "values", "lengths")])

    @property
    def bytes(self) -> int:
        """The memory taken by the store, in bytes."""
        return self.store.keys.nbytes + self.store.values.nbytes

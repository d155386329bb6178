"""What a model remembers of the rows it has read, so that the next row costs one step.

Every part with a memory offers, beside `forward(x, ragged) -> y`:

- `prefill(x, ragged) -> (y, cache)`: the same pass, which also keeps what each sequence's last row leaves behind.
- `step(x, cache) -> y`: one further row (B, D) for each of the B sequences of the cache, which is brought up to
  date in place. Mixers take `stepped` (B,) bool as well: the memory of other sequences stays as it is.

A part of its own kind derives its cache from `Cache`. Caches hold no gradients; run steps under `torch.no_grad`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged

STEP_AT_ONCE = 1 << 22  # numbers of the histories of long convolutions that a step multiplies at once


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

    def held(self) -> "Cache":
        """The memory of a part that is no mixer, as it is now, for `keep`.

        A step gives such a cache new tensors and leaves those as they are.
        """
        return type(self)(**{item.name: _held(getattr(self, item.name)) for item in fields(self)})

    def keep(self, stepped: Tensor, before: "Cache") -> None:
        """Undo a step of all sequences in those that are not `stepped` (B,) bool, from what `held` gave before it."""
        for item in fields(self):
            name = item.name
            setattr(self, name, _kept(stepped, getattr(self, name), getattr(before, name)))

    def reserve(self, rows: int) -> bool:
        """See that `rows` further rows of each sequence fit, so that steps up to then ask the host nothing.

        Returns:
            Whether memory was added. Costs a host synchronisation for each part that grows with the sequence.
        """
        return sum(_reserve(getattr(self, item.name), rows) for item in fields(self)) > 0

    def tensors(self) -> Iterator[tuple[object, str]]:
        """Where steps read and write: objects and the names of their tensors."""
        for item in fields(self):
            yield from _tensors(self, item.name)

    @property
    def bytes(self) -> int:
        """The memory taken, in bytes."""
        return sum(_bytes(getattr(self, item.name)) for item in fields(self))


def _held(value: Any) -> Any:
    if isinstance(value, list):
        return [_held(part) for part in value]
    return value.held() if isinstance(value, Cache) else value


def _kept(stepped: Tensor, value: Any, before: Any) -> Any:
    if isinstance(value, list):
        return [_kept(stepped, *parts) for parts in zip(value, before, strict=True)]
    if isinstance(value, Cache):
        value.keep(stepped, before)
        return value
    if value is None:
        return None
    return torch.where(stepped.view(-1, *[1] * (value.ndim - 1)), value, before)


def _reserve(value: Any, rows: int) -> bool:
    parts = value if isinstance(value, list) else [value]
    return sum(part.reserve(rows) for part in parts if isinstance(part, Cache)) > 0


def _tensors(holder: object, name: str) -> Iterator[tuple[object, str]]:
    value = getattr(holder, name)
    if isinstance(value, Tensor):
        yield holder, name
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, Cache):
            yield from part.tensors()


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
        self.lengths = _advanced(self.lengths, everyone, stepped)
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


def _advanced(lengths: Tensor, rows: Tensor, stepped: Tensor | None) -> Tensor:
    """(B,) int64: one more of the sequences `rows` (R,) that are `stepped` (R,) bool."""
    return lengths.index_add(0, rows, torch.ones_like(rows) if stepped is None else stepped.long())


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


class ConvolutionStore:
    """What long convolutions have read of B sequences of different length, and their taps, from which the next row
    of each is a dot product.

    Row p of a sequence lies in slot p; empty slots hold 0. The capacity grows by doubling.

    Args:
        inputs: for each of F convolutions, (T, D) packed rows to begin with.
        taps: (F, L, D) for a longest sequence of L rows, the newest tap first.
        ragged: the layout of the rows.
        write_taps: gives the (F, L, D) taps for L rows, or refuses.
        limit: the largest capacity that it is doubled to.
    """

    def __init__(
        self,
        inputs: list[Tensor],
        taps: Tensor,
        ragged: Ragged,
        write_taps: Callable[[int], Tensor],
        limit: int,
    ):
        self.inputs = torch.stack([ragged.to_padded(rows.detach().float()) for rows in inputs])
        self.taps, self.write_taps, self.limit = taps.detach(), write_taps, limit
        self.lengths = ragged.lengths.clone()
        self.longest = ragged.max_seqlen  # at least the longest length: known without asking the device
        self.reserved = False

    @property
    def capacity(self) -> int:
        """Rows for which there is room in each sequence."""
        return self.inputs.shape[2]

    def make_room(self, rows: Tensor | None) -> None:
        """See that one more row of the sequences `rows` (R,), None for all of them, can be read."""
        if self.longest < self.capacity or self.reserved:
            return
        self.longest = int(self.lengths.max())
        needed = 1 + (self.longest if rows is None else int(self.lengths[rows].max()))
        if needed > self.capacity:
            self._enlarge(max(needed, min(2 * self.capacity, self.limit)))

    def reserve(self, rows: int) -> bool:
        """See that `rows` more rows of each sequence fit, and let steps see all slots; whether memory was added."""
        self.reserved = True
        needed, old = int(self.lengths.max()) + rows, self.capacity
        if needed > old:
            self._enlarge(needed)
        self.longest = self.capacity
        return needed > old

    def _enlarge(self, capacity: int) -> None:
        old, self.taps = self.capacity, self.write_taps(capacity)
        larger = self.inputs.new_zeros(*self.inputs.shape[:2], capacity, self.inputs.shape[3])
        larger[:, :, :old] = self.inputs
        self.inputs = larger

    def convolve(self, convolution: int, x: Tensor, rows: Tensor | None) -> Tensor:
        """What one convolution gives at the next row of the sequences `rows`; adds its input x (R, D).

        Returns:
            (R, D) float32.
        """
        inputs, taps = self.inputs[convolution], self.taps[convolution]
        everyone = torch.arange(len(self.lengths), device=x.device) if rows is None else rows
        places = self.lengths[everyone]
        inputs[everyone, places] = x.float()
        chosen = slice(None) if rows is None else rows
        at_once, out = max(1, STEP_AT_ONCE // x.numel()), torch.zeros_like(x, dtype=torch.float32)
        for first in range(0, min(self.longest + 1, self.capacity), at_once):
            slots = slice(first, min(first + at_once, self.longest + 1, self.capacity))
            back = places[:, None] - torch.arange(slots.start, slots.stop, device=x.device)
            # Slots behind the row are empty, so that any tap will do.
            out += (inputs[chosen, slots] * taps[back.clamp(min=0)]).sum(1)
        return out

    def advance(self, rows: Tensor | None, stepped: Tensor | None = None) -> None:
        """Count the added row of the sequences `rows` once all convolutions have read it; `stepped` as in a step."""
        everyone = torch.arange(len(self.lengths), device=self.lengths.device) if rows is None else rows
        self.lengths = _advanced(self.lengths, everyone, stepped)
        self.longest += 1


@dataclass
class HyenaCache(Cache):
    """Hyena's memory; a selection of sequences shares the store, so that a step copies no history.

    Attributes:
        conv: (B, K - 1, C), the short convolution's last inputs, oldest first.
        store: of the long convolutions of all sequences.
        rows: (B,) int64 the sequences of the store that this cache stands for; None for all.
    """

    conv: Tensor
    store: ConvolutionStore
    rows: Tensor | None = None

    def make_room(self) -> None:
        """See that each sequence can be a row longer; see `ConvolutionStore.make_room`."""
        self.store.make_room(self.rows)

    def convolve(self, convolution: int, x: Tensor) -> Tensor:
        """See `ConvolutionStore.convolve`."""
        return self.store.convolve(convolution, x, self.rows)

    def advance(self, stepped: Tensor | None = None) -> None:
        """See `ConvolutionStore.advance`."""
        self.store.advance(self.rows, stepped)

    def select(self, rows: Tensor) -> "HyenaCache":
        """A view of the store for the sequences `rows`, and a copy of the few rows of the short convolution."""
        return HyenaCache(self.conv[rows], self.store, rows if self.rows is None else self.rows[rows])

    def put(self, rows: Tensor, part: "HyenaCache") -> None:
        """Take over the short convolution's rows; the selection wrote to the same store."""
        self.conv[rows] = part.conv.to(self.conv.dtype)

    def reserve(self, rows: int) -> bool:
        """See `ConvolutionStore.reserve`."""
        return self.store.reserve(rows)

    def tensors(self) -> Iterator[tuple[object, str]]:
        """`conv`, and those of the store that steps write to."""
        return iter([(self, "conv"), (self.store, "inputs"), (self.store, "lengths")])

    @property
    def bytes(self) -> int:
        """The memory taken by the store of all sequences, its taps included, and by `conv`, in bytes."""
        return self.conv.nbytes + self.store.inputs.nbytes + self.store.taps.nbytes


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
class MeanStateCache(Cache):
    """The chunk in hand: `total` (B, D) float32, the sum of its rows so far, and `rows` (B,) int64, their number."""

    total: Tensor
    rows: Tensor


@dataclass
class CrossStateCache(Cache):
    """The chunk in hand, as its first row sees it.

    Attributes:
        first: (B, D), the chunk's first row.
        query: (B, H, E), its query.
        highest: (B, H) float32, the highest score so far.
        total: (B, H) float32, the sum of exp(score - highest).
        summed: (B, H, E) float32, that of exp(score - highest) * value.
    """

    first: Tensor
    query: Tensor
    highest: Tensor
    total: Tensor
    summed: Tensor


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


@dataclass
class PositionCache(Cache):
    """Where the chunk in hand stands, (B,) int64 each.

    Attributes:
        begun: the 0-based token that it begins at.
        before: tokens of the chunk before it, 0 where there is none.
    """

    begun: Tensor
    before: Tensor

    def step(self, token: Tensor, begins: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Move on to the rows at `token` (B,), with which chunks begin in the sequences `begins`.

        Returns:
            (B,) both, for each row its place in its chunk and the length of the chunk before; then (M,) both, for
            the chunks that begin their tokens and the same lengths.
        """
        self.before = self.before.index_copy(0, begins, (token - self.begun)[begins])
        self.begun = self.begun.index_copy(0, begins, token[begins])
        return (token - self.begun, self.before), (self.begun[begins], self.before[begins])


@dataclass
class StageCache(Cache):
    """A stage's memory; all but the encoder's are None in the innermost stage.

    Attributes:
        encoder: of the blocks before the chunker.
        chunker: of the chunker.
        states: of what makes the chunks' states; None where they are rows.
        inner: of the stage inside, which has read one row a chunk.
        upsampler: of the upsampler.
        decoder: of the blocks behind it.
        places: of the chunk in hand, in models that read positions.
        tokens: (B,) int64, how many tokens the outermost stage has read, in models that read positions.
    """

    encoder: Cache
    chunker: Cache | None = None
    states: Cache | None = None
    inner: "StageCache | None" = None
    upsampler: Cache | None = None
    decoder: Cache | None = None
    places: PositionCache | None = None
    tokens: Tensor | None = None

    def of_chunks(self) -> list[Cache]:
        """What each row of this stage changes besides the blocks' caches."""
        return [part for part in (self.chunker, self.states, self.upsampler, self.places) if part is not None]

"""What a model remembers of the rows it has read, so that the next row costs one step.

Every part with a memory offers, beside `forward(x, ragged) -> y`:

- `prefill(x, ragged) -> (y, cache)`: the same pass, which also keeps what each sequence's last row leaves behind.
- `step(x, cache) -> y`: one further row (B, D) for each of the B sequences of the cache, which is brought up to
  date in place. Mixers take `stepped` (B,) bool as well: the memory of other sequences stays as it is.

Each part derives its cache, which stands beside it, from `Cache`. Caches hold no gradients; run steps under
`torch.no_grad`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


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


def advanced(lengths: Tensor, rows: Tensor, stepped: Tensor | None) -> Tensor:
    """(B,) int64: one more of the sequences `rows` (R,) that are `stepped` (R,) bool."""
    return lengths.index_add(0, rows, torch.ones_like(rows) if stepped is None else stepped.long())


@dataclass
class StackCache(Cache):
    """One cache a block."""

    blocks: list[Cache]


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

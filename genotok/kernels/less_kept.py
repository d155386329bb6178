"""Values that the backward pass works out again from others, which are kept anyway, and does not keep until then.

An operation keeps the tensors that its backward pass reads. Within `less_kept` it keeps, in place of a value that
`remember` has been told of, how that value came to be: a function and what the function reads, which may itself be
such a value. In the backward pass a value is worked out when it is first read, by the same operations on the same
numbers and so to the same bits, and let go with its last reader.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from genotok.kernels.backend import reference_is_asked_for, reference_kernels


class Level(IntEnum):
    """What is worked out again: nothing; what only moves memory; and the products of rows with weights as well."""

    NOTHING = 0
    LIGHT = 1
    PRODUCTS = 2


@contextmanager
def less_kept(level: Level) -> Iterator[None]:
    """Within the block, operations do not keep the remembered values of this level for their backward passes.

    Values are held until the end of the block, which should therefore be no larger than a layer. Blocks may be
    nested: each knows its own values alone. Gradients of gradients do not pass through what is worked out again.
    """
    if level is Level.NOTHING or not torch.is_grad_enabled():
        yield
        return
    values = _Values(level)
    token = _current.set(values)
    try:
        with saved_tensors_hooks(values.kept_for, _read):
            yield
    finally:
        _current.reset(token)
        values.forget()  # torch holds the hooks as long as what they gave it


def remember(value: Tensor, function: Callable[..., Tensor], *inputs: Any, product: bool = False) -> None:
    """Say that `function(*inputs)` gives the value again, in memory that is laid out as that of the value.

    Args:
        value: that later operations read.
        function: the same numbers for the same inputs, in the autocast of the call.
        inputs: of which tensors stay as they are until the backward pass; they are held if the value is read there.
        product: whether the work is a product of rows with weights; else it is cheap.
    """
    if torch.compiler.is_compiling():
        return
    values = _current.get()
    if values is not None and (values.level is Level.PRODUCTS or not product):
        values.add(value, function, inputs)


def cheap(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """`function(*inputs)`, remembered: work that only moves memory."""
    value = function(*inputs)
    remember(value, function, *inputs)
    return value


def product(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """`function(*inputs)`, remembered: a product of rows with weights, such as a linear layer."""
    value = function(*inputs)
    remember(value, function, *inputs, product=True)
    return value


class _Again:
    """How a value came to be, and in the backward pass the value as long as others will read it."""

    __slots__ = ("autocast", "function", "inputs", "readers", "reference", "value")

    def __init__(self, function: Callable[..., Tensor], inputs: list[Any], device: str):
        self.function, self.inputs = function, inputs
        self.autocast = device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        self.reference = reference_is_asked_for()  # backward passes run in threads of their own
        self.readers, self.value = 0, None

    def expect_reader(self) -> None:
        if not self.readers:
            for part in self.inputs:
                if isinstance(part, _View):
                    part.again.expect_reader()
        self.readers += 1

    @torch.no_grad()
    def read(self) -> Tensor:
        self.readers -= 1
        value = self.value
        if value is None:
            inputs = [_read(part) for part in self.inputs]
            device, enabled, dtype = self.autocast
            # A cast of a weight that is made here must not be taken for one of a forward pass, which has a gradient.
            autocast = torch.autocast(device, dtype, enabled, cache_enabled=False)
            with autocast, reference_kernels() if self.reference else nullcontext():
                value = self.function(*inputs)
        self.value = value if self.readers > 0 else None
        return value


class _View(NamedTuple):
    """A part of a value that will be worked out again."""

    again: _Again
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


class _Values:
    """What is remembered within one block, by the address of its memory; values are held, so that it is theirs."""

    def __init__(self, level: Level):
        self.level = level
        self._known: dict[int, tuple[Tensor, _Again]] = {}

    def add(self, value: Tensor, function: Callable[..., Tensor], inputs: tuple) -> None:
        place = _place(value)
        if any(isinstance(part, Tensor) and _place(part) == place for part in inputs):
            return  # the value is an input itself, as that of a cast to what it is
        parts = [self._seen(part.detach()) if isinstance(part, Tensor) else part for part in inputs]
        self._known[place] = value, _Again(function, parts, value.device.type)

    def forget(self) -> None:
        """Let go of the values."""
        self._known.clear()

    def kept_for(self, tensor: Tensor) -> Tensor | _View:
        """What an operation keeps in place of a tensor that its backward pass reads."""
        kept = self._seen(tensor)
        if kept is not tensor:
            kept.again.expect_reader()
        return kept

    def _seen(self, tensor: Tensor) -> Tensor | _View:
        known = self._known.get(_place(tensor)) if self._known and tensor.numel() else None
        if known is None:
            return tensor
        return _View(known[1], tensor.size(), tensor.stride(), tensor.storage_offset())


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _read(kept: Any) -> Any:
    """What was kept, or what it stands for."""
    if not isinstance(kept, _View):
        return kept
    return kept.again.read().as_strided(kept.size, kept.stride, kept.offset)


_current: ContextVar[_Values | None] = ContextVar("values of the layer that runs", default=None)

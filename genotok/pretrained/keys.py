"""What the translations of configurations and state dicts share."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from genotok.errors import InputError


def needed_values(family: str, config: dict[str, Any], keys: Iterable[str]) -> list[int]:
    """The values of `keys`, which are whole numbers.

    Raises:
        InputError: one is missing or no whole number.
    """
    values = [config.get(key) for key in keys]
    for key, value in zip(keys, values, strict=True):
        if type(value) is not int:
            raise InputError(f"{key}: {value!r} should be a whole number in a configuration of {family}")
    return values


def rename(family: str, state: dict[str, Tensor], rules: list[tuple[str, str]]) -> dict[str, Tensor]:
    """Give each tensor the name that the first matching rule (pattern, replacement) makes of its own.

    Raises:
        InputError: no rule matches a key.
    """
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in rules:
            name, found = re.subn(pattern, replacement, key)
            if found:
                renamed[name] = tensor
                break
        else:
            raise InputError(f"the checkpoint holds the key {key!r}, which is not one of {family}'s")
    return renamed


def share_embedding(state: dict[str, Tensor]) -> None:
    """Fill in the one of a tied embedding and head that was not stored."""
    for here, there in (("head.weight", "embedding.weight"), ("embedding.weight", "head.weight")):
        if there in state:
            state.setdefault(here, state[there])


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal; on the meta device, where there are no numbers, whether their shapes are."""
    if one.is_meta or other.is_meta:
        return one.shape == other.shape
    return torch.equal(one, other)

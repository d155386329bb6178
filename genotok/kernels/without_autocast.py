"""Operations that stay in the precision of their own tensors, whatever the autocast around them."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def without_autocast(operation: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate an operation whose first argument is a tensor, so that autocast does not reach inside.

    A cast to float32 alone is not enough: autocast turns the operands of a matrix product back to bfloat16.
    """

    @wraps(operation)
    def run(first: Tensor, *others, **named) -> Result:
        with torch.autocast(first.device.type, enabled=False):
            return operation(first, *others, **named)

    return run

"""A moving average of the weights, which is often better than the weights of any one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from genotok.training.sharing import local


class Average:
    """The exponential moving average of those parameters that learn; one of no decay stays empty.

    At step t (from 1) the average keeps min(decay, (1 + t) / (10 + t)) of itself, so that the first weights, drawn by
    chance, are soon forgotten.

    Args:
        model: whose parameters; where ranks hold parts of them, each averages its own.
        decay: from 0 (no average is made) to less than 1.

    Attributes:
        values: by the parameter's name.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        learning = {name: p for name, p in model.named_parameters() if p.requires_grad} if decay else {}
        self._parameters = learning
        self.values = {name: parameter.detach().clone() for name, parameter in learning.items()}

    @torch.no_grad()
    def update(self, step: int, left_out: Tensor | None = None) -> None:
        """Take in the weights after a step.

        Args:
            step: its number, 1-based.
            left_out: () on the device, 1 where the step is left out and so does not count, else 0; None for 0.
        """
        taken = 1 - min(self.decay, (1 + step) / (10 + step))
        values = [local(value) for value in self.values.values()]
        weights = [local(self._parameters[name]) for name in self.values]
        if left_out is not None and values:
            changes = torch._foreach_sub(weights, values)
            torch._foreach_mul_(changes, taken * (1 - left_out))
            torch._foreach_add_(values, changes)
            return
        for value, weight in zip(values, weights, strict=True):
            value.lerp_(weight, taken)

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """A block in which the model has the average for its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.values.items():
            average, weight = local(value), local(self._parameters[name])
            before: Tensor = weight.clone()
            weight.copy_(average)
            average.copy_(before)

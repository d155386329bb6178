"""Low-rank adaptation (arXiv 2106.09685): a trained weight W stays, and a product of two thin matrices is learned.

An adapted layer computes with W + alpha / rank * up @ down, where `up` begins at zero, so that training begins at the
model as it was. The layer's `weight` is that sum for whoever reads it, kernels included. A saved model has the sum as
its weight and knows nothing of adapters.
"""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.training.config import LoraConfig

ORIGINAL = ".parametrizations.weight.original"
DOWN, UP = ".parametrizations.weight.0.down", ".parametrizations.weight.0.up"


class LowRank(nn.Module):
    """What is added to a weight (N, D): `scale` x `up` (N, R) @ `down` (R, D), in float32."""

    def __init__(self, weight: Tensor, rank: int, scale: float):
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight."""
        with torch.autocast(weight.device.type, enabled=False):
            return adapted(weight, self.up, self.down, self.scale)


def adapted(weight: Tensor, up: Tensor, down: Tensor, scale: float) -> Tensor:
    """W + scale * up @ down."""
    return weight + scale * (up @ down)


def add_adapters(model: GenomicLM, config: LoraConfig, heads_learn: bool) -> None:
    """Adapt linear layers of the backbone; only the adapters learn from now on.

    Args:
        model: with trained weights.
        config: rank, scale and the layers.
        heads_learn: whether the heads of the task `prediction` learn as well.

    Raises:
        InputError: no layer has a name like a target.
    """
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    layers = {name: part for name, part in layers.items() if name.startswith("backbone.")}
    chosen = set()
    for pattern in config.targets:
        fitting = [name for name in layers if fnmatchcase(name, pattern)]
        if not fitting:
            raise InputError(
                f"lora.targets: no linear layer of the backbone has a name like {pattern!r}; names are such as "
                f"{', '.join(list(layers)[:3])}"
            )
        chosen.update(fitting)
    model.requires_grad_(False)
    for name in sorted(chosen):
        layer = layers[name]
        register_parametrization(
            layer, "weight", LowRank(layer.weight, config.rank, config.alpha / config.rank)
        )
    for name, parameter in model.named_parameters():
        if name.endswith((DOWN, UP)) or (heads_learn and name.startswith("heads.")):
            parameter.requires_grad_()


def merged(state: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """The weights of a model without adapters that computes the same.

    Args:
        state: whole weights by name, of an adapted model.
        config: the one that it was adapted with.
    """
    found = {}
    for name, value in state.items():
        if name.endswith(ORIGINAL):
            layer = name.removesuffix(ORIGINAL)
            up, down = state[f"{layer}{UP}"], state[f"{layer}{DOWN}"]
            found[f"{layer}.weight"] = adapted(value, up, down, config.alpha / config.rank)
        elif not name.endswith((DOWN, UP)):
            found[name] = value
    return found

"""The gradients and the learning rates of each stage of a model."""

import torch
from torch import Tensor, nn

from genotok.training.sharing import gradient_norm


def gradient_norms(optimizer: torch.optim.Optimizer, stages: int) -> Tensor:
    """(S,) float32: the norm of the gradients of each stage, outermost first; 0 for one that is frozen.

    Groups of the optimizer say theirs in `stage`. Where parameters are spread over ranks, every rank must call this,
    and all get the norms of the whole.
    """
    of_stage: dict[int, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        of_stage.setdefault(group["stage"], []).extend(group["params"])
    found = [[p for p in of_stage.get(stage, []) if p.grad is not None] for stage in range(stages)]
    norms = {stage: gradient_norm(parameters) for stage, parameters in enumerate(found) if parameters}
    none = torch.zeros_like(next(iter(norms.values()))) if norms else torch.zeros(())
    return torch.stack([norms.get(stage, none) for stage in range(stages)])


def learning_rates(optimizer: torch.optim.Optimizer, stages: int) -> list[float]:
    """The learning rate of each stage, outermost first; 0 for one that is frozen."""
    rates = {group["stage"]: group["lr"] for group in optimizer.param_groups}
    return [rates.get(stage, 0.0) for stage in range(stages)]

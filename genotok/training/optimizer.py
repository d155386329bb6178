"""AdamW with a learning rate for each stage, and weight decay only where it belongs."""

import math
from typing import Any

import torch
from torch import nn

from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.training.config import TrainConfig
from genotok.training.curriculum import values_of
from genotok.training.distributed import is_in_parts


def make_optimizer(model: GenomicLM, config: TrainConfig) -> torch.optim.AdamW:
    """Build AdamW with two groups a stage: matrices that decay, and the rest; frozen parameters are in none.

    Each group carries its `stage`, and in `base_lr` the learning rate at the plateau.

    Raises:
        InputError: every parameter is frozen.
    """
    factors = stage_factors(model, config)
    decaying = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    groups: dict[tuple[int, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            stage = name.count("inner.") if name.startswith("backbone.") else 0
            in_parts = is_in_parts(parameter)  # AdamW takes no mixture of both
            groups.setdefault((stage, name in decaying, in_parts), []).append(parameter)
    settings = []
    for (stage, decays, _), parameters in sorted(groups.items()):
        rate = config.learning_rate * factors[stage]
        decay = config.weight_decay if decays else 0.0
        rates = {"lr": rate, "base_lr": rate, "weight_decay": decay}
        settings.append({"params": parameters, "stage": stage, **rates})
    if not settings:
        raise InputError(
            "every parameter of the model is frozen, and nothing is left to train; see freeze, "
            "freeze_backbone and main_network.freeze"
        )
    fused = model.device.type == "cuda"
    return torch.optim.AdamW(settings, betas=(config.beta1, config.beta2), fused=fused)


def stage_factors(model: GenomicLM, config: TrainConfig) -> list[float]:
    """Factor on the learning rate of each stage, outermost first.

    Unless given, sqrt(tokens of the stage for each token of the innermost * D_innermost / D_stage): outer
    stages see more tokens a step and are narrower, and bear larger steps (H-Net, arXiv 2507.07955, eq. 11,
    without its constant for text).

    Raises:
        InputError: the number of factors or of chunk lengths is not that of the stages, or a length is out of
            reach.
    """
    widths, lengths = model.config.d_model, expected_chunk_lengths(model, config)
    if config.stage_learning_rates is None:
        return [math.sqrt(math.prod(lengths[s:]) * widths[-1] / widths[s]) for s in range(len(widths))]
    if len(config.stage_learning_rates) != len(widths):
        raise InputError(
            f"stage_learning_rates: {len(config.stage_learning_rates)} values for {len(widths)} stages"
        )
    return config.stage_learning_rates


def expected_chunk_lengths(model: GenomicLM, config: TrainConfig) -> list[float]:
    """The target of each chunking stage, and of those that are told a length of their own this length.

    Of a schedule the last targets count.
    """
    chunkers = model.config.chunkers
    for targets in values_of(config.target_chunk_length):
        _check_targets(chunkers, targets)
    own = [chunker.get("length", chunker.get("mean_length")) for chunker in chunkers]
    return [length or target for length, target in zip(own, targets, strict=True)]


def _check_targets(chunkers: list[dict[str, Any]], targets: list[float]) -> None:
    if len(targets) != len(chunkers):
        raise InputError(
            f"target_chunk_length: {len(targets)} values for the {len(chunkers)} chunking stages of the model"
        )
    for s, (chunker, target) in enumerate(zip(chunkers, targets, strict=True)):
        if chunker["kind"] == "merge" and not chunker["min_length"] <= target <= chunker["max_length"]:
            raise InputError(
                f"target_chunk_length: {target} is out of reach for stage {s}, whose chunks hold "
                f"{chunker['min_length']} to {chunker['max_length']} tokens"
            )

"""A loss in which labels count differently, as soft-masked repeats do in GPN (doi 10.1073/pnas.2311219120)."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from genotok.tokenizers import IGNORED_LABEL


def weighted_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, task: str, label_smoothing: float = 0.0
) -> Tensor:
    """The mean cross-entropy in nats over labels, each with its weight; 0 where no label counts.

    Args:
        logits: (B, L, V).
        labels: (B, L), -100 where nothing is to be predicted.
        weights: (B, L) of the labels.
        task: `lm`, where the logits at t are held against the label at t + 1, or `mlm`.
        label_smoothing: share of the labels that is spread over the vocabulary.
    """
    if task == "lm":
        logits, labels, weights = logits[:, :-1], labels[:, 1:], weights[:, 1:]
    losses = cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED_LABEL,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    counted = weights.flatten() * (labels.flatten() != IGNORED_LABEL)
    return (losses * counted).sum() / total_weight(counted)


def total_weight(weights: Tensor) -> Tensor:
    """Their sum; the smallest number where it is 0."""
    return weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

"""The mean cross-entropy of tokens, as a model is trained on it."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from genotok.kernels.transfers import to_device
from genotok.tokenizers import IGNORED_LABEL


def token_loss(
    logits: Tensor, labels: Tensor, lengths: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy in nats of (B, L) labels under (B, L, V) logits; 0 when nothing is to be predicted."""
    labels = labels.long()
    if lengths is not None:
        places = torch.arange(labels.shape[1], device=labels.device)
        lengths = to_device(lengths, labels.device)
        labels = labels.masked_fill(places >= lengths[:, None], IGNORED_LABEL)
    total = cross_entropy(
        logits.float().flatten(0, 1),
        labels.flatten(),
        ignore_index=IGNORED_LABEL,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return total / (labels != IGNORED_LABEL).sum().clamp(min=1)


def next_token_loss(
    logits: Tensor, labels: Tensor, lengths: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy in nats of `labels[:, 1:]` under `logits[:, :-1]`; 0 when nothing is to be predicted."""
    shorter = None if lengths is None else lengths - 1
    return token_loss(logits[:, :-1], labels[:, 1:], shorter, label_smoothing)

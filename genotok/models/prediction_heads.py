"""From the states after the final norm to classes or numbers, of a sequence or of each of its tokens."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, gelu

from genotok.errors import InputError
from genotok.kernels.ragged import Ragged
from genotok.kernels.transfers import to_device
from genotok.kernels.without_autocast import without_autocast
from genotok.tokenizers import IGNORED_LABEL

KINDS = ("classification", "multi_label", "regression")
PLACES = ("sequence", "nucleotide")
POOLS = ("mean", "last", "attention")


@dataclass
class HeadConfig:
    """One prediction head.

    Attributes:
        kind: `classification` (one of N classes), `multi_label` (N answers, yes or no), `regression` (N numbers).
        outputs: N; may be left out where `classes` are named.
        classes: names of the classes of a classification, in the order of its outputs.
        per: `sequence`, or `nucleotide` for one prediction a token.
        pool: how the states of a sequence become one: their `mean`, the `last`, or a mean weighted by a learned
            `attention`. Tokens that stand for no certain nucleotide do not take part.
        weight: of this head's loss in the sum.
        hidden: width of a layer with GELU in front of the outputs; 0 for none.
        dropout: share of the features in front of the outputs that training hides.
        label_smoothing: share of a label that training spreads evenly over all answers.
        class_weights: factor on the training loss of each class, or of each yes; None for 1. Those of classes
            should be 1 on average over the training rows, so that learning rates keep their meaning.
    """

    kind: str
    outputs: int = 0
    classes: list[str] | None = None
    per: str = "sequence"
    pool: str = "mean"
    weight: float = 1.0
    hidden: int = 0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    class_weights: list[float] | None = None

    def check(self, where: str) -> None:
        """Refuse what cannot be built; `where` stands in front of the key.

        Raises:
            InputError: names the key.
        """
        for key, known in (("kind", KINDS), ("per", PLACES), ("pool", POOLS)):
            if getattr(self, key) not in known:
                raise InputError(
                    f"{where}.{key}: {getattr(self, key)!r} should be {' or '.join(map(repr, known))}"
                )
        self._check_outputs(where)
        if type(self.hidden) is not int or self.hidden < 0:
            raise InputError(f"{where}.hidden: {self.hidden!r} should be a whole number, at least 0")
        if not _is_number(self.weight) or self.weight <= 0:
            raise InputError(f"{where}.weight: {self.weight!r} should be a number, more than 0")
        for key in ("dropout", "label_smoothing"):
            value = getattr(self, key)
            if not _is_number(value) or not 0 <= value < 1:
                raise InputError(f"{where}.{key}: {value!r} should be a number from 0 to less than 1")
        if self.kind == "regression" and self.label_smoothing:
            raise InputError(f"{where}.label_smoothing: a regression has no labels to smooth")
        self._check_class_weights(where)

    def _check_class_weights(self, where: str) -> None:
        weights = self.class_weights
        if weights is None:
            return
        if self.kind == "regression":
            raise InputError(f"{where}.class_weights: a regression has no classes")
        numbers = isinstance(weights, list) and all(_is_number(weight) and weight > 0 for weight in weights)
        if not numbers or len(weights) != self.outputs:
            raise InputError(
                f"{where}.class_weights: {weights!r} should be {self.outputs} numbers, more than 0"
            )

    def _check_outputs(self, where: str) -> None:
        names = self.classes
        if names is not None:
            if self.kind != "classification":
                raise InputError(f"{where}.classes: only a classification has classes")
            if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
                raise InputError(f"{where}.classes: {names!r} should be a list of names")
            if len(set(names)) != len(names):
                raise InputError(f"{where}.classes: {names!r} should be different names")
            self.outputs = self.outputs or len(names)
        if type(self.outputs) is not int or self.outputs < 1:
            raise InputError(f"{where}.outputs: {self.outputs!r} should be a whole number, at least 1")
        if names is not None and self.outputs != len(names):
            raise InputError(f"{where}.outputs: {self.outputs} for {len(names)} classes")
        if self.kind == "classification" and self.outputs < 2:
            raise InputError(
                f"{where}.outputs: a classification has at least 2; one yes or no is 'multi_label'"
            )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def check_head_name(name: Any) -> None:
    """Refuse a name that cannot be a key of weights or of losses.

    Raises:
        InputError: names it.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f"heads: {name!r} should be a name of letters, digits and underscores")
    if name in ("lm", "mlm", "prediction") or hasattr(nn.ModuleDict, name) or name == "training":
        raise InputError(f"heads: the name {name!r} has a meaning of its own; choose another")


class PredictionHead(nn.Module):
    """Pools the states of a sequence, or takes each of them, and gives the outputs.

    Args:
        config: what is predicted.
        width: features of a state.
    """

    def __init__(self, config: HeadConfig, width: int):
        super().__init__()
        self.config = config
        pools = config.per == "sequence" and config.pool == "attention"
        self.query = nn.Linear(width, 1, bias=False) if pools else None
        self.hidden = nn.Linear(width, config.hidden) if config.hidden else None
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden or width, config.outputs)

    def initialise(self) -> None:
        """Weights N(0, 0.02), biases 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, states: Tensor, ragged: Ragged, certain: Tensor) -> Tensor:
        """Predict.

        Args:
            states: (T, D) after the final norm.
            ragged: their layout.
            certain: (T,) bool, the tokens that stand for certain nucleotides.

        Returns:
            (B, N) float32, or (T, N) where the head predicts each token. The pooled state of a sequence without
            any certain nucleotide is 0.
        """
        if self.config.per == "sequence":
            states = pooled(states, ragged, certain, self.config.pool, self.query)
        if self.hidden is not None:
            states = gelu(self.hidden(states))
        return self.out(self.dropout(states)).float()


@without_autocast
def pooled(
    states: Tensor, ragged: Ragged, certain: Tensor, pool: str, query: nn.Linear | None = None
) -> Tensor:
    """One state a sequence, (B, D) float32, of those of its certain nucleotides; 0 where it has none.

    Args:
        states: (T, D).
        ragged: their layout.
        certain: (T,) bool, the tokens that take part.
        pool: `mean`, `last` or `attention`.
        query: of `attention`, D features to a score.
    """
    padded, taken = ragged.to_padded(states.float()), ragged.to_padded(certain)
    if pool == "last":
        places = torch.arange(1, taken.shape[1] + 1, device=taken.device)
        weights = (places == (places * taken).amax(1, keepdim=True)).float()
    elif pool == "mean":
        weights = taken.float()
    else:
        scores = query(padded)[..., 0]
        weights = scores.masked_fill(~taken, torch.finfo(scores.dtype).min).softmax(1)
    weights = weights * taken
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-6)
    return (weights[:, None] @ padded)[:, 0]


def checked_labels(name: str, config: HeadConfig, predictions: Tensor, labels: Tensor) -> Tensor:
    """Labels on the device of the predictions, (B,) or (B, L) int64 of classes, else as the predictions, float32.

    Args:
        name: of the head.
        config: of the head.
        predictions: (B, N) or (B, L, N).
        labels: as above; the last axis may be left out where N is 1.

    Raises:
        InputError: the shape, the type or a class does not fit.
    """
    shape, found = predictions.shape, tuple(labels.shape)
    if config.kind == "classification":
        if found != shape[:-1] or labels.is_floating_point() or labels.is_complex():
            raise InputError(
                f"labels.{name}: should be whole numbers of the shape {tuple(shape[:-1])}, "
                f"not {labels.dtype} of the shape {found}"
            )
        beyond = (labels >= config.outputs) | ((labels < 0) & (labels != IGNORED_LABEL))
        if labels.device.type == "cpu" and beyond.any():
            raise InputError(
                f"labels.{name}: {labels[beyond][0].item()} is no class from 0 to {config.outputs - 1}; "
                f"{IGNORED_LABEL} stands for an unknown one"
            )
        return labels.to(predictions.device, torch.long)
    if found == shape[:-1] and config.outputs == 1:
        labels = labels[..., None]
    if labels.shape != shape:
        raise InputError(f"labels.{name}: should be of the shape {tuple(shape)}, not {found}")
    return labels.to(predictions.device, torch.float32)


def known_labels(config: HeadConfig, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Which labels count, bool in their shape; arguments as those of `prediction_loss`."""
    known = labels != IGNORED_LABEL if config.kind == "classification" else ~labels.isnan()
    if lengths is not None and config.per == "nucleotide":
        places = torch.arange(labels.shape[1], device=labels.device)
        inside = places < to_device(lengths, labels.device)[:, None]
        known = known & (inside if known.ndim == 2 else inside[..., None])
    return known


def prediction_loss(
    config: HeadConfig,
    predictions: Tensor,
    labels: Tensor,
    lengths: Tensor | None = None,
    smooth: bool = False,
) -> Tensor:
    """The mean loss over all labels that are known; 0 when none is.

    Cross-entropy in nats for classes, binary cross-entropy in nats for yes and no, the squared error for numbers.

    Args:
        config: of the head.
        predictions: (B, N) or (B, L, N).
        labels: (B,) or (B, L) int64, -100 where unknown, of classes; else (B, N) or (B, L, N) float, NaN where
            unknown.
        lengths: (B,), what lies behind them does not count.
        smooth: whether to smooth the labels by `label_smoothing` and to weigh classes by `class_weights`.
    """
    smoothing = config.label_smoothing if smooth else 0.0
    weights = config.class_weights if smooth else None
    if weights is not None:
        weights = to_device(torch.tensor(weights), predictions.device)
    known = known_labels(config, labels, lengths)
    if config.kind == "classification":
        flat = labels.masked_fill(~known, IGNORED_LABEL).flatten()
        loss = cross_entropy(
            predictions.flatten(0, -2),
            flat,
            weight=weights,
            ignore_index=IGNORED_LABEL,
            reduction="sum",
            label_smoothing=smoothing,
        )
        return loss / known.sum().clamp(min=1)
    wanted = labels.masked_fill(~known, 0.0)
    if config.kind == "multi_label":
        wanted = wanted * (1 - smoothing) + smoothing / 2
        losses = binary_cross_entropy_with_logits(predictions, wanted, reduction="none", pos_weight=weights)
    else:
        losses = (predictions - wanted).square()
    return losses.masked_fill(~known, 0.0).sum() / known.sum().clamp(min=1)

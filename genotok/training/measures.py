"""How well a model does its task, in numbers for `metrics.jsonl`."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genotok.models import GenomicLM
from genotok.models.language_model import token_loss
from genotok.models.likelihood import token_log_likelihood
from genotok.models.prediction_heads import HeadConfig, prediction_loss
from genotok.shards.sampler import Batch
from genotok.tokenizers import IGNORED_LABEL
from genotok.training.distributed import Ranks
from genotok.training.labelled import LabelledBatch
from genotok.training.precision import autocast


@dataclass(frozen=True)
class Measure:
    """The main number of a task: its key in `metrics.jsonl`, its unit for people, and how many there are a nat."""

    key: str
    unit: str
    per_nat: float = 1.0


MEASURES = {
    "lm": Measure("bits_per_base", "bits/base", 1 / math.log(2)),
    "mlm": Measure("nats_per_masked_token", "nats/masked token"),
    "prediction": Measure("loss", "loss"),
}


@torch.no_grad()
def validation_record(
    model: GenomicLM,
    batches: Sequence[Batch] | Sequence[LabelledBatch],
    task: str,
    precision: str,
    ranks: Ranks | None = None,
) -> dict[str, Any]:
    """The numbers of a validation.

    Args:
        model: in evaluation mode.
        batches: what to look at.
        task: `lm`: bits a base. `mlm`: nats a masked token, and the share of these that is found. `prediction`:
            the weighted loss, and of each head the loss and of classes the share that is right.
        precision: `auto`, `fp32` or `bf16`.
        ranks: that share the batches of `lm` and `mlm`; each passes as many, since weights may lie in parts. Heads
            are measured by every rank.
    """
    ranks = ranks or Ranks(0, 1, model.device)
    if task == "prediction":
        return _of_heads(model, batches, precision)
    nats, right, count = 0.0, 0, 0
    for batch, counts in ranks.shares(batches):
        batch = batch.to(model.device)
        with autocast(model.device, precision):
            if task == "lm":
                likelihood, _ = token_log_likelihood(model, batch, "lm")
                nats -= likelihood.double().sum().item() * counts
                count += batch.nucleotides * counts
            else:
                inputs = {"lengths": batch.lengths, "boundary_inputs": batch.boundary_inputs}
                logits = model(batch.input_ids, task="mlm", **inputs).logits
                masked = int((batch.labels != IGNORED_LABEL).sum()) * counts
                nats += token_loss(logits, batch.labels, batch.lengths).item() * masked
                right += int((logits.argmax(-1) == batch.labels).sum()) * counts
                count += masked
    nats, right, count = ranks.sums([nats, right, count])
    measure = MEASURES[task]
    record = {measure.key: nats / count * measure.per_nat}
    return record if task == "lm" else record | {"masked_accuracy": right / count}


def _of_heads(model: GenomicLM, batches: Sequence[LabelledBatch], precision: str) -> dict[str, Any]:
    record, total = {}, 0.0
    for name, (predictions, labels) in predict(model, batches, precision).items():
        head = model.config.heads[name]
        loss = prediction_loss(head, predictions, labels).item()
        total += head.weight * loss
        record[f"loss_{name}"] = loss
        if head.kind == "classification":
            known = labels != IGNORED_LABEL
            right = (predictions.argmax(-1) == labels)[known]
            record[f"accuracy_{name}"] = right.float().mean().item() if len(right) else None
    return {"loss": total, **record}


@torch.no_grad()
def predict(
    model: GenomicLM, batches: Iterable[LabelledBatch], precision: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """What the heads say about labelled sequences, beside the labels, on the CPU.

    Returns:
        By the head's name (R, N) float32 predictions and (R,) int64 or (R, N) float32 labels, with a row a
        sequence, or a row a token where the head predicts each.
    """
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for batch in batches:
        with autocast(model.device, precision):
            inputs = batch.to(model.device)
            output = model(inputs.input_ids, task="prediction", lengths=inputs.lengths)
        for name, labels in batch.labels.items():
            found.setdefault(name, []).append(
                _rows(model.config.heads[name], output.predictions[name].cpu(), labels, batch.lengths)
            )
    return {name: tuple(map(torch.cat, zip(*parts, strict=True))) for name, parts in found.items()}


def _rows(head: HeadConfig, predictions: Tensor, labels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    if head.per == "sequence":
        return predictions, labels
    inside = torch.arange(predictions.shape[1]) < lengths[:, None]
    return predictions[inside], labels[inside]

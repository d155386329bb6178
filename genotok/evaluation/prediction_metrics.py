"""`genotok evaluate --task prediction`: how well a model's heads predict the labels of a table."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit, softmax
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    average_precision_score,
    matthews_corrcoef,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.models import GenomicLM
from genotok.models.prediction_heads import HeadConfig, prediction_loss
from genotok.progress import Progress, progress
from genotok.tokenizers import IGNORED_LABEL
from genotok.training.labelled import LabelledBatch, LabelledTable
from genotok.training.measures import predict
from genotok.training.precision import choose_device


def evaluate_predictions(
    model_folder: Path,
    table: Path,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    sequence: str = "sequence",
    max_length: int | None = None,
    batch_size: int = 16,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
) -> dict[str, Any]:
    """Hold the heads of a model against the labels of a table.

    Args:
        model_folder: of the model.
        table: see `genotok.shards.tables.read_table`.
        columns: of each head, see `genotok.training.labelled.LabelledTable`; None where the columns are named as the
            heads are.
        sequence: the column with the sequences.
        max_length: letters of a sequence that are read; None for all.
        batch_size: sequences a batch.
        device, precision, threads: as everywhere.

    Returns:
        `rows`, hashes of model and table, and by head `kind`, `loss` and what `classification_metrics`,
        `multi_label_metrics` or `regression_metrics` give; None stands for what the labels leave undefined.

    Raises:
        InputError: the model has no heads, or the table does not fit.
    """
    torch.set_num_threads(threads)
    model = GenomicLM.from_pretrained(model_folder, choose_device(device))
    if not model.config.heads:
        raise InputError(f"{model_folder}: the model has no heads for the task 'prediction'")
    columns = columns or {name: name for name in model.config.heads}
    labelled = LabelledTable(table, model.config, columns, sequence, max_length)
    with progress("evaluate", len(labelled), "sequences") as bar:
        found = predict(model, _counted(labelled.in_order(batch_size), bar), precision)
    heads = {}
    for name, (predictions, labels) in found.items():
        head = model.config.heads[name]
        metrics = METRICS[head.kind](predictions.double().numpy(), labels.numpy(), head)
        heads[name] = {
            "kind": head.kind,
            "loss": prediction_loss(head, predictions, labels).item(),
            **metrics,
        }
    return {
        "task": "prediction",
        "model_sha256": model.content_hash(),
        "table_sha256": sha256_of(table),
        "rows": len(labelled),
        "heads": heads,
    }


def _counted(batches: Iterable[LabelledBatch], bar: Progress) -> Iterator[LabelledBatch]:
    for batch in batches:
        yield batch
        bar.advance(len(batch.lengths))


def classification_metrics(logits: np.ndarray, labels: np.ndarray, head: HeadConfig) -> dict[str, Any]:
    """Of one class of N a row.

    Args:
        logits: (R, N).
        labels: (R,), -100 where unknown.
        head: names the classes.

    Returns:
        `known` rows, `accuracy`, Matthews' correlation `mcc` (of all classes, as R_K), and `f1`, `auroc` and `auprc`:
        of class 1 where there are two, else the mean over the classes that occur. `classes` has one entry a class
        with its `count`, how often it is `predicted`, `precision`, `recall`, `f1`, and `auroc` and average precision
        `auprc` against all others.
    """
    logits, labels = logits[labels != IGNORED_LABEL], labels[labels != IGNORED_LABEL]
    count = logits.shape[1]
    if not len(labels):
        return {"known": 0}
    chosen, probability = logits.argmax(1), softmax(logits, axis=1)
    scores = precision_recall_fscore_support(labels, chosen, labels=range(count), zero_division=0)
    classes = []
    for k in range(count):
        entry = {
            "class": head.classes[k] if head.classes else k,
            "count": int((labels == k).sum()),
            "predicted": int((chosen == k).sum()),
        }
        entry |= {key: float(scores[place][k]) for place, key in enumerate(("precision", "recall", "f1"))}
        classes.append(entry | _ranking(labels == k, probability[:, k]))
    summarised = classes[1:] if count == 2 else [entry for entry in classes if entry["count"]]
    return {
        "known": len(labels),
        "accuracy": float((chosen == labels).mean()),
        "mcc": float(matthews_corrcoef(labels, chosen)),
        **{key: _mean(entry[key] for entry in summarised) for key in ("f1", "auroc", "auprc")},
        "classes": classes,
    }


def multi_label_metrics(logits: np.ndarray, labels: np.ndarray, head: HeadConfig) -> dict[str, Any]:
    """Of N answers yes or no a row.

    Args:
        logits: (R, N), of yes.
        labels: (R, N), 1, 0 or NaN where unknown.
        head: not looked at.

    Returns:
        The means over the outputs of `accuracy`, `mcc`, `f1` (of yes; the answer is yes from a probability of one
        half on), `auroc` and `auprc`; and these for each of the `outputs` with its number of `known` labels and of
        `yes`.
    """
    outputs = []
    for k in range(logits.shape[1]):
        known = ~np.isnan(labels[:, k])
        truth, probability = labels[known, k] == 1, expit(logits[known, k])
        entry = {"known": int(known.sum()), "yes": int(truth.sum())}
        if known.any():
            said = probability >= 0.5
            scores = precision_recall_fscore_support(truth, said, average="binary", zero_division=0)
            entry |= {"accuracy": float((said == truth).mean()), "mcc": float(matthews_corrcoef(truth, said))}
            entry |= {"f1": float(scores[2]), **_ranking(truth, probability)}
        outputs.append(entry)
    keys = ("accuracy", "mcc", "f1", "auroc", "auprc")
    return {**{key: _mean(entry.get(key) for entry in outputs) for key in keys}, "outputs": outputs}


def regression_metrics(numbers: np.ndarray, labels: np.ndarray, head: HeadConfig) -> dict[str, Any]:
    """Of N numbers a row.

    Args:
        numbers: (R, N).
        labels: (R, N), NaN where unknown.
        head: not looked at.

    Returns:
        The means over the outputs of `mse`, `pearson`, `spearman` and the coefficient of determination `r2`; and
        these for each of the `outputs` with its number of `known` labels.
    """
    outputs = []
    for k in range(numbers.shape[1]):
        known = ~np.isnan(labels[:, k])
        truth, found = labels[known, k].astype(float), numbers[known, k]
        entry = {"known": int(known.sum())}
        if known.any():
            entry["mse"] = float(mean_squared_error(truth, found))
        if len(np.unique(truth)) > 1:
            varies = len(np.unique(found)) > 1
            entry["pearson"] = float(pearsonr(truth, found)[0]) if varies else None
            entry["spearman"] = float(spearmanr(truth, found)[0]) if varies else None
            entry["r2"] = float(r2_score(truth, found))
        outputs.append(entry)
    keys = ("mse", "pearson", "spearman", "r2")
    return {**{key: _mean(entry.get(key) for entry in outputs) for key in keys}, "outputs": outputs}


METRICS = {
    "classification": classification_metrics,
    "multi_label": multi_label_metrics,
    "regression": regression_metrics,
}


def _ranking(truth: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    if truth.all() or not truth.any():
        return {"auroc": None, "auprc": None}
    return {
        "auroc": float(roc_auc_score(truth, scores)),
        "auprc": float(average_precision_score(truth, scores)),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None

"""What a run writes into `metrics.jsonl`: a line a step, and a line a data set and validation."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from genotok.models import GenomicLM
from genotok.shards.sampler import Batch
from genotok.training.distributed import Ranks
from genotok.training.labelled import LabelledBatch
from genotok.training.measures import MEASURES, validation_record
from genotok.training.objective import StepLosses


def train_record(
    losses: StepLosses, norm: float, rate: float, batch: Batch | LabelledBatch
) -> dict[str, Any]:
    """The numbers of one training step but those of its stages, see `genotok.training.stages.chunk_record`."""
    measure, heads = MEASURES[batch.task], {}
    if batch.task == "prediction":
        heads = {f"loss_{name}": loss for name, loss in losses.by_name.items()}
    return {
        **data_labels(batch),
        measure.key: losses.nats * measure.per_nat,
        **heads,
        "total_loss": losses.total,
        "ratio_loss": losses.ratio,
        "gradient_norm": norm,
        "learning_rate": rate,
    }


def data_labels(batch: Batch | LabelledBatch) -> dict[str, str]:
    """What a record says about the data set and the task of a batch; nothing where the run has one data set."""
    return {"data": batch.data, "task": batch.task} if batch.data else {}


def validation_records(
    model: GenomicLM, batches: Sequence[Batch | LabelledBatch], precision: str, ranks: Ranks
) -> list[dict[str, Any]]:
    """The numbers of each data set's batches; see `genotok.training.measures.validation_record`."""
    records = []
    for _, group in groupby(batches, key=lambda batch: batch.data):
        own = list(group)
        record = validation_record(model, own, own[0].task, precision, ranks)
        records.append(data_labels(own[0]) | record)
    return records


def one_record(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of several data sets in one record, a data set's name and a point in front of each."""
    found = {}
    for record in records:
        name = f"{record['data']}." if "data" in record else ""
        found |= {f"{name}{key}": value for key, value in record.items() if key not in ("data", "task")}
    return found

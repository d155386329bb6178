"""What a run reads: batches to train on, batches to validate with, and what they are known by."""

from dataclasses import dataclass

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.shards.manifest import read_manifest
from genotok.shards.masking import TRAINING, VALIDATION, Masking
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import Batch, TrainingBatches, batches_in_order, boundary_inputs
from genotok.tokenizers import Tokenizer, load_tokenizer
from genotok.training.columns import check_boundaries, cuts_by_given
from genotok.training.config import TrainConfig
from genotok.training.distributed import Ranks
from genotok.training.labelled import LabelledBatch, LabelledBatches, LabelledTable


@dataclass
class TrainingData:
    """What a run reads.

    Attributes:
        batches: to train on, without end; with `state` and `restore`.
        validation: all batches to validate with; none where there is nothing to.
        files: the split and the SHA-256 of each file, the identity of the data.
        unit: what progress counts, `bases` or `sequences`.
        units_a_step: how many of them an optimizer step reads.
    """

    batches: TrainingBatches | LabelledBatches
    validation: list[Batch] | list[LabelledBatch]
    files: list[list[str]]
    unit: str
    units_a_step: int

    def read_column(self, shards: str, column: str | None) -> None:
        """Have all batches bring a column of the shards along, see `TrainingBatches.column`."""
        self.batches.column = column
        if column is None or not self.validation:
            return
        dataset, done = ShardDataset(shards, "valid"), 0
        for batch in self.validation:
            places = [(done + row, False) for row in range(len(batch.lengths))]
            batch.boundary_inputs = boundary_inputs(dataset, column, places, self.batches.encode.tokenizer)
            done += len(places)


def training_data(config: TrainConfig, model: ModelConfig, task: str, ranks: Ranks) -> TrainingData:
    """Open the data of a run.

    Raises:
        InputError: they are missing, damaged, or do not fit the model, or a batch has no equal shares.
    """
    if config.batch_size % (ranks.size * config.accumulate):
        raise InputError(
            f"batch_size: {config.batch_size} cannot be shared evenly by {ranks.size} ranks with {config.accumulate} "
            f"micro batches each; take a multiple of {ranks.size * config.accumulate}"
        )
    if task == "prediction":
        return table_data(config, model, ranks)
    return shard_data(config, model, task, ranks)


def shard_data(config: TrainConfig, model: ModelConfig, task: str, ranks: Ranks) -> TrainingData:
    """The windows of shards, with tokens hidden where the task is `mlm`."""
    dataset = ShardDataset(config.shards, "train")
    tokenizer = load_tokenizer(model.tokenizer)
    dataset.manifest.check_serves(tokenizer, "model.tokenizer: is")
    check_boundaries(model, dataset.manifest, config.shards)
    training = masking_of(config, model, TRAINING) if task == "mlm" else None
    batches = TrainingBatches(
        dataset,
        config.batch_size,
        config.seed,
        config.both_strands,
        training,
        tokenizer,
        rank=ranks.rank,
        ranks=ranks.size,
    )
    validation = validation_batches(config, tokenizer)
    if task == "mlm":
        validation = masked_in_order(validation, masking_of(config, model, VALIDATION))
    files = [[file.split, file.sha256] for file in dataset.manifest.files]
    return TrainingData(batches, validation, files, "bases", config.batch_size * dataset.manifest.window)


def masking_of(config: TrainConfig, model: ModelConfig, stream: int) -> Masking:
    """The masks of a run; two streams choose different tokens."""
    tokenizer = load_tokenizer(model.tokenizer)
    return Masking(tokenizer, config.mask_probability, config.mask_span, config.seed, stream)


def masked_in_order(batches: list[Batch], masking: Masking) -> list[Batch]:
    """Batches with tokens hidden, the same ones every time; the key of a window is 0 and its number."""
    masked, done = [], 0
    for batch in batches:
        masked.append(masking.mask_batch(batch, [(0, done + row) for row in range(len(batch.lengths))]))
        done += len(batch.lengths)
    return masked


def validation_batches(config: TrainConfig, tokenizer: Tokenizer) -> list[Batch]:
    """The first windows of the split `valid` in a model's tokens; none when the shards have no such split."""
    batches: list[Batch] = []
    _, manifest = read_manifest(config.shards)
    if not any(file.split == "valid" for file in manifest.files):
        return batches
    dataset = ShardDataset(config.shards, "valid")
    for windows, batch in batches_in_order(dataset, config.batch_size, tokenizer):
        batches.append(batch)
        if len(batches) * len(windows) >= config.validation_windows:
            break
    return batches


def table_data(config: TrainConfig, model: ModelConfig, ranks: Ranks) -> TrainingData:
    """The rows of a table, and all of the table `valid`."""
    table, validation = config.table, []
    if cuts_by_given(model):
        raise InputError("chunkers[0].kind: 'given' cuts by boundaries of shards, and a table has none")
    settings = {"columns": table.labels, "sequence": table.sequence, "max_length": table.max_length}
    train = LabelledTable(table.train, model, **settings)
    batches = LabelledBatches(
        train, config.batch_size, config.seed, config.both_strands, ranks.rank, ranks.size
    )
    files = [["train", sha256_of(table.train)]]
    if table.valid is not None:
        validation = list(LabelledTable(table.valid, model, **settings).in_order(config.batch_size))
        files.append(["valid", sha256_of(table.valid)])
    return TrainingData(batches, validation, files, "sequences", config.batch_size)

"""What a run reads: batches to train on, batches to validate with, and what they are known by."""

from dataclasses import dataclass, replace

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.shards.manifest import read_manifest
from genotok.shards.masking import TRAINING, VALIDATION, Masking
from genotok.shards.order import check_ranks
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import Batch, TrainingBatches, batches_in_order, boundary_inputs
from genotok.tokenizers import Tokenizer, load_tokenizer
from genotok.training.columns import check_boundaries, column_for, cuts_by_given, has_entropies_of
from genotok.training.config import DataConfig, TrainConfig
from genotok.training.curriculum import changes_of, values_of
from genotok.training.distributed import Ranks
from genotok.training.entropies import calibrate
from genotok.training.labelled import LabelledBatch, LabelledBatches, LabelledTable
from genotok.training.mixture import DataSet, MixedBatches
from genotok.training.start import task_of


@dataclass
class TrainingData:
    """What a run reads.

    Attributes:
        batches: to train on, without end; with `state` and `restore`.
        files: the split and the SHA-256 of each file, in front of them the name where there are several data sets;
            the identity of the data.
    """

    batches: MixedBatches
    files: list[list[str]]

    @property
    def data_sets(self) -> list[DataSet]:
        """The data sets, one or more."""
        return self.batches.data_sets

    @property
    def validation(self) -> list[Batch | LabelledBatch]:
        """All batches to validate with, data set by data set; none where there is nothing to."""
        return [batch for part in self.data_sets for batch in part.validation]

    @property
    def unit(self) -> str:
        """What progress counts, `bases` or `sequences`."""
        return "sequences" if all(part.task == "prediction" for part in self.data_sets) else "bases"

    def units_before(self, step: int) -> int:
        """How many units the steps before one read, about."""
        if self.unit == "bases":
            return self.batches.letters_before(step)
        return sum(self.data_sets[self.batches.drawn(k)].batches.batch_size for k in range(step))

    @property
    def windows(self) -> list[DataSet]:
        """The data sets of shards."""
        return [part for part in self.data_sets if part.task != "prediction"]

    @property
    def predicts(self) -> bool:
        """Whether some data set is of the task `prediction`."""
        return any(part.task == "prediction" for part in self.data_sets)

    def read_columns(self, model: GenomicLM) -> None:
        """Have all batches bring along what the model reads of the shards, see `TrainingBatches.column`."""
        for part in self.windows:
            column = column_for(model, part.batches.dataset, part.task)
            if part.length is not None and column == "boundaries":
                raise InputError(
                    "window_length: a model that cuts by given boundaries reads windows as the shards hold them"
                )
            part.batches.column = column if part.length is None else None  # those of other windows are others
            if column is not None and part.validation:
                _add_column(part, column)

    def calibrate(self, model: GenomicLM) -> None:
        """Find the entropy threshold of a model in the first data set of shards."""
        part = self.windows[0]
        dataset = part.batches.dataset
        cached = part.batches.column == "entropies" or (
            part.task == "mlm" and has_entropies_of(model, dataset)
        )
        calibrate(model, dataset, cached)


def _add_column(part: DataSet, column: str) -> None:
    """Give the batches of a validation a column of their shards."""
    dataset, done = ShardDataset(part.batches.dataset.folder, "valid"), 0
    for batch in part.validation:
        places = [(done + row, False) for row in range(len(batch.lengths))]
        batch.boundary_inputs = boundary_inputs(dataset, column, places, part.batches.encode.tokenizer)
        done += len(places)


def training_data(config: TrainConfig, model: ModelConfig, task: str, ranks: Ranks) -> TrainingData:
    """Open the data of a run.

    Args:
        config: of the run.
        model: what reads them.
        task: of a run of one data set; each of several has its own.
        ranks: who share each batch, see `genotok.shards.sampler.TrainingBatches`.

    Raises:
        InputError: they are missing, damaged, or do not fit the model; a batch has no equal shares, or there are
            fewer windows than ranks.
    """
    data_sets, files = [], []
    for number, part in enumerate(config.data_sets):
        own = task if config.data is None else task_of(part, model, f"data[{number}].task")
        open_part = table_data if own == "prediction" else shard_data
        _check_shares(part.batch_size or config.batch_size, "batch_size:", config, ranks)
        opened, found = open_part(config, part, model, own, ranks)
        data_sets.append(opened)
        files += [[*([part.name] if config.data else []), *file] for file in found]
    return TrainingData(MixedBatches(data_sets, config.seed, config.loader_workers), files)


Files = list[list[str]]


def shard_data(
    config: TrainConfig, part: DataConfig, model: ModelConfig, task: str, ranks: Ranks
) -> tuple[DataSet, Files]:
    """The windows of shards, with tokens hidden where the task is `mlm`; and the split and SHA-256 of each file."""
    dataset = ShardDataset(part.shards, "train")
    tokenizer = load_tokenizer(model.tokenizer)
    where = f"data {part.name!r}: " if part.name else ""
    dataset.manifest.check_serves(tokenizer, f"{where}model.tokenizer: is")
    check_boundaries(model, dataset.manifest, part.shards)
    batches = TrainingBatches(
        dataset,
        part.batch_size or config.batch_size,
        config.seed,
        config.both_strands is not False,
        masking_of(config, model, TRAINING) if task == "mlm" else None,
        tokenizer,
        ranks.rank,
        ranks.size,
        config.soft_mask_weight,
    )
    validation = validation_batches(config, part, tokenizer)
    if task == "mlm":
        validation = masked_in_order(validation, masking_of(config, model, VALIDATION))
    validation = [replace(batch, task=task, data=part.name) for batch in validation]
    opened = DataSet(
        part.name,
        task,
        batches,
        validation,
        dataset.manifest.window,
        part.weight,
        config.window_length,
        None if part.batch_size else config.bases_per_step,
        config.mask_probability if task == "mlm" else None,
    )
    _check_batches(opened, config, ranks)
    return opened, [[file.split, file.sha256] for file in dataset.manifest.files]


def _check_shares(count: int, what: str, config: TrainConfig, ranks: Ranks) -> None:
    """Refuse a size of batches that ranks and their micro batches cannot share evenly."""
    shares = ranks.size * config.accumulate
    if count % shares:
        raise InputError(
            f"{what} {count} cannot be shared evenly by {ranks.size} ranks with {config.accumulate} micro batches "
            f"each; take a multiple of {shares}"
        )


def _check_batches(part: DataSet, config: TrainConfig, ranks: Ranks) -> None:
    """Refuse steps without a window, or with fewer than there are shares."""
    for step in changes_of(part.schedules, config.steps)[:-1]:
        reading = part.reading(step)
        if reading.count is not None:
            if reading.count == 0:
                raise InputError(
                    f"bases_per_step: is {config.bases_per_step}, less than a window of "
                    f"{reading.length or part.letters} letters, from step {step} on"
                )
            # They need not be shared evenly, since the loss is weighed by what each share has.
            shares = ranks.size * config.accumulate
            check_ranks(reading.count, f"bases_per_step: the windows of step {step} are", shares)
        windows = part.batches.windows_of(reading.length)
        check_ranks(len(windows), f"window_length: the windows of {reading.length} letters are", ranks.size)


def masking_of(config: TrainConfig, model: ModelConfig, stream: int) -> Masking:
    """The masks of a run; two streams choose different tokens."""
    probability = values_of(config.mask_probability)[-1]  # of validations; training has that of the step
    return Masking(load_tokenizer(model.tokenizer), probability, config.mask_span, config.seed, stream)


def masked_in_order(batches: list[Batch], masking: Masking) -> list[Batch]:
    """Batches with tokens hidden, the same ones every time; the key of a window is 0 and its number."""
    masked, done = [], 0
    for batch in batches:
        masked.append(masking.mask_batch(batch, [(0, done + row) for row in range(len(batch.lengths))]))
        done += len(batch.lengths)
    return masked


def validation_batches(config: TrainConfig, part: DataConfig, tokenizer: Tokenizer) -> list[Batch]:
    """The first windows of the split `valid` in a model's tokens; none when the shards have no such split."""
    batches: list[Batch] = []
    _, manifest = read_manifest(part.shards)
    if not any(file.split == "valid" for file in manifest.files):
        return batches
    dataset = ShardDataset(part.shards, "valid")
    for windows, batch in batches_in_order(dataset, part.batch_size or config.batch_size, tokenizer):
        batches.append(batch)
        if len(batches) * len(windows) >= config.validation_windows:
            break
    return batches


def table_data(
    config: TrainConfig, part: DataConfig, model: ModelConfig, task: str, ranks: Ranks
) -> tuple[DataSet, Files]:
    """The rows of a table, and all of the table `valid`; and the split and SHA-256 of each."""
    table, validation = part.table, []
    if cuts_by_given(model):
        raise InputError("chunkers[0].kind: 'given' cuts by boundaries of shards, and a table has none")
    settings = {"columns": table.labels, "sequence": table.sequence, "max_length": table.max_length}
    train, size = LabelledTable(table.train, model, **settings), part.batch_size or config.batch_size
    batches = LabelledBatches(train, size, config.seed, bool(config.both_strands), ranks.rank, ranks.size)
    files = [["train", sha256_of(table.train)]]
    if table.valid is not None:
        valid = LabelledTable(table.valid, model, **settings).in_order(size)
        validation = [replace(batch, data=part.name) for batch in valid]
        files.append(["valid", sha256_of(table.valid)])
    letters = sum(map(len, train.sequences)) / len(train)
    return DataSet(part.name, task, batches, validation, letters, part.weight), files

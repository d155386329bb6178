"""`genotok finetune`: from a table with labels to a trained head and how well it does on rows that it did not see."""

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.evaluation.bits_per_base import write_metrics
from genotok.evaluation.embeddings import Embedder
from genotok.evaluation.labelled_rows import LabelledRows
from genotok.evaluation.linear_probe import majority
from genotok.evaluation.probe import LabelledSplits, ProbeSettings, compare_on_parts, read_data
from genotok.evaluation.splits import hold_out
from genotok.models import GenomicLM, ModelConfig
from genotok.models.prediction_heads import check_head_name
from genotok.models.saved import CONFIG_NAME
from genotok.progress import progress
from genotok.settings import parse_settings
from genotok.shards.sampler import collate
from genotok.tokenizers import load_tokenizer
from genotok.training.config import TrainConfig
from genotok.training.labelled import LabelledTable
from genotok.training.loop import Trainer
from genotok.training.measures import predict
from genotok.training.precision import choose_device

RESULT = "test_metrics.json"
MEASURED_ROWS = 64
SHORTEST_CHUNK = 1.05


@dataclass
class FinetuneSettings:
    """How a model is fine-tuned; everything else is a setting of `genotok train`.

    Attributes:
        test_fraction, valid_fraction: shares of the rows that are held out where no table is given for them; 0 for
            no validation.
        seed: of splits, head, order and bootstrap.
        epochs: times that each training row is read, where `steps` is not set.
        head: name of the head.
        class_weights: whether rare classes, or rare answers yes, weigh more, in proportion to their rarity.
        draws: bootstrap samples.
        train: settings of `genotok train` that differ, keys of `table` with a dot in between.
    """

    test_fraction: float = 0.2
    valid_fraction: float = 0.1
    seed: int = 0
    epochs: float = 5.0
    head: str = "label"
    class_weights: bool = False
    draws: int = 1000
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_head_name(self.head)
        if not 0 < self.test_fraction <= 0.5:
            raise InputError(f"--test-fraction: {self.test_fraction} should be more than 0 and at most 0.5")
        if not 0 <= self.valid_fraction <= 0.5:
            raise InputError(f"--valid-fraction: {self.valid_fraction} should be from 0 to 0.5")
        if self.epochs <= 0 or self.draws < 1:
            raise InputError("--epochs and --draws: should be more than 0")


def finetune(
    model_folder: str | Path,
    table: Path,
    columns: Sequence[str],
    run: Path,
    resume: bool = False,
    restart_if_changed: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Split a table, train a model with a head for its labels, and hold it against the test rows.

    Args:
        model_folder, table, columns, run, settings: see `prepare_finetuning`.
        resume: go on from the latest checkpoint, if there is one.
        restart_if_changed: begin anew where that is of other settings or data.

    Returns:
        What `test_metrics.json` holds, built as the result of `genotok.evaluation.probe.probe`.

    Raises:
        InputError: a file, a column, a label or a setting does not fit.
    """
    prepared = prepare_finetuning(model_folder, table, columns, run, resume=resume, **settings)
    Trainer(prepared.config, run).run(resume, restart_if_changed)
    return prepared.finish()


def prepare_finetuning(
    model_folder: str | Path,
    table: Path,
    columns: Sequence[str],
    run: Path,
    test: Path | None = None,
    sequence: str = "sequence",
    kind: str = "auto",
    max_length: int | None = None,
    settings: FinetuneSettings | None = None,
    resume: bool = False,
) -> "Prepared":
    """Split a table into `tables/` in the folder of a run, and find the settings of its training.

    Rows that are copies of each other, or opposite strands, stay in one split. Numbers are brought to mean 0 and
    deviation 1.

    Args:
        model_folder: of the model to start from.
        table: FASTA or a table, see `genotok.evaluation.labelled_rows`.
        columns: of the labels.
        run: folder to write.
        test: a table with the test rows; None holds some of `table` out.
        sequence: the column with the sequences.
        kind: of the labels, or `auto`.
        max_length: letters of a sequence that are read; None for all.
        settings: see `FinetuneSettings`.
        resume: whether the folder may hold a run already.

    Raises:
        InputError: a file, a column, a label or a setting does not fit.
    """
    settings = settings or FinetuneSettings()
    fraction = 0.0 if test else settings.test_fraction
    how = ProbeSettings(test_fraction=fraction, seed=settings.seed, draws=settings.draws)
    tokenizer = load_tokenizer(ModelConfig.from_json(Path(model_folder) / CONFIG_NAME).tokenizer)
    data = read_data(table, columns, test, sequence, kind, max_length, how, tokenizer.alphabets[0])
    parts = _parts(data, settings)
    train = data.rows.take(parts["train"])
    config = train_config(model_folder, train, len(parts["valid"]) > 0, run, settings, max_length)
    _refuse_foreign_run(run, resume)
    scale = _Scale.of(train)
    for name, rows in parts.items():
        write_table(data.rows.take(rows), run / "tables" / f"{name}.csv", scale)
    return Prepared(data, parts, scale, config, settings, run)


@dataclass
class Prepared:
    """A fine-tuning that can begin, or that has ended.

    Attributes:
        data: all rows.
        parts: indices of those to train on, to validate with and to test on.
        scale: of numbers.
        config: of the training.
        settings: as they were given.
        run: the folder.
    """

    data: LabelledSplits
    parts: dict[str, np.ndarray]
    scale: "_Scale"
    config: TrainConfig
    settings: FinetuneSettings
    run: Path

    def finish(self) -> dict[str, Any]:
        """Hold the trained model against the test rows and write `test_metrics.json`; see `finetune`.

        The head of a regression is changed to give numbers as they were before the scaling.
        """
        data, parts, settings = self.data, self.parts, self.settings
        if data.rows.head.kind == "regression":
            self.scale.put_into(self.run, settings.head)
        known = np.concatenate([parts["train"], parts["valid"]])
        test = self.run / "tables" / "test.csv"
        predictions = {
            "finetune": [_predictions(self.run, self.config, test, settings.head)],
            "majority": [majority(data.rows, known, parts["test"])],
        }
        results = compare_on_parts(predictions, data, settings.draws, settings.seed)
        found = _described(data, parts, self.config, settings, self.run) | {"results": results}
        write_metrics(found, self.run / RESULT)
        return found


def _parts(data: LabelledSplits, settings: FinetuneSettings) -> dict[str, np.ndarray]:
    """Indices of the rows to train on, to validate with and to test on."""
    ((train, tested),) = data.splits[0]
    if not settings.valid_fraction:
        return {"train": train, "valid": np.zeros(0, int), "test": tested}
    kept, valid = hold_out(data.rows.take(train), data.groups[train], settings.valid_fraction, settings.seed)
    return {"train": train[kept], "valid": train[valid], "test": tested}


def _described(
    data: LabelledSplits,
    parts: dict[str, np.ndarray],
    config: TrainConfig,
    settings: FinetuneSettings,
    run: Path,
) -> dict[str, Any]:
    """What a result holds besides the metrics."""
    trained = asdict(config)
    return {
        "task": "finetune",
        **data.about,
        "model_sha256": GenomicLM.from_pretrained(run).content_hash(),
        "settings": {
            "rows": {name: len(rows) for name, rows in parts.items()},
            "epochs": config.steps * config.batch_size / max(len(parts["train"]), 1),
            "seed": settings.seed,
            "class_weights": settings.class_weights,
            "bootstrap_draws": settings.draws,
            "train": {key: trained[key] for key in trained if key not in ("table", "model", "init")},
        },
    }


def _refuse_foreign_run(run: Path, resume: bool) -> None:
    """Leave the tables of a run alone that must not be gone on with."""
    if not resume and (run / "checkpoints").is_dir():
        raise InputError(f"{run}: holds a run already; go on with --resume or choose another folder")


def train_config(
    model_folder: str | Path,
    rows: LabelledRows,
    has_valid: bool,
    run: Path,
    settings: FinetuneSettings,
    max_length: int | None = None,
) -> TrainConfig:
    """The settings of `genotok train` for some training rows.

    The chunks of the model keep the mean length that they have on these rows.

    Raises:
        InputError: there is no such model, or a setting is wrong.
    """
    head = {"kind": rows.head.kind, "outputs": rows.head.outputs, "classes": rows.head.classes}
    if settings.class_weights:
        head["class_weights"] = rarity(rows)
    table = {"train": str(run / "tables" / "train.csv"), "labels": {settings.head: label_columns(rows)}}
    table |= {"valid": str(run / "tables" / "valid.csv")} if has_valid else {}
    values: dict[str, Any] = {
        "init": str(model_folder),
        "model": {"heads": {settings.head: head}},
        "table": table | {"max_length": max_length},
        "learning_rate": 3e-4,
        "batch_size": 16,
        "seed": settings.seed,
    }
    for key, value in settings.train.items():
        section, dot, inner = key.partition(".")
        if section in ("init", "shards") or key in ("table.train", "table.valid", "table.labels"):
            raise InputError(f"--set {key}: this is what the command itself decides")
        if dot:
            if not isinstance(values.get(section), dict):
                raise InputError(f"--set {key}: {section!r} has no keys of its own")
            values[section][inner] = value
        else:
            values[key] = value
    if not isinstance(values["batch_size"], int) or values["batch_size"] < 1:
        raise InputError(f"--set batch_size: {values['batch_size']!r} should be a whole number, at least 1")
    values.setdefault("steps", max(math.ceil(settings.epochs * len(rows) / values["batch_size"]), 1))
    if "target_chunk_length" not in values:
        values["target_chunk_length"] = chunk_lengths(model_folder, rows, max_length)
    return parse_settings(TrainConfig, values, "finetune")


def rarity(rows: LabelledRows) -> list[float]:
    """Weights of the classes, in proportion to 1 / their share, 1 on average over the rows; of each yes no / yes.

    Raises:
        InputError: the labels are numbers.
    """
    if rows.head.kind == "regression":
        raise InputError("--class-weights: a regression has no classes")
    if rows.head.kind == "multi_label":
        yes = rows.labels.mean(0, dtype=float).clip(1 / len(rows), 1 - 1 / len(rows))
        return [round(float(value), 6) for value in (1 - yes) / yes]
    counts = np.bincount(rows.labels, minlength=rows.head.outputs)
    present = (counts > 0).sum()
    return [round(float(len(rows) / present / max(count, 1)), 6) for count in counts]


def label_columns(rows: LabelledRows) -> list[str]:
    """The columns of the labels in the tables of a run."""
    return (
        ["label"]
        if rows.head.outputs == 1 or rows.head.kind == "classification"
        else [f"label_{k}" for k in range(rows.head.outputs)]
    )


def chunk_lengths(model_folder: str | Path, rows: LabelledRows, max_length: int | None = None) -> list[float]:
    """Tokens a chunk of each stage of a model, over the first rows of a table."""
    config = ModelConfig.from_json(Path(model_folder) / CONFIG_NAME)
    if not config.chunkers:
        return []
    model = GenomicLM.from_pretrained(model_folder)
    task = Embedder(model).task
    texts = [letters[:max_length].encode() for letters in rows.sequences[:MEASURED_ROWS]]
    batch = collate([model.tokenizer.encode_letters(text) for text in texts], model.tokenizer)
    with torch.no_grad():
        found = model(batch.input_ids, task=task, lengths=batch.lengths).packed_boundaries
    shares = [stage.mask.float().mean().item() for stage in found]
    return [round(max(1 / max(share, 1e-6), SHORTEST_CHUNK), 3) for share in shares]


@dataclass
class _Scale:
    """What numbers are divided by and what is taken from them before, a value an output."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, rows: LabelledRows) -> "_Scale":
        """Mean and deviation of the numbers of a regression, 0 and 1 for other labels."""
        if rows.head.kind != "regression":
            return cls(np.zeros(1), np.ones(1))
        deviation = rows.labels.std(0, dtype=float)
        return cls(rows.labels.mean(0, dtype=float), np.where(deviation > 0, deviation, 1.0))

    def put_into(self, run: Path, head: str) -> None:
        """Let the head of a saved model, which gives scaled numbers, give them as they were."""
        model = GenomicLM.from_pretrained(run)
        layer = model.heads[head].out
        mean, deviation = (
            torch.tensor(part, dtype=layer.weight.dtype) for part in (self.mean, self.deviation)
        )
        with torch.no_grad():
            layer.weight.mul_(deviation[:, None])
            layer.bias.mul_(deviation).add_(mean)
        model.save_pretrained(run)


def write_table(rows: LabelledRows, path: Path, scale: _Scale) -> None:
    """Write rows as CSV, classes by name, numbers scaled."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["sequence", *label_columns(rows)])
        for sequence, label in zip(rows.sequences, rows.labels, strict=True):
            if rows.head.kind == "classification":
                cells = [rows.class_name(label)]
            elif rows.head.kind == "multi_label":
                cells = [f"{value:g}" for value in label]
            else:
                cells = [repr(value) for value in ((label - scale.mean) / scale.deviation).tolist()]
            writer.writerow([sequence, *cells])


def _predictions(run: Path, config: TrainConfig, test: Path, head: str) -> np.ndarray:
    """(T, N) what the head of a finished run says about the rows of a table."""
    model = GenomicLM.from_pretrained(run, choose_device(config.device))
    model.eval()
    table = LabelledTable(
        test, model.config, {head: config.table.labels[head]}, max_length=config.table.max_length
    )
    with progress("test", len(table), "sequences") as bar:

        def counted() -> Any:
            for batch in table.in_order(config.batch_size):
                yield batch
                bar.advance(len(batch.lengths))

        return predict(model, counted(), config.precision)[head][0].double().numpy()

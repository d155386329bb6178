"""Verbs that train a model and measure it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genotok.cli.app import (
    Device,
    Model,
    Precision,
    RestartIfChanged,
    Resume,
    RunFolder,
    RunSettings,
    Threads,
    app,
    entropy_app,
)
from genotok.errors import InputError


@app.command()
def train(
    config: RunSettings,
    output: RunFolder,
    resume: Resume = False,
    restart_if_changed: RestartIfChanged = False,
) -> None:
    """Train a model on shards.

    Example: `genotok train config.yaml -o run --resume`
    """
    from genotok.settings import parse_settings, read_mapping
    from genotok.training.config import TrainConfig

    source = "standard input" if config == "-" else config
    settings = parse_settings(TrainConfig, read_mapping(config), source)
    run_training(settings, output, resume, restart_if_changed)


def run_training(settings: Any, output: Path, resume: bool, restart_if_changed: bool) -> bool:
    """Run the trainer; a run that was asked to end does so with exit code 143. True on the first rank."""
    from genotok.training.distributed import EndedElsewhere, RankLost, leave
    from genotok.training.interruption import Terminated
    from genotok.training.loop import Trainer

    try:
        trainer = Trainer(settings, output)
        trainer.run(resume, restart_if_changed)
        leave()
        return trainer.ranks.first
    except Terminated as stop:
        if trainer.ranks.first:
            print(f"genotok: {stop}", file=sys.stderr)
        leave()
        raise typer.Exit(143) from stop
    except EndedElsewhere as stop:
        raise typer.Exit(2) from stop
    except RankLost as lost:
        print(f"genotok: {lost}", file=sys.stderr)
        raise typer.Exit(1) from lost


@entropy_app.command("train")
def train_entropy_model(
    config: RunSettings,
    output: RunFolder,
    resume: Resume = False,
    restart_if_changed: RestartIfChanged = False,
) -> None:
    """Train the small model whose entropies a model with the chunker `entropy` cuts by.

    Settings are those of `genotok train`; without `model` it is the preset `entropy_dna`.

    Example: `genotok entropy train config.yaml -o entropy`
    """
    from genotok.settings import read_mapping
    from genotok.training.entropies import entropy_train_config

    settings = entropy_train_config(read_mapping(config), "standard input" if config == "-" else config)
    run_training(settings, output, resume, restart_if_changed)


@entropy_app.command("annotate")
def annotate_with_entropies(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards.")],
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    dtype: Annotated[str, typer.Option(help="`float32`, or `float16` at half the size.")] = "float32",
    device: Device = "auto",
    threads: Threads = 2,
) -> None:
    """Write shards again with the entropies of a model, so that training need not work them out.

    An interrupted call goes on behind its last finished file when it is made again.

    Example: `genotok entropy annotate shards -m entropy -o shards_with_entropies`
    """
    from genotok.training.entropies import annotate

    annotate(shards, model, output, dtype=dtype, device=device, threads=threads)


@entropy_app.command("threshold")
def print_entropy_threshold(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards with entropies.")],
    mean_length: Annotated[float, typer.Option(min=1, help="Tokens a chunk.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    threshold_add: Annotated[float | None, typer.Option(help="Least rise of the entropy, in nats.")] = None,
    monotonicity: Annotated[bool, typer.Option(help="The threshold is one on the rise.")] = False,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens of the longest chunk.")] = None,
) -> None:
    """Print the entropy threshold that gives chunks of a wanted mean length, in nats.

    Example: `genotok entropy threshold shards_with_entropies --mean-length 4`
    """
    from genotok.training.entropies import threshold_of_shards

    rule = {"threshold_add": threshold_add, "monotonicity": monotonicity, "max_length": max_length}
    print(threshold_of_shards(shards, mean_length, split, **rule))


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of the model.")],
    shards: Annotated[
        Path, typer.Argument(metavar="SHARDS", help="Folder of shards; a table for the task `prediction`.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    task: Annotated[
        str, typer.Option(help="`lm`, or `prediction`: heads against the labels of a table.")
    ] = "lm",
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="HEAD=COLUMN, once a head; several columns with commas.  [default: named as the heads]"
        ),
    ] = None,
    sequence: Annotated[str, typer.Option(help="Column of the table with the sequences.")] = "sequence",
    max_length: Annotated[
        int | None,
        typer.Option(min=1, help="Letters of a sequence in the table that are read.  [default: all]"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows or sequences a batch.")] = 16,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 2,
) -> None:
    """Bits per base on held-out contigs, beside Markov baselines; or how well labels are predicted.

    Example: `genotok evaluate run shards --split test -o metrics.json`

    Example: `genotok evaluate run test.csv --task prediction --labels promoter=label -o metrics.json`
    """
    from genotok.evaluation.bits_per_base import evaluate, write_metrics

    settings = {"batch_size": batch_size, "device": device, "precision": precision, "threads": threads}
    if task == "prediction":
        from genotok.evaluation.prediction_metrics import evaluate_predictions

        table = {"columns": _columns(labels or []), "sequence": sequence, "max_length": max_length}
        metrics = evaluate_predictions(model, shards, **table, **settings)
        write_metrics(metrics, output)
        for name, found in metrics["heads"].items():
            shown = {key: value for key, value in found.items() if isinstance(value, float)}
            print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in shown.items()))
        return
    if task != "lm":
        raise InputError(f"--task: {task!r} should be lm or prediction")
    metrics = evaluate(model, shards, split=split, **settings)
    write_metrics(metrics, output)
    best = min(metrics["baselines"].items(), key=lambda item: item[1]["bits_per_base"])
    print(
        f"{metrics['model']['bits_per_base']:.4f} bits/base over {metrics['model']['nucleotides']} nucleotides; "
        f"best baseline {best[0]}: {best[1]['bits_per_base']:.4f}"
    )


def _columns(labels: list[str]) -> dict[str, list[str]]:
    """The columns of each head, of words like HEAD=COLUMN."""
    columns = {}
    for word in labels:
        head, sign, names = word.partition("=")
        if not (head and sign and names):
            raise InputError(f"--labels: {word!r} should be HEAD=COLUMN")
        columns[head] = names.split(",")
    return columns

"""Verbs that put a trained model to use on labelled sequences: embeddings, probes, fine-tuning."""

from pathlib import Path
from typing import Annotated, Any

import typer

from genotok.cli.app import Device, Precision, RestartIfChanged, Resume, Threads, app, words_between_commas
from genotok.errors import InputError

ModelFolder = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder of the model, or its name on the Hugging Face Hub.")
]
Table = Annotated[
    Path,
    typer.Argument(metavar="TABLE", help="`.csv`, `.tsv`, `.jsonl`, `.parquet`, or FASTA (column `name`)."),
]
Label = Annotated[
    str,
    typer.Option(help="Column of the labels; several with commas, for answers yes or no and for numbers."),
]
Test = Annotated[
    Path | None, typer.Option(help="Table with the rows to test on.  [default: held out of TABLE]")
]
Sequence = Annotated[str, typer.Option(help="Column with the sequences.")]
Kind = Annotated[
    str, typer.Option(help="`classification`, `multi_label`, `regression`, or `auto`, told from the labels.")
]
Layer = Annotated[
    int, typer.Option(help="Hidden states: 0 the embeddings of the tokens, -1 those after the final norm.")
]
BothStrands = Annotated[
    bool,
    typer.Option("--both-strands", help="Average the embeddings of a sequence and its reverse complement."),
]
MaxLength = Annotated[
    int | None, typer.Option(min=1, help="Letters of a sequence that are read.  [default: all]")
]
BatchLetters = Annotated[int, typer.Option(min=1, help="Letters that are read at once.")]
Draws = Annotated[int, typer.Option(min=1, help="Bootstrap samples behind the 95 % intervals.")]
Seed = Annotated[int, typer.Option(min=0, help="Of splits, random weights and bootstrap.")]


@app.command()
def embed(
    model: ModelFolder,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="FASTA, or a table with sequences.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file to write.")],
    pool: Annotated[
        str,
        typer.Option(help="`mean` over certain nucleotides, `last`, or `nucleotide`: a state each letter."),
    ] = "mean",
    layer: Layer = -1,
    both_strands: BothStrands = False,
    sequence: Sequence = "sequence",
    keep: Annotated[
        list[str] | None, typer.Option(help="Columns to keep, with commas.  [default: all but the sequences]")
    ] = None,
    max_length: MaxLength = None,
    batch_letters: BatchLetters = 16384,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 2,
) -> None:
    """Write the states that a model has for sequences, as Parquet.

    Example: `genotok embed run genes.fa -o embeddings.parquet`

    Example: `genotok embed run table.csv --sequence seq --keep id,label --layer 0 -o embeddings.parquet`
    """
    import torch

    from genotok.evaluation.embeddings import Embedder, embed_file
    from genotok.models import GenomicLM
    from genotok.training.precision import choose_device

    torch.set_num_threads(threads)
    embedder = Embedder(
        GenomicLM.from_pretrained(model, choose_device(device)),
        layer=layer,
        pool=pool,
        both_strands=both_strands,
        max_length=max_length,
        precision=precision,
        letters_a_batch=batch_letters,
    )
    kept = None if keep is None else [word for words in keep for word in words_between_commas(words)]
    embed_file(embedder, source, output, sequence, kept)


@app.command()
def probe(
    model: ModelFolder,
    table: Table,
    label: Label,
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write.")],
    test: Test = None,
    sequence: Sequence = "sequence",
    kind: Kind = "auto",
    folds: Annotated[int, typer.Option(min=2, help="Of a cross-validation, where no test is given.")] = 5,
    test_fraction: Annotated[
        float, typer.Option(help="Share of the rows to hold out once, in place of folds.")
    ] = 0.0,
    repeats: Annotated[int, typer.Option(min=1, help="How often folds are drawn, with a seed each.")] = 1,
    pool: Annotated[str, typer.Option(help="`mean` over certain nucleotides, or `last`.")] = "mean",
    layer: Layer = -1,
    both_strands: BothStrands = False,
    kmers: Annotated[
        str, typer.Option(help="Lengths of words that the baseline chooses from; empty for none.")
    ] = "1,2,3,4,5,6",
    kmers_both_strands: Annotated[
        bool, typer.Option("--kmers-both-strands", help="Count a word and its reverse complement as one.")
    ] = False,
    random_weights: Annotated[
        bool, typer.Option(help="Probe a model of the same shape with random weights as well.")
    ] = True,
    draws: Draws = 1000,
    seed: Seed = 0,
    max_length: MaxLength = None,
    batch_letters: BatchLetters = 16384,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 2,
) -> None:
    """How well labels can be read off a frozen model, beside k-mers, random weights and the majority.

    Example: `genotok probe run promoters.csv --label label -o metrics.json`

    Example: `genotok probe run train.fasta --label name --test test.fasta -o metrics.json`
    """
    from genotok.evaluation.bits_per_base import write_metrics
    from genotok.evaluation.probe import ProbeSettings
    from genotok.evaluation.probe import probe as run_probe

    settings = ProbeSettings(
        folds=folds,
        test_fraction=test_fraction,
        repeats=repeats,
        seed=seed,
        kmers=_lengths(kmers),
        kmers_both_strands=kmers_both_strands,
        random_weights=random_weights,
        draws=draws,
    )
    found = run_probe(
        model, table, words_between_commas(label), test, sequence, kind, settings, device, threads,
        layer=layer, pool=pool, both_strands=both_strands, max_length=max_length, precision=precision,
        letters_a_batch=batch_letters,
    )  # fmt: skip
    write_metrics(found, output)
    _print_results(found)


@app.command()
def finetune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of the model to start from.")],
    table: Table,
    label: Label,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the run; holds the model at the end.")
    ],
    test: Test = None,
    sequence: Sequence = "sequence",
    kind: Kind = "auto",
    test_fraction: Annotated[float, typer.Option(help="Share of the rows to test on, without --test.")] = 0.2,
    valid_fraction: Annotated[float, typer.Option(help="Share of the rest to validate with.")] = 0.1,
    epochs: Annotated[float, typer.Option(help="Times that each training row is read.")] = 5.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="At the plateau.")] = 3e-4,
    freeze_backbone: Annotated[bool, typer.Option("--freeze-backbone", help="Train the head alone.")] = False,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Let rare classes weigh more.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of `genotok train`, in YAML."),
    ] = None,
    head: Annotated[str, typer.Option(help="Name of the head.")] = "label",
    draws: Draws = 1000,
    seed: Seed = 0,
    max_length: MaxLength = None,
    resume: Resume = False,
    restart_if_changed: RestartIfChanged = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 2,
) -> None:
    """Train a model on the labels of a table, and test it on rows that it did not see.

    Example: `genotok finetune run promoters.csv --label label -o promoters`

    Example: `genotok finetune run train.fasta --label name --test test.fasta --set label_smoothing=0.1 -o ncrna`
    """
    from genotok.cli.training import run_training
    from genotok.evaluation.finetune import FinetuneSettings, prepare_finetuning

    train: dict[str, Any] = {"batch_size": batch_size, "learning_rate": learning_rate, "device": device}
    train |= {"precision": precision, "threads": threads, "freeze_backbone": freeze_backbone}
    settings = FinetuneSettings(
        test_fraction=test_fraction,
        valid_fraction=valid_fraction,
        seed=seed,
        epochs=epochs,
        head=head,
        class_weights=class_weights,
        draws=draws,
        train=train | _settings(set_ or []),
    )
    columns = words_between_commas(label)
    prepared = prepare_finetuning(
        model, table, columns, output, test, sequence, kind, max_length, settings, resume
    )
    if run_training(prepared.config, output, resume, restart_if_changed):
        _print_results(prepared.finish())


def _settings(words: list[str]) -> dict[str, Any]:
    """Settings of words like KEY=VALUE, the values in YAML."""
    import yaml

    settings = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not (key and sign):
            raise InputError(f"--set: {word!r} should be KEY=VALUE")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {key}: {value!r} is not YAML") from error
    return settings


def _lengths(text: str) -> list[int]:
    try:
        return [int(word) for word in words_between_commas(text)]
    except ValueError as error:
        raise InputError(f"--kmers: {text!r} should be whole numbers with commas between them") from error


def _print_results(found: dict[str, Any]) -> None:
    """The statement about copies, and the metrics of each method."""
    print(found["statement"])
    for part, compared in found["results"].items():
        for name, method in compared["methods"].items():
            shown = [
                f"{key} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
                for key, value in method["metrics"].items()
                if None not in value.values()
            ]
            print(f"{part}, {compared['rows']:,} rows, {name}: " + ", ".join(shown))

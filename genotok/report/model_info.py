"""`genotok info`: what a model is and costs, as data, as a table on a terminal, and as plain text."""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from genotok.errors import InputError
from genotok.genomes.fasta import read_fasta
from genotok.models import GenomicLM, ModelConfig
from genotok.models.cost import Flops, ModelCost, measure_chunks, model_cost
from genotok.models.hub import download_model, hub_name
from genotok.models.saved import CONFIG_NAME
from genotok.tokenizers import BpeTokenizer, Tokenizer, load_tokenizer
from genotok.tokenizers.base import checked_letters

ASSUMED_COMPRESSION = 3.0  # as training steers to by default
WINDOWS = 16
RANDOM_LETTERS = 1 << 14  # that a vocabulary is tried on
COLUMNS = ("part", "parameters", "MFLOPs a base", "share", "cache MiB")


def describe_model(
    model: str,
    length: int = 8192,
    compression: Sequence[float] | None = None,
    fasta: Path | None = None,
    sequence: str | None = None,
) -> dict[str, Any]:
    """What a model costs, as JSON values.

    Args:
        model: a folder with a model, a name on the Hugging Face Hub, a configuration in JSON, or a preset's name.
            Only the first two have weights, which `fasta` and `sequence` need.
        length: tokens of the sequence that the cost is worked out for.
        compression: rows a chunk of each chunking stage; None to measure it where a FASTA or a sequence is given,
            and to assume 3 elsewhere.
        fasta: letters to measure chunks in: the first 16 windows of `length`.
        sequence: letters to measure chunks in, instead.

    Returns:
        model, layout, d_model, tokenizer, length; letters_a_token, how many letters a token adds to those in front,
        and where it is from; compression and where it is from; parameters and flops_per_base (a letter, not a token)
        by part and in total; memory_bytes; chunks, one entry a chunking stage, where they were measured.

    Raises:
        InputError: there is no such model, the settings do not fit it, or the letters cannot be read.
    """
    config, chunks, windows = find_config(model), [], []
    if fasta is not None and sequence is not None:
        raise InputError("give a FASTA or a sequence, not both")
    if fasta is not None or sequence is not None:
        windows = list(_windows_of_fasta(fasta, length) if fasta else _windows(sequence, length))
        if not windows:
            raise InputError(f"{fasta or 'sequence'}: holds no letters")
        chunks = measure_chunks(GenomicLM.from_pretrained(model), windows)
    origin = "given" if compression else "measured" if chunks else "assumed"
    if not compression:
        stages = config.stage_layout.depth - 1
        compression = [stage.compression for stage in chunks] or [ASSUMED_COMPRESSION] * stages
    cost = model_cost(config, length, compression)
    letters, letters_from = letters_a_token(load_tokenizer(config.tokenizer), windows)
    return {
        "model": model,
        "layout": config.layout,
        "d_model": config.d_model,
        "tokenizer": load_tokenizer(config.tokenizer).name,
        "length": length,
        "letters_a_token": letters,
        "letters_a_token_is": letters_from,
        "compression": cost.compression,
        "compression_is": origin if cost.compression else "none",
        "parameters": {**{part.name: part.parameters for part in cost.parts}, "total": cost.parameters},
        "flops_per_base": _flops_per_base(cost, letters),
        "memory_bytes": {
            "weights": cost.weight_bytes,
            "weights, gradients and AdamW": cost.training_bytes,
            "generation cache": round(cost.cache_bytes),
        },
        "cache_bytes": {part.name: round(part.cache) for part in cost.parts},
        "chunks": [asdict(stage) for stage in chunks],
    }


def find_config(model: str) -> ModelConfig:
    """The configuration of a model's folder, of a model on the Hugging Face Hub, in a JSON file, or of a preset.

    Raises:
        InputError: it is none of these, or the Hub does not give it.
    """
    on_hub = hub_name(model)
    if on_hub is not None:
        return ModelConfig.from_json(download_model(*on_hub, (CONFIG_NAME,)) / CONFIG_NAME)
    path = Path(model)
    if path.is_dir():
        return ModelConfig.from_json(path / CONFIG_NAME)
    if path.is_file():
        return ModelConfig.from_json(path)
    try:
        return ModelConfig.preset(model)
    except InputError as error:
        raise InputError(f"{model}: is neither a folder, nor a file, nor a preset: {error}") from error


def letters_a_token(tokenizer: Tokenizer, windows: Sequence[str] = ()) -> tuple[float, str]:
    """How many letters a token adds to those in front of it.

    Args:
        tokenizer: any.
        windows: letters to measure it in; those of k-mers, and of tokens of one letter, are known without.

    Returns:
        The number, and where it is from: `known`, `measured`, or `random letters` where pairs were merged and there
        are no windows.
    """
    if not isinstance(tokenizer, BpeTokenizer):
        return float(tokenizer.letter_counts.max() - tokenizer.overlap), "known"
    origin = "measured" if windows else "random letters"
    windows = windows or ["".join(random.Random(0).choices("ACGT", k=RANDOM_LETTERS))]
    tokens = sum(len(tokenizer.encode_letters(window.encode())) for window in windows)
    return sum(map(len, windows)) / tokens, origin


def _flops_per_base(cost: ModelCost, letters: float) -> dict[str, dict[str, float]]:
    def of(flops: Flops) -> dict[str, float]:
        bases = cost.length * letters
        return {key: value / bases for key, value in {**asdict(flops), "total": flops.total}.items()}

    return {**{part.name: of(part.flops) for part in cost.parts}, "total": of(cost.flops)}


def _windows(letters: str, length: int) -> Iterator[str]:
    """The first `WINDOWS` windows of `length` letters."""
    letters = checked_letters(letters, "sequence")
    for start in range(0, min(len(letters), WINDOWS * length), length):
        yield letters[start : start + length]


def _windows_of_fasta(path: Path, length: int) -> Iterator[str]:
    def of_all_contigs() -> Iterator[str]:
        for _, blocks in read_fasta(path):
            letters, wanted = bytearray(), WINDOWS * length
            for block in blocks:
                letters += block
                if len(letters) >= wanted:
                    break
            yield from _windows(letters.decode(), length)

    return islice(of_all_contigs(), WINDOWS)


def table_rows(info: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of text a part, and the total; columns as in `COLUMNS`."""
    flops, cache = info["flops_per_base"], info["cache_bytes"]
    whole = max(flops["total"]["total"], 1e-9)
    return [
        (
            name,
            f"{count:,}",
            f"{flops[name]['total'] / 1e6:,.4g}",
            f"{flops[name]['total'] / whole:.1%}",
            f"{cache.get(name, info['memory_bytes']['generation cache']) / 2**20:,.3g}",
        )
        for name, count in info["parameters"].items()
    ]


def summary_lines(info: dict[str, Any]) -> list[str]:
    """What is said above and below the table."""
    lines = [
        f"layout {info['layout']}, d_model {info['d_model']}, tokenizer {info['tokenizer']}",
        f"one sequence of {info['length']:,} tokens, forward pass, a multiply-add counts as 2",
    ]
    if info["letters_a_token"] != 1:
        lines.append(f"letters a token, {info['letters_a_token_is']}: {info['letters_a_token']:.3g}")
    if info["compression"]:
        ratios = ", ".join(f"{ratio:.3g}" for ratio in info["compression"])
        lines.append(f"compression {info['compression_is']}: {ratios} rows a chunk")
    for name, size in info["memory_bytes"].items():
        lines.append(f"memory, {name}: {size / 2**20:,.4g} MiB")
    for number, stage in enumerate(info["chunks"]):
        lines.append(
            f"chunks of stage {number}: {stage['chunks']:,}, of {stage['mean']:.2f} tokens on average, "
            f"median {stage['median']:g}, longest {stage['longest']:,}"
        )
    return lines


def print_info(info: dict[str, Any]) -> None:
    """Print a table on a terminal, and columns separated by tabs elsewhere."""
    lines, rows = summary_lines(info), table_rows(info)
    if not sys.stdout.isatty():
        print("\n".join([*lines, "\t".join(COLUMNS), *("\t".join(row) for row in rows)]))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=info["model"])
    for place, column in enumerate(COLUMNS):
        shown.add_column(column, justify="right" if place else "left")
    for row in rows[:-1]:
        shown.add_row(*row)
    shown.add_section()
    shown.add_row(*rows[-1], style="bold")
    console = Console()
    console.print(shown)
    for line in lines:
        console.print(line, highlight=False, markup=False)

"""What must hold before anything is scored: files that are not each other, and a model that reads DNA."""

import os
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from genotok.errors import InputError
from genotok.models import GenomicLM

_DNA = "ACGT"


def model_files(folder: str | Path) -> list[Path]:
    """The files of a model's folder."""
    return sorted(path for path in Path(folder).glob("*") if path.is_file())


def refuse_same_files(inputs: Iterable[str | Path | None], outputs: Iterable[str | Path | None]) -> None:
    """Refuse an output that is an input or another output, also by way of a symbolic or a hard link.

    Args:
        inputs: files that are read; `-` and None do not count.
        outputs: files that are written.

    Raises:
        InputError: names the file.
    """
    read, written = (
        [Path(path) for path in paths if path and str(path) != "-"] for paths in (inputs, outputs)
    )
    pairs = [*product(read, written), *((a, b) for i, b in enumerate(written) for a in written[:i])]
    for one, other in pairs:
        if _same(one, other):
            raise InputError(f"{other}: is named twice among input and outputs; give each a file of its own")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve() or os.path.samefile(one, other)
    except (OSError, RuntimeError):  # absent, a circle of links
        return False


def require_dna(model: GenomicLM, folder: str | Path) -> None:
    """Refuse a model whose letters are not those of DNA, or that predicts no letters.

    The letters A, C, G and T are amino acids as well, so that a model of proteins would give numbers, and wrong
    ones; a model of RNA has seen transcripts, of one strand.

    Raises:
        InputError: names the model's folder.
    """
    alphabet = model.tokenizer.alphabet
    if set(alphabet) != set(_DNA):
        raise InputError(
            f"{folder}: is a model of the alphabet {alphabet}, and variants are scored in {_DNA}"
        )
    if not {"lm", "mlm"} & set(model.config.tasks):
        raise InputError(
            f"{folder}: is a model for {' and '.join(model.config.tasks)}, and a score needs lm or mlm"
        )

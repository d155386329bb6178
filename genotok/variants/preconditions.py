"""What must hold of a model before anything is scored: it reads DNA."""

from pathlib import Path

from genotok.errors import InputError
from genotok.models import GenomicLM

_DNA = "ACGT"


def model_files(folder: str | Path) -> list[Path]:
    """The files of a model's folder."""
    return sorted(path for path in Path(folder).glob("*") if path.is_file())


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

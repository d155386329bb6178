"""Which parameters learn."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from genotok.errors import InputError
from genotok.models import GenomicLM


def freeze_all_but_heads(model: GenomicLM) -> None:
    """Let only the heads of the task `prediction` learn."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("heads."))


def freeze_parts(model: GenomicLM, patterns: Sequence[str]) -> None:
    """Leave the parameters whose names fit a pattern as they are.

    Args:
        model: the model.
        patterns: as of file names, such as `embedding.*` or `backbone.encoder.*`; names are those of
            `model.safetensors`.

    Raises:
        InputError: no name fits a pattern.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        chosen = [name for name in parameters if fnmatchcase(name, pattern)]
        if not chosen:
            raise InputError(
                f"freeze: no weight has a name like {pattern!r}; names are such as {', '.join(list(parameters)[:3])}"
            )
        for name in chosen:
            parameters[name].requires_grad_(False)

"""Settings that a person writes: YAML or JSON into a dataclass, with the offending key in every complaint."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from genotok.errors import InputError

Settings = TypeVar("Settings")


def read_mapping(path: str) -> dict[str, Any]:
    """Read a YAML or JSON file with keys; `-` reads standard input.

    Raises:
        InputError: it cannot be read, or is not YAML with keys at the top.
    """
    import yaml

    label = "standard input" if path == "-" else path
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{label}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" line {place.line + 1}" if place else ""
        raise InputError(f"{label}:{line} is not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(values, dict):
        raise InputError(f"{label}: should hold keys with values, one a line")
    return values


def parse_settings(kind: type[Settings], values: Mapping[str, Any], source: str) -> Settings:
    """Make a dataclass of a mapping, checking keys and types.

    Args:
        kind: the dataclass; with `__pydantic_config__ = {"extra": "forbid"}` unknown keys are refused.
        values: what the user wrote.
        source: the file, for the complaint.

    Raises:
        InputError: names the file, the key and what it should be.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{source}: {key}: {first['msg'].removeprefix('Value error, ')}") from error
    except InputError as error:
        raise InputError(f"{source}: {error}") from error

"""The JSON files that carry numbers from the figures' makers to the results page."""

import json
from pathlib import Path
from typing import Any

from genotok.atomic import atomic_path
from genotok.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: the file cannot be read or is something else.
    """
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: is no JSON object")
    return values


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write a JSON object, the same bytes every time."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")

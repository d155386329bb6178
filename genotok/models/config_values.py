"""JSON values of a configuration: their types and keys, and complaints that name the key."""

from dataclasses import MISSING, fields
from typing import Any

from genotok.errors import InputError


def is_a(kind: type, value: Any) -> bool:
    """Whether a JSON value is of a type; a whole number is a number, but true is not."""
    return type(value) is kind or (kind is float and type(value) is int)


def section(where: str, kind: type, values: dict[str, Any]) -> Any:
    """An object of a dataclass from the values of the key `where`.

    Raises:
        InputError: a key is unknown or missing.
    """
    known = {item.name for item in fields(kind)}
    needed = {item.name for item in fields(kind) if item.default is item.default_factory is MISSING}
    check_keys(where, values, known, needed)
    return kind(**values)


def check_keys(where: str, values: Any, known: set[str], needed: set[str]) -> None:
    """Refuse values of the key `where` that are no object, or one with other keys.

    Raises:
        InputError: names the key.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: {values!r} should be an object with keys")
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in known:
            raise InputError(f"{prefix}{key}: unknown key; known are {', '.join(sorted(known))}")
    for key in sorted(needed):
        if key not in values:
            raise InputError(f"{prefix}{key}: this key is needed")


def per_stage(key: str, value: int | list[int], stages: int) -> list[int]:
    """One value a stage of what may be given once for all.

    Raises:
        InputError: it is no whole number, and no list of as many as there are stages.
    """
    values = [value] * stages if isinstance(value, int) else value
    if not isinstance(values, list) or any(not isinstance(v, int) or isinstance(v, bool) for v in values):
        raise InputError(f"{key}: {value!r} should be a whole number or a list of them, one a stage")
    if len(values) != stages:
        raise InputError(f"{key}: {len(values)} values for the {stages} stages of the layout")
    return list(values)

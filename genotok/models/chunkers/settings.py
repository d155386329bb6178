"""Chunkers, chunk states and upsamplers as a model's configuration spells them, one of each for an inner stage."""

from collections.abc import Callable
from typing import Any

from torch import nn

from genotok.errors import InputError
from genotok.models.chunkers.entropy import EntropyChunker
from genotok.models.chunkers.given import GivenChunker
from genotok.models.chunkers.merge import MergeChunker
from genotok.models.chunkers.routing import RoutingChunker
from genotok.models.chunkers.states import CHUNK_STATES
from genotok.models.chunkers.static import StaticChunker
from genotok.models.chunkers.upsampling import UPSAMPLERS

ROUTING = {"kind": "routing"}
NEEDED = object()
NEAR_CHUNKS = 4  # that the cross-attention upsampler sees where the window is left out


def _is_length(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_LENGTH = (_is_length, "a whole number, at least 1")
_NUMBER = (_is_number, "a number")
_FLAG = (lambda value: type(value) is bool, "true or false")


def _or_null(check: tuple[Callable[[Any], bool], str]) -> tuple[Callable[[Any], bool], str]:
    fits, what = check
    return lambda value: value is None or fits(value), f"{what}, or null"


# Of each kind its keys: what fits, how that is called, and what stands in where the key is left out.
KINDS = {
    "routing": {},
    "merge": {"min_length": (*_LENGTH, NEEDED), "max_length": (*_LENGTH, NEEDED)},
    "static": {"length": (*_LENGTH, NEEDED)},
    "given": {},
    "entropy": {
        "threshold": (*_NUMBER, NEEDED),
        "threshold_add": (*_or_null(_NUMBER), None),
        "monotonicity": (*_FLAG, False),
        "max_length": (*_or_null(_LENGTH), None),
    },
}
WITH_INPUTS = ("given", "entropy")


def check_chunkers(chunkers: Any, count: int) -> list[dict[str, Any]]:
    """Fill in what is left out of the chunkers of `count` stages and refuse what cannot be built.

    Args:
        chunkers: a list of objects, outermost first, or one that stands for every stage; None is routing.
        count: the stages that cut their rows into chunks, one less than the stages of the layout.

    Raises:
        InputError: names the key.
    """
    chunkers = _one_each("chunkers", ROUTING if chunkers is None else chunkers, dict, count)
    checked = [_check_chunker(f"chunkers[{s}]", chunker) for s, chunker in enumerate(chunkers)]
    for s, chunker in enumerate(checked[1:], 1):
        if chunker["kind"] in WITH_INPUTS:
            raise InputError(
                f"chunkers[{s}].kind: {chunker['kind']!r} takes one value a token, and is for the outermost stage"
            )
    return checked


def check_upsamplers(upsamplers: Any, count: int) -> list[str | dict[str, Any]]:
    """The same for upsamplers: names or objects, or one that stands for every stage; None is `ema`.

    `cross_attention` becomes the object `{"kind": "cross_attention", "window": 4}`.
    """
    upsamplers = _one_each("upsamplers", "ema" if upsamplers is None else upsamplers, (str, dict), count)
    return [_check_upsampler(f"upsamplers[{s}]", upsampler) for s, upsampler in enumerate(upsamplers)]


def check_chunk_states(chunk_states: Any, count: int) -> list[str]:
    """The same for chunk states: names, or one name that stands for every stage; None is `select`."""
    chunk_states = _one_each("chunk_states", "select" if chunk_states is None else chunk_states, str, count)
    for s, name in enumerate(chunk_states):
        if name not in CHUNK_STATES:
            raise InputError(f"chunk_states[{s}]: {name!r} is unknown; there are {', '.join(CHUNK_STATES)}")
    return chunk_states


def make_chunker(settings: dict[str, Any], width: int) -> nn.Module:
    """Build the chunker of a stage from settings that `check_chunkers` has seen."""
    settings = dict(settings)
    kind = settings.pop("kind")
    if kind == "routing":
        return RoutingChunker(width)
    if kind == "merge":
        return MergeChunker(width, **settings)
    return {"static": StaticChunker, "given": GivenChunker, "entropy": EntropyChunker}[kind](**settings)


def _one_each(key: str, values: Any, kind: type | tuple[type, ...], count: int) -> list:
    values = [values] * count if isinstance(values, kind) else values
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        what = {dict: "an object", str: "a name"}.get(kind, "a name or an object")
        raise InputError(f"{key}: {values!r} should be {what} or a list of them, one an inner stage")
    if len(values) != count:
        raise InputError(f"{key}: {len(values)} values for the {count} inner stages of the layout")
    return list(values)


def _check_chunker(where: str, values: dict[str, Any]) -> dict[str, Any]:
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{where}.kind: {kind!r} is unknown; there are {', '.join(KINDS)}")
    keys = KINDS[kind]
    for key in values:
        if key != "kind" and key not in keys:
            known = ", ".join(["kind", *keys])
            raise InputError(f"{where}.{key}: unknown key of {kind!r}; known are {known}")
    checked = {"kind": kind}
    for key, (fits, what, default) in keys.items():
        checked[key] = values.get(key, default)
        if checked[key] is NEEDED:
            raise InputError(f"{where}.{key}: this key is needed")
        if not fits(checked[key]):
            raise InputError(f"{where}.{key}: {checked[key]!r} should be {what}")
    if kind == "merge" and checked["max_length"] < checked["min_length"]:
        raise InputError(
            f"{where}.max_length: {checked['max_length']} is less than min_length {checked['min_length']}"
        )
    return checked


def _check_upsampler(where: str, values: str | dict[str, Any]) -> str | dict[str, Any]:
    values = {"kind": values} if isinstance(values, str) else values
    kind = values.get("kind")
    if kind not in UPSAMPLERS:
        raise InputError(f"{where}: {kind!r} is unknown; there are {', '.join(UPSAMPLERS)}")
    known = ["kind", "window"] if kind == "cross_attention" else ["kind"]
    for key in values:
        if key not in known:
            raise InputError(f"{where}.{key}: unknown key of {kind!r}; known are {', '.join(known)}")
    if kind != "cross_attention":
        return kind
    window = values.get("window", NEAR_CHUNKS)
    if not _is_length(window):
        raise InputError(f"{where}.window: {window!r} should be a whole number, at least 1")
    return {"kind": kind, "window": window}

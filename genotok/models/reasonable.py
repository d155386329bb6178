"""A whole configuration of a layout and its widths."""

import re
from typing import Any

from genotok.errors import InputError
from genotok.models.layout import StageLayout, parse_blocks, parse_layout

OUTER_WINDOW = 1023  # of H-Net's outer stages; the innermost sees everything
HEAD_WIDTHS = (64, 32, 16, 8)


def reasonable_values(d_model: list[int] | int, layout: list, given: dict[str, Any]) -> dict[str, Any]:
    """The keys of a `ModelConfig` that suit a layout, as H-Net's own configurations choose them (arXiv 2507.07955).

    Heads of 64 features, or of fewer where these do not divide the width; rotary positions over half a head; a window
    of 1023 in the outer stages; SwiGLU of 8/3 of the width and GELU of 4 times the width, rounded up to a multiple of
    128, or of 64 below a width of 512; no MLP width where no block has an MLP; Mamba-2 states of a quarter of the
    outermost width, from 16 to 128.

    Args:
        d_model: width of each stage, outermost first, or one for all.
        layout: one run of blocks a stage, outermost first: `["m4", "T9"]` is encoder m4, main network T9 and decoder
            m4. A decoder has its encoder's runs in reverse: `T1m4` is decoded by `m4T1`. A nested layout is taken as
            it is.
        given: other keys of `ModelConfig`, which win; objects are merged key by key.

    Raises:
        InputError: the widths are not those of the stages, or have no reasonable heads; names the key.
    """
    nested = _nested(layout)
    stages = parse_layout(nested)
    widths = [d_model] * stages.depth if isinstance(d_model, int) else d_model
    _check_widths(widths, stages.depth)
    values = {
        "layout": nested,
        "d_model": widths,
        "d_intermediate": _mlp_widths(stages, widths, given.get("mlp", "swiglu")),
        "attention": _attention(widths),
        "mamba2": {"d_state": max(16, min(128, widths[0] // 4)), "head_dim": _mamba2_head(widths, given)},
    }
    for key, value in given.items():
        both = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if both else value
    return values


def _nested(layout: Any) -> list:
    if not isinstance(layout, list) or not layout or not all(isinstance(run, str) for run in layout):
        return layout  # nested already, or nothing that `parse_layout` would not complain about
    nested = [layout[-1]]
    for run in reversed(layout[:-1]):
        parse_blocks(run)
        nested = [run, nested, _mirrored(run)]
    return nested


def _mirrored(run: str) -> str:
    return "".join(reversed(re.findall(r"[A-Za-z]\d+", run)))


def _check_widths(widths: Any, stages: int) -> None:
    if not isinstance(widths, list) or not all(type(width) is int and width > 0 for width in widths):
        raise InputError(f"d_model: {widths!r} should be positive whole numbers, one a stage")
    if len(widths) != stages:
        raise InputError(f"d_model: {len(widths)} values for the {stages} stages of the layout")
    for width in widths:
        if width % HEAD_WIDTHS[-1]:
            raise InputError(
                f"d_model: {width} is no multiple of {HEAD_WIDTHS[-1]}, and has no reasonable heads"
            )


def _mlp_widths(stages: StageLayout, widths: list[int], mlp: Any) -> list[int]:
    found, stage = [], stages
    for width in widths:
        needed = any(block.mlp for block in stage.encoder + stage.decoder)
        multiple = 128 if width >= 512 else 64
        wanted = 4 * width if mlp == "gelu" else -(-8 * width // 3)
        found.append(-(-wanted // multiple) * multiple if needed else 0)
        stage = stage.inner
    return found


def _attention(widths: list[int]) -> dict[str, list[int]]:
    of_head = [next(size for size in HEAD_WIDTHS if width % size == 0) for width in widths]
    return {
        "heads": [width // size for width, size in zip(widths, of_head, strict=True)],
        "rotary_dim": [size // 2 for size in of_head],
        "window": [OUTER_WINDOW] * (len(widths) - 1) + [-1],
    }


def _mamba2_head(widths: list[int], given: dict[str, Any]) -> int:
    sizes = given.get("mamba2")
    expand = sizes.get("expand", 2) if isinstance(sizes, dict) else 2
    fitting = (
        size for size in HEAD_WIDTHS if isinstance(expand, int) and not any(w * expand % size for w in widths)
    )
    return next(fitting, HEAD_WIDTHS[-1])

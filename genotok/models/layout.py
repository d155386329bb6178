"""The nested list that spells a model: `["m3T1", ["M15"], "m4"]`."""

import re
from dataclasses import dataclass

from genotok.errors import InputError

MIXERS = {"m": "mamba2", "t": "attention", "h": "hyena"}
_RUN = re.compile(r"([A-Za-z])(\d+)")


@dataclass(frozen=True)
class BlockLayout:
    """One block: its mixer, and whether an MLP follows (upper-case letter)."""

    mixer: str
    mlp: bool


@dataclass(frozen=True)
class StageLayout:
    """One level of the hierarchy.

    Attributes:
        encoder: blocks before the chunker; in the innermost stage all of its blocks.
        inner: the next stage, which runs on chunks; None in the innermost.
        decoder: blocks after the upsampler; empty in the innermost stage.
    """

    encoder: tuple[BlockLayout, ...]
    inner: "StageLayout | None" = None
    decoder: tuple[BlockLayout, ...] = ()

    @property
    def depth(self) -> int:
        """Number of stages, this one included."""
        return 1 if self.inner is None else 1 + self.inner.depth


def parse_layout(layout: list) -> StageLayout:
    """Read a layout: `["T9"]` is one stage, `[encoder, [inner], decoder]` holds another.

    Raises:
        InputError: the list has another shape, or a letter that names no mixer.
    """
    if isinstance(layout, list) and len(layout) == 1 and isinstance(layout[0], str):
        return StageLayout(parse_blocks(layout[0]))
    if not (isinstance(layout, list) and len(layout) == 3 and isinstance(layout[1], list)):
        raise InputError(f"layout: {layout!r} is neither [blocks] nor [encoder, [inner], decoder]")
    encoder, inner, decoder = layout
    return StageLayout(parse_blocks(encoder), parse_layout(inner), parse_blocks(decoder))


def parse_blocks(text: str) -> tuple[BlockLayout, ...]:
    """Read a run of blocks such as `m3T1`: three Mamba-2 blocks without and one attention block with an MLP."""
    if not isinstance(text, str) or not re.fullmatch(r"([A-Za-z]\d+)+", text):
        raise InputError(f"layout: {text!r} is not a run of blocks such as 'm3T1'")
    blocks = []
    for letter, count in _RUN.findall(text):
        if letter.lower() not in MIXERS:
            known = ", ".join(f"{key}/{key.upper()} ({name})" for key, name in MIXERS.items())
            raise InputError(f"layout: the letter {letter!r} in {text!r} names no mixer; known are {known}")
        blocks += [BlockLayout(MIXERS[letter.lower()], letter.isupper())] * int(count)
    return tuple(blocks)

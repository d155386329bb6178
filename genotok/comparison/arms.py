"""The tokenizers that are compared, and the model around each.

What an arm does not vary is the same everywhere: main networks are transformers (but that of `mamba2`), and all
arms that cut chunks inside the model have the same outer stage of Mamba-2 blocks, hand on the first row of a chunk,
and bring chunk states back along the rows; they differ in where a chunk begins. Chunkers that learn need the moving
average (`ema`), on which their gradient comes; for the others, whose boundaries are certain, it is `repeat`.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from genotok.errors import InputError

SMALL, LARGE = 16, 64  # features of a head: of models for a CPU, and of those for a GPU
SINGLE, FIXED, VOCABULARY, ENTROPY, LEARNED = "single", "fixed", "vocabulary", "entropy", "learned"


@dataclass(frozen=True)
class Arm:
    """One tokenizer.

    Attributes:
        name: as the configuration writes it.
        title: as people read it.
        family: `single` bases; `fixed` cuts; a `vocabulary` learned of the training sequence before the model;
            cuts by the `entropy` of a small model; `learned` with the model.
        mixer: letter of the main network's blocks, `T` or `M`.
        stages: that cut chunks inside the model.
        length: letters of a fixed cut, or tokens of a vocabulary; 0 where it is no part of the name.
    """

    name: str
    title: str
    family: str
    mixer: str = "T"
    stages: int = 0
    length: int = 0

    @property
    def vocabulary(self) -> int:
        """Tokens of the byte pairs that this arm needs; 0 for none."""
        return self.length if self.family == VOCABULARY else 0


_ARMS = {
    "transformer": Arm("transformer", "single bases, transformer", SINGLE),
    "mamba2": Arm("mamba2", "single bases, Mamba-2", SINGLE, mixer="M"),
    "entropy": Arm("entropy", "BLT entropy patches", ENTROPY, stages=1),
    "merge": Arm("merge", "adaptive merging", LEARNED, stages=1),
    "hnet_1stage": Arm("hnet_1stage", "H-Net, one stage", LEARNED, stages=1),
    "hnet_2stage": Arm("hnet_2stage", "H-Net, two stages", LEARNED, stages=2),
}


def find_arm(name: str) -> Arm:
    """The arm of a name: one of the fixed names, `static_N`, `kmer_N` or `bpe_N`.

    Raises:
        InputError: there is none.
    """
    if name in _ARMS:
        return _ARMS[name]
    found = re.fullmatch(r"(static|kmer|bpe)_([1-9]\d*)", name)
    kind, number = (found[1], int(found[2])) if found else ("", 0)
    if kind == "static" and number >= 2:
        return Arm(name, f"every {number} bases", FIXED, stages=1, length=number)
    if kind == "kmer" and 2 <= number <= 8:
        return Arm(name, f"{number}-mers", FIXED, length=number)
    if kind == "bpe" and number >= 32:
        return Arm(name, f"BPE, {number:,} tokens", VOCABULARY, length=number)
    raise InputError(
        f"arm {name!r} is unknown; there are {', '.join(_ARMS)}, static_N (N from 2), kmer_N (N from 2 to 8) and "
        "bpe_N (N from 32)"
    )


@dataclass(frozen=True)
class Shape:
    """The sizes of an arm's model, which the solver chooses.

    Attributes:
        width: of the main network.
        layers: of the main network.
        inner: width of its MLPs.
        outer_width: of the stages around it.
        outer_layers: Mamba-2 blocks of an encoder and of a decoder.
        head: features of a head.
    """

    width: int
    layers: int
    inner: int
    outer_width: int = 0
    outer_layers: int = 0
    head: int = SMALL


@dataclass(frozen=True)
class Cuts:
    """How long the chunks of an arm are meant to be.

    Attributes:
        tokenizer: of the model, as `ModelConfig.tokenizer`.
        letters: a token.
        rows: a chunk of each chunking stage, outermost first.
    """

    tokenizer: str | dict[str, Any] = "nucleotide"
    letters: float = 1.0
    rows: list[float] = field(default_factory=list)


def model_values(arm: Arm, cuts: Cuts, shape: Shape) -> dict[str, Any]:
    """The configuration of an arm's model of some sizes, as JSON values for `ModelConfig.from_dict`."""
    stages = arm.stages + 1
    widths = [shape.outer_width] * arm.stages + [shape.width]
    values = {
        "layout": _layout(arm, shape),
        "d_model": widths,
        "d_intermediate": [0] * arm.stages + [shape.inner],
        "attention": {
            "heads": [width // shape.head for width in widths],
            "rotary_dim": [shape.head // 2] * stages,
            "window": [-1] * stages,
        },
        "mamba2": {"d_state": shape.head, "head_dim": shape.head, "chunk_size": 64},
        "tokenizer": cuts.tokenizer,
    }
    if arm.stages:
        values["chunkers"] = [_chunker(arm, rows) for rows in cuts.rows]
        values["upsamplers"] = "ema" if arm.family == LEARNED else "repeat"
    return values


def _layout(arm: Arm, shape: Shape) -> list[Any]:
    """Encoder, what it encloses, decoder; a stage further inside has half the blocks of the one around it."""
    layout: list[Any] = [f"{arm.mixer}{shape.layers}"]
    for stage in reversed(range(arm.stages)):
        blocks = f"m{max(shape.outer_layers // 2**stage, 1)}"
        layout = [blocks, layout, blocks]
    return layout


def _chunker(arm: Arm, rows: float) -> dict[str, Any]:
    if arm.family == FIXED:
        return {"kind": "static", "length": arm.length}
    if arm.family == ENTROPY:
        return {"kind": "entropy", "mean_length": rows}
    if arm.name == "merge":
        return {"kind": "merge", "min_length": max(round(rows / 2), 1), "max_length": round(2 * rows)}
    return {"kind": "routing"}

"""A picture of a model's architecture, drawn from its configuration."""

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.models import ModelConfig
from genotok.models.layout import BlockLayout
from genotok.report.style import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, styled

MIXER_NAMES = {"mamba2": "Mamba-2", "attention": "attention", "hyena": "Hyena"}
MLP_NAMES = {"swiglu": "SwiGLU", "gelu": "GELU"}
BOX_WIDTH, BOX_HEIGHT, STEP = 2.4, 0.8, 1.6
LEFT, RIGHT, MIDDLE = 0.0, 6.4, 3.2


@styled
def save_architecture(config: ModelConfig, title: str, path: Path) -> None:
    """Draw a model as an SVG file: encoders down the left side, decoders up the right one.

    Args:
        config: the architecture.
        title: above the picture.
        path: `*.svg`; the same configuration gives the same bytes.

    Raises:
        InputError: the path ends otherwise.
    """
    if path.suffix != ".svg":
        raise InputError(f"{path}: a picture of an architecture is written as .svg")
    depth = config.stage_layout.depth
    bottom = -STEP * depth - 0.7
    figure = Figure(figsize=(7.2, 0.55 * (STEP - bottom) + 0.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(LEFT - 1.8, RIGHT + 1.8), ylim=(bottom, 0.8), title=title)
    axes.set_axis_off()
    _draw(axes, config)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def _draw(axes: Axes, config: ModelConfig) -> None:
    stage, depth = config.stage_layout, config.stage_layout.depth
    tokens = config.tokenizer if isinstance(config.tokenizer, str) else config.tokenizer["kind"]
    _box(axes, LEFT, 0, f"embedding\n{tokens} tokens", GREY)
    head = "tied to the embedding" if config.tie_embeddings else config.head
    _box(axes, RIGHT, 0, f"head: {head}\n{', '.join(config.tasks)}", GREY)
    for s in range(depth):
        y, width = -STEP * (s + 1), config.d_model[s]
        above = -STEP * s
        if stage.inner is None:
            words = f"stage {s}, width {width}\n{_blocks(stage.encoder, config)}"
            _box(axes, MIDDLE, y, words, BLUE)
            _arrow(axes, (LEFT, above - BOX_HEIGHT / 2), (MIDDLE - BOX_WIDTH / 2, y))
            _arrow(axes, (MIDDLE + BOX_WIDTH / 2, y), (RIGHT, above - BOX_HEIGHT / 2))
        else:
            _box(axes, LEFT, y, f"encoder {s}, width {width}\n{_blocks(stage.encoder, config)}", GREEN)
            _box(axes, RIGHT, y, f"decoder {s}, width {width}\n{_blocks(stage.decoder, config)}", ORANGE)
            _arrow(axes, (LEFT, above - BOX_HEIGHT / 2), (LEFT, y + BOX_HEIGHT / 2))
            _arrow(axes, (RIGHT, y + BOX_HEIGHT / 2), (RIGHT, above - BOX_HEIGHT / 2))
            _arrow(axes, (LEFT + BOX_WIDTH / 2, y), (RIGHT - BOX_WIDTH / 2, y), "skip connection", "dotted")
            stage = stage.inner
        if s:
            _between_stages(axes, config, s - 1, above - STEP / 2)
        if config.positions[s]:
            axes.text(LEFT - BOX_WIDTH / 2, y + BOX_HEIGHT / 2 + 0.08, "+ positions", fontsize=7, color=GREY)


def _between_stages(axes: Axes, config: ModelConfig, stage: int, y: float) -> None:
    """The words beside the arrows into a stage and out of it."""
    state, upsampler = config.chunk_states[stage], config.upsamplers[stage]
    down = f"{config.chunkers[stage]['kind']} chunks\n{state.replace('_', '-')}"
    up = upsampler if isinstance(upsampler, str) else upsampler["kind"]
    axes.text(LEFT - 0.25, y, down, fontsize=7.5, color=PURPLE, va="center", ha="right")
    axes.text(RIGHT + 0.25, y, f"upsampler\n{up.replace('_', '-')}", fontsize=7.5, color=PURPLE, va="center")


def _blocks(blocks: tuple[BlockLayout, ...], config: ModelConfig) -> str:
    """What a run of blocks is made of, in words."""
    parts = []
    for block, run in groupby(blocks):
        mlp = f" + {MLP_NAMES[config.mlp]}" if block.mlp else ""
        parts.append(f"{len(list(run))} x {MIXER_NAMES[block.mixer]}{mlp}")
    return "\n".join(parts)


def _box(axes: Axes, x: float, y: float, words: str, colour: str) -> None:
    axes.text(
        x,
        y,
        words,
        ha="center",
        va="center",
        fontsize=7.5,
        bbox={"boxstyle": "round,pad=0.55", "facecolor": PALE, "edgecolor": colour, "linewidth": 1.6},
        zorder=3,
    )


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], words: str = "", line: str = "solid"
) -> None:
    arrow = {"arrowstyle": "-|>", "color": GREY, "linestyle": line, "linewidth": 1.1}
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=1)
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12)
    axes.text(*middle, words, ha="center", fontsize=7, color=GREY)

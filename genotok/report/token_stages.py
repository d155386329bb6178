"""The chunks of all stages side by side: how long they are, what each holds, and which boundaries it keeps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genotok.interpret.token_survey import TokenSurvey
from genotok.report.names import PLACE_KINDS
from genotok.report.style import BLACK, GREY, SERIES, WIDTH, figure_that_says, styled

DRAWN_SHARE = 0.995  # of the chunks; longer ones are in the table alone
TITLES = {"length": "Length (bases)", "held": "Chunks of the stage before", "kept": "Boundaries kept (%)"}


def stages_table(found: TokenSurvey, enrichment: pd.DataFrame) -> pd.DataFrame:
    """What is said of each stage.

    Args:
        found: a survey.
        enrichment: its table of enrichment.

    Returns:
        `stage`, `measure`, `group`, `count`, `share` and `expected`. For the measure `length` the group is a length
        in bases, the share that of the stage's chunks, and expected what boundaries at random would give: a geometric
        distribution with the same mean. For `held`, from stage 1 on, the group is a number of chunks of the stage
        before. For `kept`, from stage 1 on, the group is a kind of places (`all` of them first): how many of the
        boundaries of the stage before are boundaries of this stage as well.
    """
    rows: list[tuple] = []
    for stage in sorted(found.vocabulary.stages):
        lengths = found.vocabulary.lengths(stage)
        chunks = sum(lengths.values())
        rate = chunks / sum(length * count for length, count in lengths.items())
        rows += [
            (stage, "length", str(length), count, count / chunks, rate * (1 - rate) ** (length - 1))
            for length, count in lengths.items()
        ]
        held = found.nesting.held.get(stage, {})
        total = sum(held.values())
        rows += [(stage, "held", str(n), held[n], held[n] / total, None) for n in sorted(held)]
        if stage:
            before = sum(found.vocabulary.lengths(stage - 1).values())
            rows.append((stage, "kept", "all", chunks, chunks / before, None))
            rows += _kept_by_kind(enrichment, stage)
    data = pd.DataFrame(rows, columns=["stage", "measure", "group", "count", "share", "expected"])
    return data.astype({"share": float, "expected": float})


def _kept_by_kind(enrichment: pd.DataFrame, stage: int) -> list[tuple]:
    counts = enrichment.pivot(index="kind", columns="stage", values="boundaries")
    known = [kind for kind in PLACE_KINDS if kind in counts.index]
    return [
        (stage, "kept", kind, int(counts.loc[kind, stage]), counts.loc[kind, stage] / before, None)
        for kind in [*known, *(kind for kind in counts.index if kind not in PLACE_KINDS)]
        if (before := counts.loc[kind, stage - 1])
    ]


@styled
def stages_figure(data: pd.DataFrame) -> Figure:
    """A row for each stage: lengths; and from stage 1 on what a chunk holds, and which boundaries it keeps."""
    if data.empty:
        return figure_that_says("This model has no chunking stage: its tokens are what its tokenizer makes.")
    stages = sorted(data["stage"].unique())
    kinds = [int(((data["stage"] == s) & (data["measure"] == "kept")).sum()) for s in stages]
    heights = [max(1.9, 0.7 + 0.14 * count) for count in kinds]
    figure = Figure(figsize=(WIDTH, 0.2 + sum(heights)), layout="constrained")
    columns = 3 if len(stages) > 1 else 1
    panels = figure.subplots(len(stages), columns, squeeze=False, height_ratios=heights)
    for row, stage in zip(panels, stages, strict=True):
        mine = data[data["stage"] == stage]
        colour = SERIES[stage % len(SERIES)]
        _draw_counts(row[0], mine[mine["measure"] == "length"], colour)
        row[0].set_title(f"Stage {stage}")
        row[0].set_xlabel(TITLES["length"])
        for axes in row[1:]:
            axes.set_visible(stage > 0)
        if stage:
            _draw_counts(row[1], mine[mine["measure"] == "held"], colour)
            row[1].set_xlabel(TITLES["held"])
            _draw_kept(row[2], mine[mine["measure"] == "kept"], colour)
    return figure


def _draw_counts(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    """Bars of the shares, the mean as a dashed line, and what is expected as a line where it is known."""
    values = rows["group"].astype(int)
    longest = values[rows["share"].cumsum().searchsorted(DRAWN_SHARE) + rows.index[0]] if len(rows) else 1
    axes.bar(values, 100 * rows["share"], width=0.85, color=colour)
    if rows["expected"].notna().any():
        axes.plot(values, 100 * rows["expected"], color=BLACK, linewidth=1)
    if len(rows):
        mean = float(np.average(values, weights=rows["count"]))
        axes.axvline(mean, color=GREY, linestyle="--", linewidth=1)
        place = {
            "textcoords": "offset points",
            "va": "top",
            "xycoords": ("data", "axes fraction"),
            "size": 7.5,
        }
        axes.annotate(f"mean {mean:.2f}", (mean, 1), (4, 0), **place)
    axes.set_xlim(0.4, longest + 0.6)
    axes.set_ylabel("Chunks (%)")
    axes.grid(axis="y")


def _draw_kept(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    names: Sequence[str] = [PLACE_KINDS.get(kind, kind) for kind in rows["group"]]
    axes.plot(100 * rows["share"], range(len(rows)), "o", color=colour, markersize=4)
    axes.axvline(100 * rows["share"].iloc[0], color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), names, size=6.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(TITLES["kept"])
    axes.grid(axis="x")

"""The pictures of an attributed region: contributions as logos, a map of changes, and attention maps."""

from collections.abc import Sequence

import logomaker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genotok.interpret.attention_maps import AttentionMap
from genotok.interpret.attribution import Attribution
from genotok.interpret.chunks import RegionChunks
from genotok.report.names import ATTRIBUTION_METHODS
from genotok.report.style import (
    BLACK,
    DIVERGING,
    GREY,
    LETTERS,
    SEQUENTIAL,
    WIDTH,
    figure_that_says,
    styled,
)

BASES_PER_LINE = 50
MOST_LAYERS, MOST_HEADS = 4, 4
LEAST_WEIGHT = 1e-3
# Heights and margins in inches.
_LOGO, _CHANGES, _GAP, _BETWEEN_LINES = 0.6, 0.56, 0.14, 0.4
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.96, 0.1, 0.12, 0.42
_BAR = 0.55  # of the colours, below the map


@styled
def contributions_figure(found: Attribution, chunks: RegionChunks | None, unit: str = "nats") -> Figure:
    """The bases' contributions as letters, in lines of 50 bases with a panel for each method.

    Args:
        found: contributions by at least one method.
        chunks: of the region, whose edges are drawn; None where there are none.
        unit: of the target; may be empty.
    """
    methods = list(found.contributions)
    heights = {method: found.contributions[method] * found.one_hot for method in methods}
    limits = {method: _limits(values.sum(1)) for method, values in heights.items()}
    figure, panels = _lines(len(found.letters), [_LOGO] * len(methods))
    for line, (first, last) in enumerate(_spans(len(found.letters))):
        for axes, method in zip(panels[line], methods, strict=True):
            _draw_edges(axes, chunks, first, last)
            _draw_letters(axes, heights[method][first:last])
            axes.set_ylim(*limits[method])
            axes.axhline(0, color=GREY, linewidth=0.6)
            axes.yaxis.set_major_locator(MaxNLocator(2, min_n_ticks=2))
            name = ATTRIBUTION_METHODS[method].replace(" ", "\n", 1)
            _name_panel(axes, f"{name}\n({unit})" if unit else name)
            axes.set_xticks([])
        _name_positions(panels[line][-1], found, first, last)
    return figure


@styled
def changes_figure(found: Attribution, unit: str = "nats") -> Figure:
    """What the target changes by with each letter in the place of each base, in lines of 50 bases.

    Args:
        found: with changes.
        unit: of the target; may be empty.
    """
    most = max(float(np.abs(found.changes).max(initial=0)), 1e-12)
    length = len(found.letters)
    figure, panels = _lines(length, [_CHANGES], below=_BAR)
    colours = {"cmap": DIVERGING, "vmin": -most, "vmax": most, "interpolation": "nearest"}
    for line, (first, last) in enumerate(_spans(length)):
        (axes,) = panels[line]
        image = axes.imshow(
            found.changes[first:last].T,
            aspect="auto",
            extent=(-0.5, last - first - 0.5, 3.5, -0.5),
            **colours,
        )
        places, columns = np.nonzero(found.one_hot[first:last])
        axes.plot(places, columns, ".", color=BLACK, markersize=2.5)
        axes.set_yticks(range(4), list("ACGT"), family="DejaVu Sans Mono", size=6.5)
        axes.tick_params(axis="y", length=0)
        _name_positions(axes, found, first, last)
    width, height = figure.get_size_inches()
    bar = figure.add_axes((_LEFT / width, 0.36 / height, 2.2 / width, 0.09 / height))
    figure.colorbar(image, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=6.5)
    bar.set_title(
        f"Change of the target ({unit})" if unit else "Change of the target", size=7, weight="normal", pad=3
    )
    return figure


@styled
def attention_figure(maps: Sequence[AttentionMap], start: int, end: int, without: str) -> Figure:
    """A row of panels for each layer, a panel for each head, over the bases of the region on both axes.

    At most 4 layers are drawn, the first and the last among them, and 4 heads of each.

    Args:
        maps: of the layers in the order of running.
        start, end: of the region, 0-based and half-open.
        without: what is said where there are none.
    """
    if not maps:
        return figure_that_says(without)
    shown = drawn_layers(maps)
    heads = min(max(len(one.weights) for one in shown), MOST_HEADS)
    side = WIDTH / max(heads, 3)
    figure = Figure(figsize=(side * heads, 0.5 + (side + 0.1) * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), heads, squeeze=False)
    for row, one in zip(panels, shown, strict=True):
        for head, axes in enumerate(row):
            if head >= len(one.weights):
                axes.set_axis_off()
                continue
            image, outside = _on_bases(one, head, start, end)
            extent = (start + 0.5, end + 0.5, end + 0.5, start + 0.5)
            norm = PowerNorm(0.5, 0, max(float(image.max()), 1e-6))
            axes.imshow(image, cmap=SEQUENTIAL, norm=norm, extent=extent, interpolation="nearest")
            axes.set_title(f"{one.layer}\nhead {head}, {outside:.0%} outside", size=6.5, weight="normal")
            axes.tick_params(labelsize=6, length=2)
            for axis, ticks in ((axes.xaxis, 2), (axes.yaxis, 3)):
                axis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
                axis.set_major_formatter("{x:,.0f}")
    figure.supxlabel("Position that is looked at", size=8)
    figure.supylabel("Position that looks", size=8)
    return figure


def attention_table(maps: Sequence[AttentionMap], contig: str, start: int, end: int) -> pd.DataFrame:
    """What `attention_figure` shows: `contig`, `layer`, `head`, `query_start`, `query_end`, `key_start`, `key_end`
    (1-based, closed) and `weight`, of keys in the region, without weights below 0.001."""
    parts = []
    for one in drawn_layers(maps):
        keys = np.flatnonzero((one.keys[:, 1] > start) & (one.keys[:, 0] < end))
        weights = one.weights[:MOST_HEADS, :, keys]
        head, query, key = np.nonzero(weights >= LEAST_WEIGHT)
        spans = np.column_stack([one.queries[query], one.keys[keys[key]]]) + np.array([1, 0, 1, 0])
        part = pd.DataFrame(spans, columns=["query_start", "query_end", "key_start", "key_end"])
        part.insert(0, "head", head)
        part.insert(0, "layer", one.layer)
        parts.append(part.assign(weight=weights[head, query, key]))
    columns = ["layer", "head", "query_start", "query_end", "key_start", "key_end", "weight"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    table.insert(0, "contig", contig)
    return table


def drawn_layers(maps: Sequence[AttentionMap]) -> list[AttentionMap]:
    """The layers that are drawn: all, or 4 evenly from the first to the last."""
    if len(maps) <= MOST_LAYERS:
        return list(maps)
    return [maps[round(place)] for place in np.linspace(0, len(maps) - 1, MOST_LAYERS)]


def _on_bases(one: AttentionMap, head: int, start: int, end: int) -> tuple[np.ndarray, float]:
    """(L, L) weights on the bases of the region, and the share of attention that goes elsewhere."""
    weights = one.weights[head]
    inside = (one.keys[:, 1] > start) & (one.keys[:, 0] < end)

    def widths(spans: np.ndarray) -> np.ndarray:
        clipped = spans.clip(start, end)
        return clipped[:, 1] - clipped[:, 0]

    rows = np.repeat(weights[:, inside], widths(one.queries), axis=0)
    return np.repeat(rows, widths(one.keys[inside]), axis=1), float(weights[:, ~inside].sum(1).mean())


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = min(float(values.min(initial=0)), 0.0), max(float(values.max(initial=0)), 0.0)
    room = 0.05 * (high - low) or 1e-6
    return low - room, high + room


def _spans(length: int) -> list[tuple[int, int]]:
    return [(first, min(first + BASES_PER_LINE, length)) for first in range(0, length, BASES_PER_LINE)]


def _lines(length: int, heights: Sequence[float], below: float = 0.0) -> tuple[Figure, list[list[Axes]]]:
    """A figure with panels of some heights for each line of bases; a base's centre is its number in the line."""
    lines = _spans(length)
    line_height = sum(heights) + _GAP * (len(heights) - 1)
    height = _TOP + len(lines) * line_height + (len(lines) - 1) * _BETWEEN_LINES + _BOTTOM + below
    figure, panels = Figure(figsize=(WIDTH, height)), []
    for line, (first, last) in enumerate(lines):
        bottom = height - _TOP - line * (line_height + _BETWEEN_LINES)
        width = (WIDTH - _LEFT - _RIGHT) * (last - first) / BASES_PER_LINE
        panels.append([])
        for panel in heights:
            bottom -= panel
            axes = figure.add_axes((_LEFT / WIDTH, bottom / height, width / WIDTH, panel / height))
            axes.set_xlim(-0.5, last - first - 0.5)
            panels[-1].append(axes)
            bottom -= _GAP
    return figure, panels


def _draw_edges(axes: Axes, chunks: RegionChunks | None, first: int, last: int) -> None:
    if chunks is not None and chunks.begins:
        for place in np.flatnonzero(chunks.begins[0][first:last]):
            axes.axvline(place - 0.5, color=GREY, linewidth=0.4, zorder=0)


def _draw_letters(axes: Axes, heights: np.ndarray) -> None:
    limits = axes.get_xlim()
    if heights.any():
        letters = pd.DataFrame(heights, columns=list("ACGT"))
        logomaker.Logo(letters, ax=axes, color_scheme=LETTERS, show_spines=False, baseline_width=0)
    axes.set_xlim(*limits)
    axes.spines[["left"]].set_visible(True)


def _name_panel(axes: Axes, name: str) -> None:
    axes.tick_params(axis="y", labelsize=6, length=2.5)
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "center"}
    axes.annotate(name, (0, 0.5), (-22, 0), size=6.5, **place)


def _name_positions(axes: Axes, found: Attribution, first: int, last: int) -> None:
    positions = np.arange(found.region.start + first, found.region.start + last) + 1
    shown = np.flatnonzero(positions % 10 == 0)
    axes.set_xticks(shown, [f"{position:,}" for position in positions[shown]])
    axes.tick_params(axis="x", labelsize=7, length=2.5)
    if last == len(found.letters):
        axes.set_xlabel(f"Position on {found.region.contig}", labelpad=2)

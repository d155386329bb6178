"""Names beside the marks of a figure, where they cover neither marks nor each other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

SIZE = 6.5  # points
MARK = 3.5  # half a mark, points
NEAR, FAR, FARTHEST = 5.0, 14.0, 24.0  # from the mark, points
RIGHT, LEFT, MIDDLE, BEGIN, END = (1, "left"), (-1, "right"), (0, "center"), (0, "left"), (0, "right")
# Steps to the side and up, the best first; a name that is far away has a line to its mark.
STEPS = (
    *((RIGHT, 0.0), (LEFT, 0.0), (RIGHT, 0.7), (RIGHT, -0.7)),
    *((LEFT, 0.7), (LEFT, -0.7), (MIDDLE, 1.2), (MIDDLE, -1.2)),
    *((BEGIN, 1.2), (BEGIN, -1.2), (END, 1.2), (END, -1.2)),
)
ROUNDS = 3  # in which names move out of each other's way
# Square points that each thing under a name counts beside its area: bars and lines have hardly any.
TOUCHED = 20.0


def name_marks(axes: Axes, names: Sequence[str], places: np.ndarray, heights: Sequence[float] = ()) -> None:
    """Write the name of each mark beside it, at the place that covers least.

    Args:
        axes: whose marks, limits and layout are final.
        names: of the marks.
        places: (marks, 4) x, y, and the low and the high end of the bar through the mark, in data coordinates.
        heights: y of lines across the axes.
    """
    taken = [box for place in places for box in _mark_and_bar(axes, place)]
    taken += [_line_across(axes, height) for height in heights]
    ways = [(step, away) for away in (NEAR, FAR, FARTHEST) for step in STEPS]
    boxes = [
        [_box(axes, size, place, *way) for way in ways]
        for size, place in zip(_sizes(axes, names), places, strict=True)
    ]
    dot = _dot(axes)
    alone = [[_covered(box, taken, dot) + _outside(box, axes.bbox) for box in of_name] for of_name in boxes]
    chosen: dict[int, int] = {}
    for _ in range(ROUNDS):
        for number, own in enumerate(alone):
            others = [boxes[other][way] for other, way in chosen.items() if other != number]
            costs = [cost + _covered(box, others, dot) for cost, box in zip(own, boxes[number], strict=True)]
            chosen[number] = costs.index(min(costs))
    for number, name in enumerate(names):
        _write(axes, name, places[number], *ways[chosen[number]])


def _dot(axes: Axes) -> float:
    """Pixels of a point."""
    return axes.figure.dpi / 72


def _mark_and_bar(axes: Axes, place: np.ndarray) -> list[Bbox]:
    x, y, low, high = place
    dot = _dot(axes)
    across, middle = axes.transData.transform((x, y))
    (_, bottom), (_, top) = axes.transData.transform([(x, low), (x, high)])
    half = MARK * dot
    mark = Bbox([[across - half, middle - half], [across + half, middle + half]])
    return [mark, Bbox([[across - dot, bottom], [across + dot, top]])]


def _line_across(axes: Axes, height: float) -> Bbox:
    _, middle = axes.transData.transform((0, height))
    return Bbox([[axes.bbox.x0, middle - _dot(axes) / 2], [axes.bbox.x1, middle + _dot(axes) / 2]])


def _sizes(axes: Axes, names: Sequence[str]) -> list[tuple[float, float]]:
    """Width and height of each name in pixels."""
    found = []
    for name in names:
        text = axes.text(0.5, 0.5, name, size=SIZE, transform=axes.transAxes)
        box = text.get_window_extent()
        found.append((box.width, box.height))
        text.remove()
    return found


def _begin(place: np.ndarray, up: float, side: int) -> tuple[float, float]:
    """Where the step to a name begins: at the mark, or at an end of its bar where the name is above or below."""
    x, y, low, high = place
    return x, y if side else high if up > 0 else low


def _box(
    axes: Axes, size: tuple[float, float], place: np.ndarray, step: tuple[tuple[int, str], float], away: float
) -> Bbox:
    """What a name of a size in pixels would cover."""
    (side, align), up = step
    width, height = size
    across, middle = axes.transData.transform(_begin(place, up, side)) + away * _dot(axes) * np.array(
        [side, up]
    )
    left = across - {"left": 0.0, "center": width / 2, "right": width}[align]
    return Bbox([[left, middle - height / 2], [left + width, middle + height / 2]])


def _write(
    axes: Axes, name: str, place: np.ndarray, step: tuple[tuple[int, str], float], away: float
) -> None:
    (side, align), up = step
    line = {"arrowstyle": "-", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2} if away > NEAR else None
    near = {"xytext": (away * side, away * up), "textcoords": "offset points", "arrowprops": line}
    axes.annotate(name, _begin(place, up, side), size=SIZE, ha=align, va="center", **near)


def _covered(box: Bbox, taken: Sequence[Bbox], dot: float) -> float:
    """The area of a box that lies over others, and more for each of these."""
    parts = [part for other in taken if (part := Bbox.intersection(box, other)) is not None]
    return sum(part.width * part.height + TOUCHED * dot**2 for part in parts)


def _outside(box: Bbox, frame: Bbox) -> float:
    """The area that lies outside the frame, weighted, since it is cut off or lies over the next panel."""
    inside = Bbox.intersection(box, frame)
    return 10 * (box.width * box.height - (0.0 if inside is None else inside.width * inside.height))

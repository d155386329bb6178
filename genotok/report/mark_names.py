"""Names beside the marks of a figure, where they cover neither marks nor each other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

SIZE = 6.5  # points
MARK = 3.5  # half a mark, points
NEAR, FAR = 5.0, 14.0  # from the mark, points
RIGHT, LEFT, MIDDLE = (1, "left"), (-1, "right"), (0, "center")
# Steps to the side and up, the best first; a name that is far away has a line to its mark.
STEPS = (
    *((RIGHT, 0.0), (LEFT, 0.0), (RIGHT, 0.7), (RIGHT, -0.7)),
    *((LEFT, 0.7), (LEFT, -0.7), (MIDDLE, 1.2), (MIDDLE, -1.2)),
)


def name_marks(axes: Axes, names: Sequence[str], places: np.ndarray) -> None:
    """Write the name of each mark beside it, at the place that covers least.

    Args:
        axes: whose marks, limits and layout are final.
        names: of the marks.
        places: (marks, 4) x, y, and the low and the high end of the bar through the mark, in data coordinates.
    """
    taken = [box for place in places for box in _mark_and_bar(axes, place)]
    for name, (x, y, *_) in zip(names, places, strict=True):
        tried = [_write(axes, name, x, y, step, away) for away in (NEAR, FAR) for step in STEPS]
        boxes = [text.get_window_extent() for text in tried]
        costs = [_covered(box, taken) + _outside(box, axes.bbox) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        for number, text in enumerate(tried):
            if number != best:
                text.remove()


def _mark_and_bar(axes: Axes, place: np.ndarray) -> list[Bbox]:
    x, y, low, high = place
    dot = axes.figure.dpi / 72
    across, middle = axes.transData.transform((x, y))
    (_, bottom), (_, top) = axes.transData.transform([(x, low), (x, high)])
    half = MARK * dot
    mark = Bbox([[across - half, middle - half], [across + half, middle + half]])
    return [mark, Bbox([[across - dot, bottom], [across + dot, top]])]


def _write(
    axes: Axes, name: str, x: float, y: float, step: tuple[tuple[int, str], float], away: float
) -> Annotation:
    (side, align), up = step
    line = {"arrowstyle": "-", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2} if away > NEAR else None
    near = {"xytext": (away * side, away * up), "textcoords": "offset points", "arrowprops": line}
    return axes.annotate(name, (x, y), size=SIZE, ha=align, va="center", **near)


def _covered(box: Bbox, taken: Sequence[Bbox]) -> float:
    """The area of a box that lies over others."""
    parts = (Bbox.intersection(box, other) for other in taken)
    return sum(part.width * part.height for part in parts if part is not None)


def _outside(box: Bbox, frame: Bbox) -> float:
    """The area that lies outside the frame, weighted, since it is cut off or lies over the next panel."""
    inside = Bbox.intersection(box, frame)
    return 10 * (box.width * box.height - (0.0 if inside is None else inside.width * inside.height))

"""Names stand beside their marks, and over nothing."""

import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from genotok.report.mark_names import name_marks


def test_names_cover_neither_each_other_nor_marks_nor_leave_the_panel():
    """Twelve marks, some of them in one place and some at the right edge, as arms of one cost are."""
    random = np.random.default_rng(3)
    across = np.array([1, 1, 1, 2, 2, 2.05, 3, 3, 4, 4, 4, 4.02])
    up = random.uniform(0, 1, 12)
    figure = Figure(figsize=(3.6, 3))
    axes = figure.subplots()
    axes.plot(across, up, "o")
    axes.margins(x=0.08)
    figure.draw_without_rendering()
    names = [f"arm_{number}_of_all" for number in range(12)]
    lines = [0.35, 0.75]
    name_marks(axes, names, np.column_stack([across, up, up - 0.02, up + 0.02]), lines)
    assert [text.get_text() for text in axes.texts] == names
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
    marks = axes.transData.transform(np.column_stack([across, up]))
    assert not any(box.contains(*mark) for box in boxes for mark in marks)
    ends = [axes.transData.transform(np.column_stack([across, up + step])) for step in (-0.02, 0.02)]
    bars = [Bbox([low, high]) for low, high in zip(*ends, strict=True)]
    heights = [axes.transData.transform((0, line))[1] for line in lines]
    assert not any(
        box.x0 < bar.x0 < box.x1 and box.y0 < bar.y1 and bar.y0 < box.y1 for box in boxes for bar in bars
    )
    assert not any(box.y0 < height < box.y1 for box in boxes for height in heights)

"""Labels beside points, where they hide neither each other nor other points."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

__all__ = ["label_points", "shared_area"]

_FONT_SIZE = 7.5  # points

# How far a point's own mark reaches, in pixels to each side.
_REACH = 5.0

# Where a label may stand: alignment and offset from its point, in points; the first is preferred.
_PLACES = [
    (horizontal, vertical, (x * distance, y * distance))
    for distance in (1.0, 2.2, 3.6)
    for horizontal, vertical, (x, y) in (
        ("left", "bottom", (4, 3)),
        ("left", "top", (4, -3)),
        ("right", "bottom", (-4, 3)),
        ("right", "top", (-4, -3)),
        ("center", "bottom", (0, 6)),
        ("center", "top", (0, -6)),
        ("left", "center", (7, 0)),
        ("right", "center", (-7, 0)),
    )
]


def label_points(axes: Axes, places: Sequence[tuple[float, float]], labels: Sequence[str]) -> None:
    """Writes a label beside each point; to be called when all else is drawn.

    Args:
        axes: Where the points are, with its final limits.
        places: The points, in data coordinates.
        labels: One for each of them.
    """
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes must be those of a figure, got axes without one")
    # The layout is settled by drawing; pixels are right only then.
    figure.draw_without_rendering()
    pixels = axes.transData.transform(list(places))
    marks = [Bbox.from_extents(x - _REACH, y - _REACH, x + _REACH, y + _REACH) for x, y in pixels]
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent()]
    frame = axes.get_window_extent()
    for place, label in zip(places, labels, strict=True):
        note = axes.annotate(label, place, (0, 0), textcoords="offset points", fontsize=_FONT_SIZE)
        # A label must not push the axes about.
        note.set_in_layout(False)
        costs = []
        for horizontal, vertical, offset in _PLACES:
            note.set(ha=horizontal, va=vertical, position=offset)
            box = note.get_window_extent()
            hidden = sum(shared_area(box, other) for other in itertools.chain(taken, marks))
            outside = box.width * box.height - shared_area(box, frame)
            costs.append(hidden + 2 * outside)
        horizontal, vertical, offset = _PLACES[costs.index(min(costs))]
        note.set(ha=horizontal, va=vertical, position=offset)
        taken.append(note.get_window_extent())


def shared_area(first: Bbox, second: Bbox) -> float:
    """The area that two boxes have in common, in squares of their unit."""
    common = Bbox.intersection(first, second)
    return 0.0 if common is None else float(common.width * common.height)

"""Labels beside points, where they hide neither each other nor other points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

__all__ = ["covered_area", "label_points"]

_FONT_SIZE = 8.0  # points

# How far a point's own mark reaches, in pixels to each side, and how thick a line is taken to be.
_MARK_REACH = 5.0
_LINE_REACH = 1.5

# What counts how much for each pixel: text on text cannot be read, text on a line can.
_ON_LABEL, _ON_MARK, _ON_LINE, _OUTSIDE = 10.0, 3.0, 1.0, 20.0
# For each point of distance: a label that is near needs no line to its point.
_FAR = 0.5

# Labels farther away than this, in points, are joined with their points by a thin line.
_JOINED_FROM = 10.0
_JOINT: dict[str, Any] = {
    "arrowstyle": "-",
    "color": "#7f7f7f",
    "linewidth": 0.6,
    "shrinkA": 0,
    "shrinkB": 0,
}

# Where a label may stand: alignment and direction from its point, in points; the first is
# preferred, and near ones are.
_DIRECTIONS = (
    ("left", "bottom", (4, 3)),
    ("left", "top", (4, -3)),
    ("right", "bottom", (-4, 3)),
    ("right", "top", (-4, -3)),
    ("center", "bottom", (0, 6)),
    ("center", "top", (0, -6)),
    ("left", "center", (7, 0)),
    ("right", "center", (-7, 0)),
)
_NO_BOXES = np.empty((0, 4))

# How much of a label lies left of or below the place that it is aligned to.
_SHARE_BEFORE = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
_PLACES = [
    (horizontal, vertical, (x * distance, y * distance))
    for distance in (1.0, 2.2, 3.6, 5.4, 7.6, 10.2, 13.2)
    for horizontal, vertical, (x, y) in _DIRECTIONS
]


def label_points(
    axes: Axes,
    places: Sequence[tuple[float, float]],
    labels: Sequence[str],
    *,
    lines: Iterable[Sequence[tuple[float, float]]] = (),
) -> None:
    """Writes a label beside each point; to be called when all else is drawn.

    Args:
        axes: Where the points are, with its final limits.
        places: The points, in data coordinates.
        labels: One for each of them.
        lines: Corners of lines that labels should keep off, in data coordinates.

    Raises:
        ValueError: If the axes belong to no figure.
    """
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes must be those of a figure, got axes without one")
    # The layout is settled by drawing; pixels are right only then.
    figure.draw_without_rendering()
    pixels = axes.transData.transform(list(places))
    legend = axes.get_legend()
    taken = [] if legend is None else [np.array(legend.get_window_extent().extents)]
    avoided = [
        (_ON_MARK, _around(pixels, _MARK_REACH)),
        (_ON_LINE, np.concatenate([_NO_BOXES, *(_along(axes, line) for line in lines)])),
    ]
    frame = np.array(axes.get_window_extent().extents)
    for place, pixel, label in zip(places, pixels, labels, strict=True):
        note = axes.annotate(
            label, place, (0, 0), textcoords="offset points", fontsize=_FONT_SIZE, zorder=4
        )
        # A label must not push the axes about.
        note.set_in_layout(False)
        size = np.array(note.get_window_extent().size)
        boxes = [_box(pixel, size, tried, figure.dpi / 72) for tried in _PLACES]
        seen = [*avoided, (_ON_LABEL, np.reshape(taken, (-1, 4)))]
        costs = [
            sum(weight * covered_area(box, others) for weight, others in seen)
            + _OUTSIDE * (size.prod() - covered_area(box, frame[None]))
            + _FAR * math.hypot(*offset)
            for box, (_, _, offset) in zip(boxes, _PLACES, strict=True)
        ]
        best = int(np.argmin(costs))
        taken.append(boxes[best])
        horizontal, vertical, offset = _PLACES[best]
        note.set(ha=horizontal, va=vertical, position=offset)
        if math.hypot(*offset) > _JOINED_FROM:
            axes.annotate("", place, offset, textcoords="offset points", arrowprops=_JOINT)


def covered_area(box: np.ndarray, others: np.ndarray) -> float:
    """Adds up the areas that a box has in common with others.

    Args:
        box: Least x, least y, largest x and largest y.
        others: ``(N, 4)``, the same of others.

    Returns:
        The sum, in squares of their unit.
    """
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    return float((high - low).clip(0).prod(1).sum())


def _box(
    pixel: np.ndarray, size: np.ndarray, place: tuple[str, str, tuple[float, float]], dot: float
) -> np.ndarray:
    """Where a label of a size in pixels lies beside its point; ``dot`` is pixels in a point."""
    horizontal, vertical, offset = place
    share = np.array([_SHARE_BEFORE[horizontal], _SHARE_BEFORE[vertical]])
    corner = pixel + np.array(offset) * dot - size * share
    return np.concatenate([corner, corner + size])


def _around(points: np.ndarray, reach: float) -> np.ndarray:
    return np.concatenate([points - reach, points + reach], axis=1)


def _along(axes: Axes, line: Sequence[tuple[float, float]]) -> np.ndarray:
    """Small boxes in pixels along a line, which together cover it."""
    parts = [_NO_BOXES]
    for start, end in itertools.pairwise(axes.transData.transform(list(line))):
        steps = max(2, math.ceil(np.abs(end - start).max() / (2 * _LINE_REACH)))
        parts.append(_around(np.linspace(start, end, steps), _LINE_REACH))
    return np.concatenate(parts)

"""Accuracy against latency, with the front that no other choice beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from .figures import PALETTE, new_figure, write_caption
from .point_labels import label_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ParetoPoint", "draw_pareto"]

_BLUE, _ORANGE = PALETTE[:2]


@dataclass(frozen=True)
class ParetoPoint:
    """One choice.

    Args:
        label: What is written beside it.
        latency: Median in milliseconds.
        quartiles: First and third quartile in milliseconds.
        accuracy: The more, the better.
        is_on_front: Whether no other choice is at least as good in both and better in one.
        is_marked: Whether it stands out, as that of the training does.
    """

    label: str
    latency: float
    quartiles: tuple[float, float]
    accuracy: float
    is_on_front: bool
    is_marked: bool = False


def draw_pareto(
    points: Sequence[ParetoPoint], *, title: str, accuracy: str, caption: str
) -> Figure:
    """Draws accuracy against latency.

    Args:
        points: The choices; at least one.
        title: What the figure says it shows.
        accuracy: Name and unit of the vertical axis.
        caption: What a reader has to know about the numbers, below the axes.

    Returns:
        A figure with its own Agg canvas, so that the user's matplotlib backend stays untouched;
        ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: If there is no point.
    """
    if not points:
        raise ValueError("there must be at least one point to draw, got none")
    figure = new_figure(9, 6)
    axes = figure.subplots()
    front = sorted((point for point in points if point.is_on_front), key=lambda p: p.latency)
    axes.plot(
        [point.latency for point in front],
        [point.accuracy for point in front],
        color=_BLUE,
        linewidth=1.4,
        label="Pareto front: no other is both faster and better",
        zorder=1,
    )
    _draw_points(axes, points)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("latency of one image, median with quartiles, in ms")
    axes.set_ylabel(accuracy)
    axes.margins(x=0.12, y=0.1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="lower right")
    write_caption(figure, caption)
    places = [(point.latency, point.accuracy) for point in points]
    lines = [[(time, point.accuracy) for time in point.quartiles] for point in points]
    lines.append([(point.latency, point.accuracy) for point in front])
    label_points(axes, places, [point.label for point in points], lines=lines)
    return figure


def _draw_points(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    groups = {
        "on the front": [p for p in points if p.is_on_front and not p.is_marked],
        "beaten by another": [p for p in points if not p.is_on_front and not p.is_marked],
        "as trained": [p for p in points if p.is_marked],
    }
    styles = {
        "on the front": ("o", _BLUE),
        "beaten by another": ("o", PALETTE[-1]),
        "as trained": ("*", _ORANGE),
    }
    for name, members in groups.items():
        marker, color = styles[name]
        if members:
            axes.errorbar(
                [point.latency for point in members],
                [point.accuracy for point in members],
                xerr=_spread(members),
                fmt=marker,
                color=color,
                markersize=13 if marker == "*" else 6,
                elinewidth=0.8,
                label=name,
                zorder=2,
            )


def _spread(points: Sequence[ParetoPoint]) -> list[list[float]]:
    """Lengths of the bars to both sides of the median."""
    return [
        [max(point.latency - point.quartiles[0], 0.0) for point in points],
        [max(point.quartiles[1] - point.latency, 0.0) for point in points],
    ]

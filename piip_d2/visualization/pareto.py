"""Accuracy against latency, with the front that no other choice beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ParetoPoint", "draw_pareto"]


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
    figure = Figure(figsize=(8, 5.6), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    front = sorted((point for point in points if point.is_on_front), key=lambda p: p.latency)
    axes.plot(
        [point.latency for point in front],
        [point.accuracy for point in front],
        color="tab:blue",
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
    figure.supxlabel(caption, fontsize=8)
    return figure


def _draw_points(axes: Axes, points: Sequence[ParetoPoint]) -> None:
    groups = {
        "on the front": [p for p in points if p.is_on_front and not p.is_marked],
        "beaten by another": [p for p in points if not p.is_on_front and not p.is_marked],
        "as trained": [p for p in points if p.is_marked],
    }
    styles = {
        "on the front": ("o", "tab:blue"),
        "beaten by another": ("o", "tab:gray"),
        "as trained": ("*", "tab:red"),
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
    for point in points:
        axes.annotate(
            point.label,
            (point.latency, point.accuracy),
            # On different sides, as a beaten point is often close to the one that beats it.
            xytext=(5, -11) if point.is_on_front else (5, 5),
            textcoords="offset points",
            fontsize=8,
        )


def _spread(points: Sequence[ParetoPoint]) -> list[list[float]]:
    """Lengths of the bars to both sides of the median."""
    return [
        [max(point.latency - point.quartiles[0], 0.0) for point in points],
        [max(point.quartiles[1] - point.latency, 0.0) for point in points],
    ]

"""Accuracy against operations and latency, of runs measured here and of published systems.

The published points are those of PIIP (https://arxiv.org/abs/2406.04330) and of its repository.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from piip_d2.analysis.resolutions.choices import pareto_front

from .curves import AP_TASKS
from .figures import PALETTE, new_figure, write_caption
from .point_labels import label_points

__all__ = ["Latency", "TradeoffPoint", "draw_tradeoff"]

FROM_PAPER = "from the paper"
FROM_REPOSITORY = "from the authors' repository"
MEASURED = "measured here"

COCO = "COCO val2017"


@dataclass(frozen=True)
class Latency:
    """Time for one image.

    Args:
        median: In milliseconds.
        spread: A lower and an upper quantile, in milliseconds.
        quantiles: Which ones these are, in words.
        device: What it was measured on.
    """

    median: float
    spread: tuple[float, float]
    quantiles: str
    device: str


@dataclass(frozen=True)
class TradeoffPoint:
    """A detector with its accuracy and costs.

    Args:
        series: What it belongs to: a system of the paper, or a run.
        label: What tells it from others of its series, such as its resolutions.
        source: Where its numbers come from: "from the paper", "from the authors' repository" or
            "measured here".
        dataset: The data that its accuracy is measured on.
        accuracy: In percent.
        flops: Multiply-adds by convention: "paper" (of the backbone) and "actual" (of all).
        latency: Time for one image, where it is known.
        is_marked: Whether it stands out, as the trained resolutions of a sweep do.
    """

    series: str
    label: str
    source: str
    dataset: str
    accuracy: float
    flops: Mapping[str, float] = field(default_factory=dict)
    latency: Latency | None = None
    is_marked: bool = False


_NOTE = (
    "AP of different data sets stand on axes of their own: they do not compare. A line joins the "
    "choices of one system that no other choice of it beats in both."
)
_RESOLUTIONS = "Numbers beside points are the sides of the branches' images in pixels."
_STATED = (
    "Published points: arXiv 2406.04330, with the FLOPs and AP stated there; no latency is "
    "stated. FLOPs beside them are those of the backbone, counted as there."
)
_COUNTED = (
    "FLOPs without published points beside them are those of the whole detector for a square image "
    "of the largest resolution, counted part by part."
)

_WHOLE = "whole detector"

# From here on a linear axis would press the small ones together.
_LARGEST_RATIO = 12.0


@dataclass(frozen=True)
class _Panel:
    """Axes to be: what is comparable, with the cost of each point, and nothing else."""

    title: str
    xlabel: str
    points: Sequence[tuple[TradeoffPoint, float]]
    shows_latency: bool = False


def draw_tradeoff(
    points: Sequence[TradeoffPoint], *, metric: str = "bbox/AP", title: str = ""
) -> Figure:
    """Draws AP against multiply-adds and against latency.

    Every data set has axes of its own, and so has every device with latencies.

    Args:
        points: Runs and published systems, see `run_points` and `paper_points`.
        metric: What their accuracy is, such as "bbox/AP".
        title: What the figure says it shows; "" names the metric.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: If no point has FLOPs or a latency.
    """
    panels = _panels(points)
    if not panels:
        raise ValueError(f"nothing can be drawn: none of {len(points)} points has FLOPs or latency")
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(max(6.4 * columns, 9), 5.6 * rows)
    noun = _name_metric(metric)
    figure.suptitle(title or f"{noun} against the cost of one image", fontsize=13)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    write_caption(figure, _caption(points, panels))
    styles = _styles(points)
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, styles, noun)
    # All axes must be complete: labels of one would otherwise be placed in a layout that changes.
    for axes, panel in zip(grid, panels, strict=False):
        places = [(cost, point.accuracy) for point, cost in panel.points]
        lines = [[(x, y) for x, y in line.get_xydata()] for line in axes.lines
                 if line.get_linestyle() != "None"]  # fmt: skip
        label_points(axes, places, [point.label for point, _ in panel.points], lines=lines)
    return figure


def _panels(points: Sequence[TradeoffPoint]) -> list[_Panel]:
    panels = []
    for dataset in dict.fromkeys(point.dataset for point in points):
        own = [point for point in points if point.dataset == dataset]
        convention = "paper" if any(point.source != MEASURED for point in own) else "actual"
        counted = [
            (point, 1e-9 * point.flops[convention]) for point in own if convention in point.flops
        ]
        if counted:
            what = _WHOLE if convention == "actual" else "backbone, counted as in the paper"
            label = f"G multiply-adds of one image ({what})"
            panels.append(_Panel(f"{dataset}: {_say_sources(counted)}", label, counted))
        timed = [(point, point.latency) for point in own if point.latency is not None]
        for device in dict.fromkeys(latency.device for _, latency in timed):
            medians = [(each, time.median) for each, time in timed if time.device == device]
            label = f"latency of one image in ms on {device}"
            title = f"{dataset}: {_say_sources(medians)}"
            panels.append(_Panel(title, label, medians, shows_latency=True))
    return panels


def _draw_panel(axes: Axes, panel: _Panel, styles: Mapping[str, str], noun: str) -> None:
    for series in dict.fromkeys(point.series for point, _ in panel.points):
        members = [each for each in panel.points if each[0].series == series]
        _draw_series(axes, sorted(members, key=lambda each: each[1]), styles[series])
        for point, _ in members:
            if panel.shows_latency and point.latency is not None:
                spread, height = point.latency.spread, [point.accuracy] * 2
                axes.plot(spread, height, color=styles[series], linewidth=0.8)
    axes.set_title(panel.title, fontsize=11)
    axes.set_xlabel(panel.xlabel)
    axes.set_ylabel(f"{noun} in % on {panel.points[0][0].dataset}")
    costs = [cost for _, cost in panel.points]
    if max(costs) > _LARGEST_RATIO * min(costs) > 0:
        axes.set_xscale("log")
        axes.set_xlabel(f"{panel.xlabel}, logarithmic")
    axes.margins(x=0.14, y=0.12)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")


def _draw_series(axes: Axes, members: Sequence[tuple[TradeoffPoint, float]], color: str) -> None:
    """Draws the points of one series, which ascend in cost."""
    first = members[0][0]
    is_ours = first.source == MEASURED
    costs = [cost for _, cost in members]
    accuracies = [point.accuracy for point, _ in members]
    # Names beside the points are those of different systems, which are no line.
    if not any(letter.isalpha() for point, _ in members for letter in point.label):
        front = pareto_front(costs, accuracies)
        axes.plot(
            [cost for cost, is_on in zip(costs, front, strict=True) if is_on],
            [value for value, is_on in zip(accuracies, front, strict=True) if is_on],
            color=color,
            linestyle="-" if is_ours else "--",
            linewidth=1.2,
        )
    axes.plot(
        costs,
        accuracies,
        color=color,
        linestyle="none",
        marker="o" if is_ours else "D",
        markersize=6,
        markerfacecolor=color if is_ours else "white",
        label=f"{first.series} ({first.source})",
    )
    marked = [(cost, point.accuracy) for point, cost in members if point.is_marked]
    if marked:
        axes.plot(
            [cost for cost, _ in marked],
            [accuracy for _, accuracy in marked],
            linestyle="none",
            marker="*",
            markersize=15,
            color=color,
            label="as trained",
        )


def _styles(points: Sequence[TradeoffPoint]) -> dict[str, str]:
    names = dict.fromkeys(point.series for point in points)
    return {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(names)}


def _say_sources(points: Sequence[tuple[TradeoffPoint, float]]) -> str:
    published = any(point.source != MEASURED for point, _ in points)
    measured = any(point.source == MEASURED for point, _ in points)
    if published and measured:
        return "published, and measured here"
    return "published, none measured here" if published else "measured here"


def _caption(points: Sequence[TradeoffPoint], panels: Sequence[_Panel]) -> str:
    sentences = [_NOTE]
    if any("/" in point.label for point in points):
        sentences.append(_RESOLUTIONS)
    if any(point.source != MEASURED for point in points):
        sentences.append(_STATED)
    if any(_WHOLE in panel.xlabel for panel in panels):
        sentences.append(_COUNTED)
    quantiles = dict.fromkeys(point.latency.quantiles for point in points if point.latency)
    if quantiles:
        sentences.append(f"Latency: median, with bars between {', or '.join(quantiles)}.")
    drawn = {id(point) for panel in panels for point, _ in panel.points}
    missing = [f"{point.series} {point.label}" for point in points if id(point) not in drawn]
    if missing:
        sentences.append(f"Not drawn, for lack of costs: {', '.join(missing)}.")
    return " ".join(sentences)


def _name_metric(metric: str) -> str:
    task, _, name = metric.partition("/")
    return f"{AP_TASKS.get(task, task).capitalize()} {name}"

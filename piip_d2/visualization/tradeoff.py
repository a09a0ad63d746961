"""Accuracy against operations and latency, of runs measured here and of published systems.

The published points are those of PIIP (https://arxiv.org/abs/2406.04330) and of its repository.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from piip_d2.analysis.resolutions.choices import pareto_front

from .curves import AP_TASKS
from .figures import PALETTE, new_figure, write_caption
from .point_labels import label_points
from .tradeoff_caption import BACKBONE, WHOLE, describe_panels
from .tradeoff_points import MEASURED, Latency, Panel, TradeoffPoint

__all__ = ["Latency", "TradeoffPoint", "draw_tradeoff"]

# Marks lines of choices that are not beaten.
_FRONT = "front"

# An only value stands so far up axes that begin at zero.
_PLACE_ALONE = 0.6

# Costs that differ by less than this are as good as equal.
_LEAST_RATIO = 1.1

# Width and height of a legend, as shares of the axes.
_LEGEND_REACH = (0.6, 0.2)

# From here on a linear axis would press the small ones together.
_LARGEST_RATIO = 12.0


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
    styles = _styles(points)
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, styles, noun)
    fronts = [line for axes in grid for line in axes.lines if line.get_gid() == _FRONT]
    has_lines = any(len(line.get_xydata()) > 1 for line in fronts)
    write_caption(figure, describe_panels(points, panels, has_lines=has_lines))
    # All axes must be complete: labels of one would otherwise be placed in a layout that changes.
    for axes, panel in zip(grid, panels, strict=False):
        places = [(cost, point.accuracy) for point, cost in panel.points]
        lines = [[(x, y) for x, y in line.get_xydata()] for line in axes.lines
                 if line.get_linestyle() != "None"]  # fmt: skip
        label_points(axes, places, [_label(each, panel) for each, _ in panel.points], lines=lines)
    return figure


def _panels(points: Sequence[TradeoffPoint]) -> list[Panel]:
    panels = []
    for dataset in dict.fromkeys(point.dataset for point in points):
        own = [point for point in points if point.dataset == dataset]
        convention = "paper" if any(point.source != MEASURED for point in own) else "actual"
        counted = [
            (point, 1e-9 * point.flops[convention]) for point in own if convention in point.flops
        ]
        if counted:
            what = WHOLE if convention == "actual" else BACKBONE
            label = f"G multiply-adds of one image ({what})"
            panels.append(Panel(f"{dataset}: {_say_sources(counted)}", label, counted))
        timed = [(point, point.latency) for point in own if point.latency is not None]
        for device in dict.fromkeys(latency.device for _, latency in timed):
            medians = [(each, time.median) for each, time in timed if time.device == device]
            label = f"latency of one image in ms on {device}"
            title = f"{dataset}: {_say_sources(medians)}"
            panels.append(Panel(title, label, medians, shows_latency=True))
    return panels


def _draw_panel(axes: Axes, panel: Panel, styles: Mapping[str, str], noun: str) -> None:
    for series in dict.fromkeys(point.series for point, _ in panel.points):
        members = [each for each in panel.points if each[0].series == series]
        _draw_series(axes, sorted(members, key=lambda each: each[1]), styles[series])
        for point, _ in members:
            if panel.shows_latency and point.latency and point.latency.spread:
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
    # Around an only value, or costs that hardly differ, the limits would say nothing.
    if max(costs) < _LEAST_RATIO * min(costs):
        axes.set_xlim(0, max(costs) / _PLACE_ALONE)
    accuracies = {point.accuracy for point, _ in panel.points}
    if len(accuracies) == 1:
        top = max(accuracies) / _PLACE_ALONE or 1.0
        axes.set_ylim(0 if max(accuracies) > 0 else -0.05, min(top, 100.0))
    axes.grid(alpha=0.3)
    # Better systems lie above cheaper ones, but those of a user may not.
    axes.legend(fontsize=8, loc="best" if _hides_corner(axes, panel) else "lower right")


def _hides_corner(axes: Axes, panel: Panel) -> bool:
    """Whether a point lies where a legend at the lower right would."""
    # Asked for, they are settled for what is drawn.
    axes.get_xlim(), axes.get_ylim()
    pixels = axes.transData.transform([(cost, point.accuracy) for point, cost in panel.points])
    shares = axes.transAxes.inverted().transform(pixels)
    width, height = _LEGEND_REACH
    return bool(((shares[:, 0] > 1 - width) & (shares[:, 1] < height)).any())


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
            gid=_FRONT,
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


def _label(point: TradeoffPoint, panel: Panel) -> str:
    """What tells a point from others, and how little was timed where that is little."""
    if panel.shows_latency and point.latency and point.latency.is_rough:
        count = point.latency.num_images
        return f"{point.label} ({count} image{'s' * (count != 1)})".lstrip()
    return point.label


def _name_metric(metric: str) -> str:
    task, _, name = metric.partition("/")
    return f"{AP_TASKS.get(task, task).capitalize()} {name}"

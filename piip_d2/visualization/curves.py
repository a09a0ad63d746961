"""Losses, AP and learning rate over training, from the ``metrics.json`` of a run."""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .figures import PALETTE, new_figure, write_caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

_logger = logging.getLogger(__name__)

# Values of one metric: (iteration, value) pairs in ascending order of iterations.
Series = list[tuple[int, float]]

# What Detectron2's evaluators call a task, and what a legend calls it.
AP_TASKS = {"bbox": "box", "segm": "mask"}

# With train.ema.evaluate="both" the weights themselves are evaluated beside their average.
_SOURCES = {"": "", "model/": ", not averaged"}

# More than these make a legend that hides the axes.
_MOST_LOSSES = 8

# Lines of so few points also show where these are.
_MOST_MARKED = 10

# Room beside the first and the last value, as a share of all: a mark needs it.
_MARGIN = 0.03

# What every line of the training has, and none of an evaluation.
_OF_TRAINING = ("total_loss", "lr")


def read_metrics(path: str | Path) -> dict[str, Series]:
    """Reads the JSON lines that Detectron2's ``JSONWriter`` leaves in a run's folder.

    A run that was resumed wrote some iterations twice: where the iteration of the training goes
    back, all that was written from there on is replaced. Evaluations may stand behind the losses
    of later iterations, since ``JSONWriter`` writes both at its own intervals. Lines that are no
    JSON, as a killed run can leave one, are skipped with a warning that counts them; values that
    are not finite are left out.

    Args:
        path: The ``metrics.json`` file.

    Returns:
        The series of each metric by its name.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"a run writes its losses and AP to metrics.json, but there is no file {path}; "
            "train first, or name the output folder of a run"
        )
    points: dict[int, dict[str, float]] = {}
    num_broken = 0
    latest = -1
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        values = _parse(line)
        if values is None:
            num_broken += bool(line.strip())
            continue
        iteration = int(values.pop("iteration"))
        if any(name in values for name in _OF_TRAINING):
            if iteration < latest:
                points = {kept: point for kept, point in points.items() if kept < iteration}
            latest = iteration
        points.setdefault(iteration, {}).update(values)
    if num_broken:
        _logger.warning("%d unreadable lines of %s are skipped", num_broken, path)

    series: dict[str, Series] = {}
    for iteration, values in sorted(points.items()):
        for name, value in values.items():
            if math.isfinite(value):
                series.setdefault(name, []).append((iteration, value))
    return series


def draw_curves(metrics: dict[str, Series], title: str, caption: str = "") -> Figure:
    """Draws losses, AP and learning rate side by side.

    Args:
        metrics: Series by name, as from `read_metrics`.
        title: What the figure says it shows, for example the name of the run.
        caption: What a reader has to know about the numbers, below the axes.

    Returns:
        A figure with its own Agg canvas, so that the user's matplotlib backend stays untouched;
        ``figure.savefig(path)`` writes it.
    """
    figure = new_figure(15, 5.2)
    figure.suptitle(title, fontsize=13)
    loss_axes, ap_axes, rate_axes = figure.subplots(1, 3, sharex=True, width_ratios=(3, 3, 2))

    losses = group_losses(metrics)
    for number, (name, series) in enumerate(losses.items()):
        dashed = number >= len(PALETTE)
        plot(loss_axes, series, name, color=PALETTE[number % len(PALETTE)], dashed=dashed)
    # The total goes last, so that its thicker line lies above its parts.
    if "total_loss" in metrics:
        plot(loss_axes, metrics["total_loss"], "total", color="black", width=2.2)
    finish(loss_axes, "Training losses", "loss", "no losses in metrics.json")

    for color, (task, noun) in zip(PALETTE, AP_TASKS.items(), strict=False):
        for metric, source in itertools.product(("AP", "AP50"), _SOURCES):
            name = f"{source}{task}/{metric}"
            if name in metrics:
                values = [value for _, value in metrics[name]]
                label = f"{noun} {metric}{_SOURCES[source]}"
                label += f" (best {max(values):.1f}, last {values[-1]:.1f})"
                marker = "s" if source else "o"
                dashed = metric == "AP50"
                plot(ap_axes, metrics[name], label, color=color, marker=marker, dashed=dashed)
    finish(ap_axes, "Evaluation on the test split", "AP in %", "no evaluation in metrics.json")

    if "lr" in metrics:
        plot(rate_axes, metrics["lr"], "lr", color="black")
    finish(rate_axes, "Learning rate", "learning rate", "no learning rate in metrics.json")
    show_all_iterations(figure.axes)
    write_caption(figure, caption)
    return figure


def group_losses(metrics: Mapping[str, Series]) -> dict[str, Series]:
    """Finds the parts of the total loss, and adds up those of one kind where there are many.

    The decoder layers of DINO and the stages of a cascade each have losses of their own, up to
    forty; then ``loss_giou``, ``loss_giou_0``, ``loss_giou_1`` ... become one series.

    Args:
        metrics: Series by name, as from `read_metrics`.

    Returns:
        The series by what a legend calls them, in the order of their names.
    """
    names = sorted(name for name in metrics if name.startswith("loss") or "/loss" in name)
    if len(names) <= _MOST_LOSSES:
        return {name.removeprefix("loss_"): metrics[name] for name in names}
    kinds: dict[str, list[Series]] = {}
    for name in names:
        kind = re.sub(r"(_stage)?_?\d+$", "", name).removeprefix("loss_")
        kinds.setdefault(kind, []).append(metrics[name])
    sums = {
        kind if len(parts) == 1 else f"{kind}, sum of {len(parts)}": _add_up(parts)
        for kind, parts in kinds.items()
    }
    return {kind: series for kind, series in sums.items() if series}


def plot(
    axes: Axes,
    series: Sequence[tuple[int, float]],
    label: str,
    *,
    color: str,
    marker: str | None = None,
    dashed: bool = False,
    width: float = 1.4,
) -> None:
    """Draws one series as a line; few points get markers, as a line of one is invisible."""
    iterations, values = zip(*series, strict=True)
    axes.plot(
        iterations,
        values,
        label=label,
        color=color,
        marker=marker or ("o" if len(series) <= _MOST_MARKED else None),
        markersize=5,
        markerfacecolor="white" if dashed else color,
        linestyle="--" if dashed else "-",
        linewidth=width,
    )


def finish(axes: Axes, title: str, ylabel: str, reason_if_empty: str) -> None:
    """Names the axes, gives them a legend, and says it where there is nothing to show."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("iteration")
    axes.set_ylabel(ylabel)
    if not axes.lines:
        axes.text(0.5, 0.5, reason_if_empty, ha="center", va="center", transform=axes.transAxes)
        # Not set_xticks, which would take the ticks from all axes with the same iterations.
        axes.tick_params(bottom=False, labelbottom=False, left=False, labelleft=False)
        return
    # With common axes only the lowest ones have numbers otherwise.
    axes.tick_params(labelbottom=True)
    top = max(_largest(line.get_ydata()) for line in axes.lines)
    axes.set_ylim(-_MARGIN / 2 * (top or 1.0), 1.05 * (top or 1.0))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)


def show_all_iterations(axes: Sequence[Axes]) -> None:
    """Lets axes that share their iterations reach from 0 to the last one that any of them has.

    Args:
        axes: The axes, with all their lines. An evaluation belongs to the iteration behind the
            last losses.
    """
    last = max((_largest(line.get_xdata()) for each in axes for line in each.lines), default=0.0)
    for each in axes:
        if each.lines:
            each.set_xlim(-_MARGIN * max(last, 1), (1 + _MARGIN) * max(last, 1))
            each.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))


def _largest(values: ArrayLike) -> float:
    return float(np.max(np.asarray(values, dtype=float), initial=0.0))


def _add_up(parts: Sequence[Series]) -> Series:
    """Adds series up, at the iterations that all of them have."""
    values = [dict(part) for part in parts]
    common = sorted(set.intersection(*(set(part) for part in values)))
    return [(iteration, sum(part[iteration] for part in values)) for iteration in common]


def _parse(line: str) -> dict[str, float] | None:
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("iteration"), int):
        return None
    return {name: value for name, value in values.items() if isinstance(value, int | float)}

"""Losses, AP and learning rate over training, from the ``metrics.json`` of a run."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_logger = logging.getLogger(__name__)

# Values of one metric: (iteration, value) pairs in ascending order of iterations.
Series = list[tuple[int, float]]

_AP_NAMES = {
    "bbox/AP": "box AP",
    "bbox/AP50": "box AP50",
    "segm/AP": "mask AP",
    "segm/AP50": "mask AP50",
}


def read_metrics(path: str | Path) -> dict[str, Series]:
    """Reads the JSON lines that Detectron2's ``JSONWriter`` leaves in a run's folder.

    A run that was resumed wrote some iterations twice: where the iteration goes back, all that
    was written from there on is replaced. Lines that are no JSON, as a killed run can leave one,
    are skipped with a warning that counts them; values that are not finite are left out.

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


def draw_curves(metrics: dict[str, Series], title: str) -> Figure:
    """Draws losses, AP and learning rate side by side.

    Args:
        metrics: Series by name, as from `read_metrics`.
        title: What the figure says it shows, for example the name of the run.

    Returns:
        A figure with its own Agg canvas, so that the user's matplotlib backend stays untouched;
        ``figure.savefig(path)`` writes it.
    """
    padded = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(15, 5), dpi=100, layout=padded)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13)
    loss_axes, ap_axes, rate_axes = figure.subplots(1, 3, width_ratios=(3, 3, 2))

    names = sorted(name for name in metrics if name.startswith("loss") or "/loss" in name)
    # The total goes last, so that its thicker line lies above its parts.
    for name in [*names, "total_loss"]:
        if name in metrics:
            is_total = name == "total_loss"
            label = "total" if is_total else name.removeprefix("loss_")
            _plot(loss_axes, metrics[name], label, color="black" if is_total else None)
    _finish(loss_axes, "Training losses", "loss", "no losses in metrics.json")

    for name, label in _AP_NAMES.items():
        if name in metrics:
            values = [value for _, value in metrics[name]]
            label = f"{label} (best {max(values):.1f}, last {values[-1]:.1f})"
            _plot(ap_axes, metrics[name], label, marker="o")
    _finish(ap_axes, "Evaluation on the test split", "AP in %", "no evaluation in metrics.json")

    if "lr" in metrics:
        _plot(rate_axes, metrics["lr"], "lr", color="tab:gray")
    _finish(rate_axes, "Learning rate", "learning rate", "no learning rate in metrics.json")
    return figure


def _parse(line: str) -> dict[str, float] | None:
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("iteration"), int):
        return None
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _plot(
    axes: Axes,
    series: Sequence[tuple[int, float]],
    label: str,
    *,
    color: str | None = None,
    marker: str | None = None,
) -> None:
    iterations, values = zip(*series, strict=True)
    if len(series) == 1:
        # A line through one point would be invisible.
        marker = "o"
    width = 2.2 if label == "total" else 1.4
    axes.plot(iterations, values, label=label, color=color, marker=marker, linewidth=width)


def _finish(axes: Axes, title: str, ylabel: str, reason_if_empty: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("iteration")
    axes.set_ylabel(ylabel)
    if not axes.lines:
        axes.text(0.5, 0.5, reason_if_empty, ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)

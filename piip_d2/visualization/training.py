"""How one run was trained, or how several runs compare, from their folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from piip_d2.engine import load_config

from .curves import AP_TASKS, Series, draw_curves, finish, plot, read_metrics, show_all_iterations
from .figures import PALETTE, new_figure, write_caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Run",
    "draw_comparison",
    "draw_training",
    "name_test_data",
    "read_runs",
    "read_test_data",
    "shortest_names",
]

_logger = logging.getLogger(__name__)

# From where the numbers come; without it a reader cannot judge them.
_LOSS_NOTE = (
    "Losses and learning rates as the run wrote them to metrics.json "
    "(losses: medians of up to 20 iterations)."
)
_UNNAMED_DATA = "test data without a name"


@dataclass(frozen=True)
class Run:
    """A run that is drawn.

    Args:
        name: What it is called; its folder, with as many folders above it as tell runs apart.
        metrics: Series by name, as from `read_metrics`.
        test_data: Name of the data set that it was evaluated on; "" if its folder does not say.
    """

    name: str
    metrics: dict[str, Series]
    test_data: str


def draw_training(run_dirs: Sequence[str | Path], *, title: str = "") -> Figure:
    """Draws losses, AP and learning rate of one run, or compares those of several runs.

    Args:
        run_dirs: The output folders of the runs, in the order of the legend.
        title: What the figure says it shows; "" names the runs.

    Returns:
        The figure; ``figure.savefig(path)`` writes it.

    Raises:
        FileNotFoundError: If a folder has no ``metrics.json``.
        ValueError: If no folder is given.
    """
    runs = read_runs(run_dirs)
    if len(runs) > 1:
        return draw_comparison(runs, title or f"{len(runs)} runs: losses, AP and learning rates")
    (run,) = runs
    caption = f"{_LOSS_NOTE} AP measured here, on {run.test_data or _UNNAMED_DATA}."
    return draw_curves(run.metrics, title or f"{run.name}: losses, AP and learning rate", caption)


def read_runs(run_dirs: Sequence[str | Path]) -> list[Run]:
    """Reads what runs wrote down.

    Args:
        run_dirs: Their output folders.

    Returns:
        The runs in this order.

    Raises:
        FileNotFoundError: If a folder has no ``metrics.json``.
        ValueError: If no folder is given, or one twice.
    """
    folders = [Path(folder).resolve() for folder in run_dirs]
    if not folders:
        raise ValueError("there must be at least one run to draw, got none; name output folders")
    if len(set(folders)) != len(folders):
        raise ValueError(f"each run must be named once, got {', '.join(map(str, run_dirs))}")
    return [
        Run(name, read_metrics(folder / "metrics.json"), read_test_data(folder / "config.yaml"))
        for name, folder in zip(shortest_names(folders), folders, strict=True)
    ]


def draw_comparison(runs: Sequence[Run], title: str) -> Figure:
    """Draws total losses, AP of boxes and masks, and learning rates of runs into common axes.

    Args:
        runs: The runs, in the order of the legend.
        title: What the figure says it shows.

    Returns:
        The figure. Where runs were evaluated on different data, axes with AP and caption say so.
    """
    tasks = [task for task in AP_TASKS if any(f"{task}/AP" in run.metrics for run in runs)]
    # Without any AP there is still a place that says so.
    tasks = tasks or ["bbox"]
    figure = new_figure(13, 9.6)
    figure.suptitle(title, fontsize=13)
    loss_axes, rate_axes, *ap_axes = figure.subplots(2, 2, sharex=True).ravel()
    for axes in ap_axes[len(tasks) :]:
        axes.set_axis_off()
    _draw_each(loss_axes, runs, "total_loss")
    finish(loss_axes, "Total training loss", "loss", "no losses in metrics.json")

    named = [run.test_data for run in runs if run.test_data]
    is_mixed = len({run.test_data for run in runs}) > 1
    for axes, task in zip(ap_axes, tasks, strict=False):
        _draw_each(axes, runs, f"{task}/AP", with_test_data=is_mixed)
        noun = AP_TASKS[task].capitalize()
        where = "DIFFERENT test data" if is_mixed else (named or ["the test split"])[0]
        finish(axes, f"{noun} AP on {where}", f"{noun.lower()} AP in %", "no evaluation")
    _draw_each(rate_axes, runs, "lr")
    finish(rate_axes, "Learning rate", "learning rate", "no learning rate in metrics.json")
    show_all_iterations([loss_axes, rate_axes, *ap_axes[: len(tasks)]])

    caption = f"{_LOSS_NOTE} AP measured here"
    if is_mixed:
        data = "; ".join(f"{run.name}: {run.test_data or 'unknown'}" for run in runs)
        caption += (
            f". The runs were evaluated on different data, so their AP do not compare: {data}."
        )
    else:
        caption += f", on {runs[0].test_data or _UNNAMED_DATA}."
    write_caption(figure, caption)
    return figure


def read_test_data(config_file: Path) -> str:
    """Finds the name of the data that a configuration is evaluated on.

    Args:
        config_file: The configuration, such as the ``config.yaml`` that a run wrote.

    Returns:
        The name, several joined by " + "; "" where there is no such file, or nothing in it.
    """
    if not config_file.is_file():
        return ""
    try:
        cfg = load_config(str(config_file))
    except (OSError, ValueError) as error:
        _logger.warning("%s does not say which test data the run had: %s", config_file, error)
        return ""
    return name_test_data(cfg)


def name_test_data(cfg: DictConfig) -> str:
    """Finds what people call the data that a configuration is evaluated on.

    Args:
        cfg: The configuration.

    Returns:
        The file of own annotations, or the name of the data set, several joined by " + "; "" where
        there is none.
    """
    own = OmegaConf.select(cfg, "data.val")
    names = own or OmegaConf.select(cfg, "dataloader.test.dataset.names") or ""
    if isinstance(names, str):
        # An own data set is named by the path of its annotations.
        return Path(names).name
    return " + ".join(map(str, names))


def shortest_names(folders: Sequence[Path]) -> list[str]:
    """Names folders by their last parts, as few of them as tell all folders apart."""
    longest = max(len(folder.parts) for folder in folders)
    for count in range(1, longest + 1):
        names = [os.path.join(*folder.parts[-count:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _draw_each(
    axes: Axes, runs: Sequence[Run], metric: str, *, with_test_data: bool = False
) -> None:
    is_ap = metric.endswith("/AP")
    missing: list[tuple[str, str]] = []
    for number, run in enumerate(runs):
        color = PALETTE[number % len(PALETTE)]
        series = run.metrics.get(metric)
        if not series:
            missing.append((run.name, color))
            continue
        label = run.name
        if with_test_data:
            label += f" on {run.test_data or 'unknown data'}"
        if is_ap:
            values = [value for _, value in series]
            label += f" (best {max(values):.1f}, last {values[-1]:.1f})"
        plot(
            axes,
            series,
            label,
            color=color,
            marker="o" if is_ap else None,
            dashed=number >= len(PALETTE),
            # Schedules are often the same: the first run's line shows behind the next one's.
            width=3.0 if metric == "lr" and number == 0 else 1.4,
        )
    # Where other runs have lines, a reader would look for this one's.
    if axes.lines:
        for name, color in missing:
            axes.plot([], [], color=color, label=f"{name}: none in metrics.json")

"""Results of an evaluation as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

_COSTS = {
    "images": "images timed",
    "latency_median_ms": "ms per image, median",
    "latency_p10_ms": "ms per image, 10th percentile",
    "latency_p90_ms": "ms per image, 90th percentile",
    "max_rss_mb": "peak memory of a process, MiB",
    "max_gpu_mb": "peak memory on a GPU, MiB",
}


def results_table(results: Mapping[str, Any]) -> str:
    """Puts the numbers of all tasks side by side, and what the inference cost below.

    Args:
        results: Metrics by task, as Detectron2's evaluators return them. Metrics of single
            classes, whose names have a hyphen, are left out.

    Returns:
        The table; "" if there are no numbers.
    """
    tasks = {
        name: numbers
        for name, numbers in results.items()
        if name != "inference" and isinstance(numbers, Mapping) and _plain_numbers(numbers)
    }
    names = list(dict.fromkeys(name for numbers in tasks.values() for name in numbers))
    names = [name for name in names if "-" not in name]
    rows = [[name, *(_number(numbers.get(name)) for numbers in tasks.values())] for name in names]
    alignment = ("left", *["right"] * len(tasks))
    text = tabulate(
        rows,
        headers=["metric", *tasks],
        tablefmt="github",
        disable_numparse=True,
        colalign=alignment if rows else None,
    )
    costs = results.get("inference")
    if not costs:
        return text if rows else ""
    lines = [[_COSTS.get(name, name), f"{value:.0f}"] for name, value in costs.items()]
    cost_table = tabulate(
        lines,
        headers=["inference", "value"],
        tablefmt="github",
        disable_numparse=True,
        colalign=("left", "right"),
    )
    return f"{text}\n\n{cost_table}" if rows else cost_table


def per_class_table(classes: Sequence[Mapping[str, Any]]) -> str:
    """Puts the classes below one another.

    Args:
        classes: For each class its "name", number of "objects", and metrics in percent.

    Returns:
        The table.
    """
    headers = ["class", *(key for key in classes[0] if key != "name")]
    rows = [
        [row["name"], *(_cell(value) for key, value in row.items() if key != "name")]
        for row in classes
    ]
    alignment = ("left", *["right"] * (len(headers) - 1))
    return tabulate(
        rows, headers=headers, tablefmt="github", colalign=alignment, disable_numparse=True
    )


def _plain_numbers(numbers: Mapping[str, Any]) -> bool:
    return all(isinstance(value, int | float) or value is None for value in numbers.values())


def _cell(value: Any) -> str:
    return _number(value) if isinstance(value, float) or value is None else str(value)


def _number(value: float | None) -> str:
    # NaN differs from itself.
    return "-" if value is None or value != value else f"{value:.2f}"

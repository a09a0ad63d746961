"""What a checkpoint remembers of the metrics, so that smoothing goes on across a resumption."""

from __future__ import annotations

from typing import Any

from detectron2.utils.events import EventStorage


def metric_state(storage: EventStorage, window: int) -> dict[str, Any]:
    """Extracts the newest values of all scalars.

    Args:
        storage: Where the metrics are.
        window: How many values of each scalar to keep.

    Returns:
        Per scalar its last values, the newest one, each with its iteration, and whether writers
        shall smooth it; only plain Python types.
    """
    hints = storage.smoothing_hints()
    state = {}
    for name, (value, iteration) in storage.latest().items():
        history = storage.history(name).values()[-window:]
        state[name] = {
            "history": [[float(past), int(when)] for past, when in history],
            "latest": [float(value), int(iteration)],
            "smoothed": bool(hints[name]),
        }
    return state


def restore_metrics(storage: EventStorage, state: dict[str, Any]) -> None:
    """Fills a new storage with what :func:`metric_state` extracted from another."""
    for name, scalar in state.items():
        for value, iteration in scalar["history"]:
            storage.histories()[name].update(value, iteration)
        value, iteration = scalar["latest"]
        storage.latest()[name] = (value, iteration)
        storage.smoothing_hints()[name] = scalar["smoothed"]

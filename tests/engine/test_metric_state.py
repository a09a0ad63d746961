"""Metrics across a resumption."""

from __future__ import annotations

from detectron2.utils.events import EventStorage

from piip_d2.engine.metric_state import metric_state, restore_metrics


def test_smoothing_goes_on() -> None:
    whole, first, second = EventStorage(0), EventStorage(0), EventStorage(4)
    for iteration in range(8):
        for storage in (whole, first) if iteration < 4 else (whole, second):
            storage.iter = iteration
            storage.put_scalar("loss", iteration**2)
            storage.put_scalar("lr", 0.1, smoothing_hint=False)
        if iteration == 3:
            state = metric_state(first, window=5)
            restore_metrics(second, state)
    assert second.latest_with_smoothing_hint(5) == whole.latest_with_smoothing_hint(5)
    assert second.history("loss").median(5) == whole.history("loss").median(5)


def test_window_bounds_what_is_kept() -> None:
    storage = EventStorage(0)
    for iteration in range(10):
        storage.iter = iteration
        storage.put_scalar("loss", iteration)
    state = metric_state(storage, window=3)
    assert state["loss"]["history"] == [[7.0, 7], [8.0, 8], [9.0, 9]]
    assert state["loss"]["latest"] == [9.0, 9]

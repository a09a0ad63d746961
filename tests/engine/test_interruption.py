"""Ending a run by a signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from piip_d2.engine import interruption
from piip_d2.engine.interruption import Interruption
from tests.engine.runs import metric_lines, start_toy


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_noted_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption() as stop:
        assert stop.name() is None
        os.kill(os.getpid(), number)
        assert stop.name() == number.name
        # The same event, reported twice, changes nothing.
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_later_second_signal_acts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_SAME_EVENT", -1.0)
    with pytest.raises(KeyboardInterrupt), Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_other_threads_cannot_catch_signals() -> None:
    before = signal.getsignal(signal.SIGTERM)
    handlers = []

    def enter() -> None:
        with Interruption():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [before]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_terminated_run_loses_no_iteration(tmp_path: Path, num_workers: int) -> None:
    overrides = [
        "train.max_iter=40",
        "train.checkpointer.period=1000",
        "dataloader.train.delay=0.003",
        f"dataloader.train.num_workers={num_workers}",
    ]
    whole = start_toy(tmp_path / "whole", *overrides)
    stopped = start_toy(tmp_path / "stopped", *overrides)
    metrics = tmp_path / "stopped" / "metrics.json"
    while stopped.is_alive() and not (metrics.exists() and metrics.read_text().count("\n") > 4):
        time.sleep(0.005)
    os.kill(stopped.pid or 0, signal.SIGTERM)
    stopped.join()
    assert stopped.exitcode == 1
    log = (tmp_path / "stopped" / "log.txt").read_text()
    done = len(metric_lines(tmp_path / "stopped"))
    assert f"Ended by SIGTERM behind iteration {done - 1}; --resume goes on from" in log
    resumed = start_toy(tmp_path / "stopped", *overrides, resume=True)
    resumed.join()
    whole.join()
    assert (whole.exitcode, resumed.exitcode) == (0, 0)
    seen = metric_lines(tmp_path / "stopped")
    assert [line["total_loss"] for line in seen[:-1]] == [
        line["total_loss"] for line in metric_lines(tmp_path / "whole")[:-1]
    ]

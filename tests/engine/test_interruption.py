"""Ending a run by a signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from piip_d2.engine import interruption
from piip_d2.engine.interruption import Interruption, TrainingInterrupted
from tests.engine.runs import metric_lines, run_toy, start_toy
from tests.engine.toys import ToyDetector, ToyEvaluator


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    # A shell lets what it runs in the background ignore this signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


def test_first_signal_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with Interruption():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    (message,) = caplog.messages
    assert message.startswith("SIGTERM: Finishing this iteration, then saving; press again to end")


def _interrupt_in(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int) -> None:
    """Lets Ctrl-C come at one of the calls of a method."""
    original = getattr(owner, method)
    calls: list[int] = []

    def interrupted(self: object, *arguments: object) -> object:
        calls.append(len(calls) + 1)
        if calls[-1] == call:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(owner, method, interrupted)


def test_final_evaluation_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupt_in(monkeypatch, ToyEvaluator, "reset", 1)
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path)
    assert not (tmp_path / "results.json").exists()
    run_toy(tmp_path, resume=True)
    assert (tmp_path / "results.json").exists()
    assert len(metric_lines(tmp_path)) == 13


def test_evaluation_in_between_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupt_in(monkeypatch, ToyEvaluator, "reset", 1)
    with pytest.raises(TrainingInterrupted, match="behind iteration 6; .*model_0000006.pth"):
        run_toy(tmp_path, "train.eval_period=6", "train.checkpointer.period=100")
    assert (tmp_path / "results.json").exists()


def test_signal_in_the_last_iteration_saves_and_spares_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toy(tmp_path / "whole")
    _interrupt_in(monkeypatch, ToyDetector, "forward", 12)
    with pytest.raises(TrainingInterrupted, match="behind iteration 11; .*model_final.pth"):
        run_toy(tmp_path / "ended")
    assert not (tmp_path / "ended" / "results.json").exists()
    run_toy(tmp_path / "ended", resume=True)
    assert metric_lines(tmp_path / "ended")[-1]["bbox/AP"] == pytest.approx(
        metric_lines(tmp_path / "whole")[-1]["bbox/AP"], abs=0
    )


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

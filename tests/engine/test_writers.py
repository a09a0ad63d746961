"""Where metrics go."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from detectron2.utils.events import EventStorage, TensorboardXWriter

from piip_d2 import _optional
from piip_d2.engine.writers import ResumableJSONWriter, build_writers
from tests.engine.runs import run_toy


def _write(folder: Path, iterations: range, first_iteration: int, window: int = 1) -> None:
    with EventStorage(iterations.start) as storage:
        writer = ResumableJSONWriter(folder / "metrics.json", window, first_iteration)
        for iteration in iterations:
            storage.iter = iteration
            storage.put_scalar("loss", float(iteration))
            writer.write()
        writer.close()


def _iterations(path: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in path.read_text().splitlines()]


def test_lines_behind_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    _write(tmp_path, range(10), 0)
    _write(tmp_path, range(6, 12), 6)
    assert _iterations(tmp_path / "metrics.json") == list(range(12))


def test_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    _write(tmp_path, range(4), 0)
    with open(tmp_path / "metrics.json", "a") as file:
        file.write('{"iteration": 4, "lo')
    _write(tmp_path, range(4, 6), 4)
    assert _iterations(tmp_path / "metrics.json") == list(range(6))


def test_metrics_of_an_earlier_run_are_put_aside(tmp_path: Path) -> None:
    for length in (3, 4, 5):
        _write(tmp_path, range(length), 0)
    assert _iterations(tmp_path / "metrics_1.json") == list(range(3))
    assert _iterations(tmp_path / "metrics_2.json") == list(range(4))
    assert _iterations(tmp_path / "metrics.json") == list(range(5))


def test_resuming_without_the_file(tmp_path: Path) -> None:
    _write(tmp_path, range(6, 8), 6)
    assert _iterations(tmp_path / "metrics.json") == [6, 7]


def test_window_smooths(tmp_path: Path) -> None:
    _write(tmp_path, range(5), 0, window=3)
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0, 0.5, 1, 2, 3]


def test_tensorboard_is_written(tmp_path: Path) -> None:
    if not _optional.available("tensorboard"):
        pytest.skip("tensorboard is not installed")
    run_toy(tmp_path, "train.tensorboard=True")
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"loss_cls" in events.read_bytes()


@pytest.mark.parametrize("wanted", [True, False])
def test_runs_without_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    monkeypatch.setattr(_optional, "available", {"tensorboard": False}.__getitem__)
    writers = build_writers(tmp_path, 10, tensorboard=wanted)
    assert not any(isinstance(writer, TensorboardXWriter) for writer in writers)
    for writer in writers:
        writer.close()


def test_full_disk_is_told_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync
    written = []

    def full(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("metrics.json"):
            written.append(descriptor)
            if 3 <= len(written) <= 6:
                raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    run_toy(tmp_path)
    assert len(written) > 6
    log = (tmp_path / "log.txt").read_text()
    message = "JSONWriter cannot write metrics ([Errno 28] No space left on device). Training goes"
    assert log.count(message) == 1
    assert (tmp_path / "model_final.pth").exists()


def test_progress_line_has_loss_memory_and_time(tmp_path: Path) -> None:
    run_toy(tmp_path)
    lines = [line for line in (tmp_path / "log.txt").read_text().splitlines() if "iter: 9" in line]
    for word in ("eta: ", "total_loss: ", "loss_box: ", "lr: ", "max_rss_mb: ", "time: "):
        assert word in lines[0]

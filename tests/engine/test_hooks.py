"""Checkpoints, evaluations and early ends in whole runs of the toy."""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from piip_d2.engine import set_up_run, train
from piip_d2.engine.checkpointer import AtomicCheckpointer, CheckpointSaveError
from piip_d2.engine.hooks import CheckpointHook, EarlyStoppingHook
from tests.engine.runs import metric_lines, run_toy, start_toy, toy_config
from tests.engine.toys import ToyEvaluator


def _checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pth"))


def _log(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def _aps(folder: Path) -> dict[int, float]:
    """The evaluated AP by iteration."""
    lines = metric_lines(folder)
    return {line["iteration"]: line["bbox/AP"] for line in lines if "bbox/AP" in line}


def _best(folder: Path) -> tuple[float, int]:
    best = torch.load(folder / "model_best.pth", weights_only=True)["best"]
    assert best["metric"] == "bbox/AP"
    return best["value"], best["iteration"]


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    keep = ["train.checkpointer={period: 2, max_to_keep: 2}", "train.best.enabled=False"]
    run_toy(tmp_path, "train.max_iter=8", *keep)
    assert _checkpoints(tmp_path) == ["model_0000005.pth", "model_0000007.pth", "model_final.pth"]
    run_toy(tmp_path, "train.max_iter=12", *keep, resume=True)
    assert _checkpoints(tmp_path) == ["model_0000009.pth", "model_0000011.pth", "model_final.pth"]


def test_all_checkpoints_stay(tmp_path: Path) -> None:
    run_toy(tmp_path, "train.checkpointer={period: 3, max_to_keep: null}")
    assert len(list(tmp_path.glob("model_0*.pth"))) == 4


def test_checkpoints_that_all_stay_are_not_listed() -> None:
    hook = CheckpointHook(_Forgetful(torch.nn.Linear(1, 1)), period=1)
    hook.max_iter = None
    hook.step(0)
    assert hook.recent_checkpoints == []


def test_checkpoint_that_cannot_be_removed(caplog: pytest.LogCaptureFixture) -> None:
    hook = CheckpointHook(_Forgetful(torch.nn.Linear(1, 1)), period=1, max_to_keep=1)
    hook.max_iter = None
    hook.recent_checkpoints = ["old"]
    hook.step(0)
    assert hook.recent_checkpoints == ["new"]
    assert "old cannot be removed (in use)" in caplog.text


class _Forgetful(AtomicCheckpointer):
    """Saves nothing and cannot remove anything."""

    def save(self, name: str, **kwargs: Any) -> None:
        pass

    def get_checkpoint_file(self) -> str:
        return "new"

    def remove(self, path: str) -> None:
        raise OSError("in use")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"period": 0}, "train.checkpointer.period must be at least 1, got 0"),
        ({"period": 1, "max_to_keep": 0}, "max_to_keep must be at least 1 or null, got 0"),
    ],
)
def test_senseless_checkpoint_settings(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CheckpointHook(AtomicCheckpointer(torch.nn.Linear(1, 1)), **arguments)


def _fail_to_save(monkeypatch: pytest.MonkeyPatch, is_bad: Callable[[str], bool]) -> None:
    save = AtomicCheckpointer.save

    def failing(self: AtomicCheckpointer, name: str, **kwargs: Any) -> None:
        if is_bad(name):
            raise CheckpointSaveError("cannot save it")
        save(self, name, **kwargs)

    monkeypatch.setattr(AtomicCheckpointer, "save", failing)


def test_training_survives_a_failed_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_to_save(monkeypatch, {"model_0000007", "model_best"}.__contains__)
    run_toy(tmp_path)
    assert _checkpoints(tmp_path) == ["model_0000003.pth", "model_0000011.pth", "model_final.pth"]
    assert "cannot save it. Training goes on; the next checkpoint tries again" in _log(tmp_path)
    assert "cannot save it. Training goes on without these weights" in _log(tmp_path)


def test_failed_last_save_is_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_to_save(monkeypatch, "model_final".__eq__)
    with pytest.raises(CheckpointSaveError, match="cannot save it"):
        run_toy(tmp_path)
    assert len(metric_lines(tmp_path)) == 13
    assert json.loads((tmp_path / "results.json").read_text())["bbox"]["AP"] > 0


def test_full_disk_in_the_midst_of_training(tmp_path: Path) -> None:
    process = start_toy(
        tmp_path,
        "train.max_iter=60",
        "train.best.enabled=False",
        "model.width=512",
        "dataloader.train.delay=0.003",
    )
    first = tmp_path / "model_0000003.pth"
    while process.is_alive() and not first.exists():
        time.sleep(0.005)
    # No file may grow beyond half a checkpoint, as if the disk were full.
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    half = first.stat().st_size // 2
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (half, limits[1]))
    while process.is_alive() and "the next checkpoint tries again" not in _log(tmp_path):
        time.sleep(0.005)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    process.join()
    assert process.exitcode == 0, (tmp_path / "screen.txt").read_text()
    assert "File too large" in _log(tmp_path)
    assert len(metric_lines(tmp_path)) == 61
    assert not list(tmp_path.glob(".*"))
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert saved["iteration"] == 59


def test_evaluates_periodically_and_at_the_end(tmp_path: Path) -> None:
    results = run_toy(tmp_path, "train.eval_period=5")
    assert list(_aps(tmp_path)) == [4, 9, 12]
    assert results["bbox"]["AP"] == _aps(tmp_path)[12]
    assert json.loads((tmp_path / "results.json").read_text())["bbox"]["AP-rare"] is None


def test_runs_without_an_evaluator(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path, "train.eval_period=5")
    del cfg.dataloader.evaluator
    assert train(cfg, set_up_run(cfg)) == {}
    assert "nothing will be evaluated" in _log(tmp_path)
    assert _checkpoints(tmp_path)[-1] == "model_final.pth"


def test_best_weights_stay(tmp_path: Path) -> None:
    ToyEvaluator.scripted = [0.1, 0.5, math.nan, 0.3]
    run_toy(tmp_path, "train.eval_period=3")
    assert _best(tmp_path) == (0.5, 5)


def test_least_can_be_best(tmp_path: Path) -> None:
    ToyEvaluator.scripted = [0.1, 0.5, 0.05, 0.3]
    run_toy(tmp_path, "train.eval_period=3", "train.best.mode=min")
    assert _best(tmp_path) == (0.05, 8)


def test_longer_training_knows_the_best_value(tmp_path: Path) -> None:
    ToyEvaluator.scripted = [0.5, 0.4]
    run_toy(tmp_path)
    run_toy(tmp_path, "train.max_iter=14", resume=True)
    assert _best(tmp_path) == (0.5, 12)


def test_best_weights_of_an_earlier_run_do_not_count(tmp_path: Path) -> None:
    ToyEvaluator.scripted = [0.5, 0.4]
    run_toy(tmp_path)
    run_toy(tmp_path)
    assert _best(tmp_path) == (0.4, 12)


def test_unknown_metric_is_told(tmp_path: Path) -> None:
    run_toy(tmp_path, "train.best.metric=segm/AP")
    assert "train.best.metric=segm/AP is not among the evaluated metrics ['bbox/AP'" in _log(
        tmp_path
    )
    assert not (tmp_path / "model_best.pth").exists()


_STOPPING = ["train.eval_period=2", "train.early_stopping={enabled: True, patience: 2}"]


def test_stops_early_and_stays_so(tmp_path: Path) -> None:
    ToyEvaluator.scripted = [0.1, 0.5, 0.4, 0.5, 0.9, 0.9]
    run_toy(tmp_path, *_STOPPING)
    assert list(_aps(tmp_path)) == [1, 3, 5, 7]
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert final["iteration"] == final["trainer"]["iteration"] == 7
    run_toy(tmp_path, *_STOPPING, resume=True)
    assert max(line["iteration"] for line in metric_lines(tmp_path)) == 8


def test_more_patience_goes_on(tmp_path: Path) -> None:
    ToyEvaluator.scripted = [0.5, 0.4, 0.3, 0.6, 0.7, 0.8]
    run_toy(tmp_path, *_STOPPING)
    assert list(_aps(tmp_path)) == [1, 3, 5]
    run_toy(tmp_path, *_STOPPING, "train.early_stopping.patience=3", resume=True)
    assert list(_aps(tmp_path)) == [1, 3, 5, 7, 9, 12]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eval_period": 0}, "early_stopping needs train.eval_period > 0, got 0"),
        ({"mode": "most"}, "early_stopping.mode must be 'max' or 'min', got 'most'"),
        ({"patience": 0}, "early_stopping.patience must be at least 1, got 0"),
    ],
)
def test_senseless_stopping_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EarlyStoppingHook(**({"eval_period": 1, "metric": "bbox/AP"} | arguments))


def test_memory_is_reported(tmp_path: Path) -> None:
    run_toy(tmp_path, "train.max_iter=2")
    first = json.loads((tmp_path / "metrics.json").read_text().splitlines()[0])
    assert 10 < first["[metric]max_rss_mb"] < 1e6
    assert "max_rss_mb" in _log(tmp_path)

"""A run that is killed and resumed is the run that was not killed."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
import torch

from tests.engine.runs import metric_lines, run_toy, start_toy
from tests.engine.toys import ToyEvaluator

_SETTINGS = {
    "plain": ["dataloader.train.num_workers=0"],
    "workers_ema_accumulation": [
        "dataloader.train.num_workers=2",
        "train.ema.enabled=True",
        "train.ema.evaluate=both",
        "train.accumulate=2",
        "train.log_period=2",
    ],
}
_COMMON = [
    "train.max_iter=30",
    "train.checkpointer.period=4",
    "train.eval_period=6",
    "train.clip_grad.enabled=True",
    "dataloader.train.delay=0.003",
]


def _kill_and_resume(folder: Path, overrides: list[str], kills: int, draw: random.Random) -> int:
    """Kills a run at random moments and lets it finish; returns how often it really was killed."""
    done = 0
    for attempt in range(kills):
        process = start_toy(folder, *overrides, resume=attempt > 0)
        while process.is_alive() and not (folder / "metrics.json").exists():
            time.sleep(0.005)
        process.join(draw.uniform(0.05, 0.4))
        if process.is_alive():
            process.kill()
            done += 1
        process.join()
    process = start_toy(folder, *overrides, resume=True)
    process.join()
    assert process.exitcode == 0, (folder / "screen.txt").read_text()
    return done


def _assert_same_run(reference: Path, other: Path) -> None:
    # JSON keeps every bit of a float. NaN is not itself, so the texts are compared.
    expected, seen = metric_lines(reference), metric_lines(other)
    assert [json.dumps(line) for line in seen] == [json.dumps(line) for line in expected]
    ours = torch.load(other / "model_final.pth", weights_only=True)
    theirs = torch.load(reference / "model_final.pth", weights_only=True)
    for name, weight in theirs["model"].items():
        assert torch.equal(weight, ours["model"][name]), name
    if "ema" in theirs:
        assert theirs["ema"]["num_updates"] == ours["ema"]["num_updates"]
        for name, weight in theirs["ema"]["weights"].items():
            assert torch.equal(weight, ours["ema"]["weights"][name]), name
    best = torch.load(reference / "model_best.pth", weights_only=True)["model"]
    for name, weight in torch.load(other / "model_best.pth", weights_only=True)["model"].items():
        assert torch.equal(weight, best[name]), name


@pytest.mark.parametrize("setting", list(_SETTINGS))
def test_killed_at_random_moments(setting: str, tmp_path: Path) -> None:
    overrides = _COMMON + _SETTINGS[setting]
    reference = start_toy(tmp_path / "reference", *overrides)
    reference.join()
    assert reference.exitcode == 0
    killed = _kill_and_resume(tmp_path / "killed", overrides, 4, random.Random(setting))
    assert killed > 0
    _assert_same_run(tmp_path / "reference", tmp_path / "killed")


def test_evaluation_that_failed_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["train.eval_period=4", "train.log_period=3"]
    run_toy(tmp_path / "whole", *overrides)
    evaluate = ToyEvaluator.evaluate
    calls = []

    def fail_once(self: ToyEvaluator) -> dict[str, dict[str, float]]:
        calls.append(len(calls))
        if len(calls) == 2:
            raise RuntimeError("killed while evaluating")
        return evaluate(self)

    monkeypatch.setattr(ToyEvaluator, "evaluate", fail_once)
    with pytest.raises(RuntimeError, match="killed while evaluating"):
        run_toy(tmp_path / "failed", *overrides)
    # The checkpoint of iteration 7 was saved before, and its evaluation is still to be done.
    run_toy(tmp_path / "failed", *overrides, resume=True)
    assert len(calls) == 4
    _assert_same_run(tmp_path / "whole", tmp_path / "failed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("setting", list(_SETTINGS))
def test_killed_at_many_random_moments(setting: str, seed: int, tmp_path: Path) -> None:
    overrides = _COMMON + _SETTINGS[setting] + [f"train.seed={seed}"]
    start_toy(tmp_path / "reference", *overrides).join()
    _kill_and_resume(tmp_path / "killed", overrides, 8, random.Random(seed))
    _assert_same_run(tmp_path / "reference", tmp_path / "killed")

"""Time and memory of an evaluation."""

from __future__ import annotations

import json
import mmap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm

from piip_d2.engine.environment import device_name
from piip_d2.engine.host_memory import resident_bytes
from piip_d2.engine.inference_costs import InferenceCosts
from tests.engine.runs import metric_lines, run_toy, run_toy_in_two_processes

CPU = torch.device("cpu")


def _touch(mebibytes: int) -> None:
    """Uses memory and gives it back to the system, whatever the C library would keep."""
    with mmap.mmap(-1, mebibytes * 2**20) as block:
        for _ in range(mebibytes):
            block.write(b"x" * 2**20)


def _measure(seconds: list[float], batch_size: int = 1) -> dict[str, float]:
    """Costs of a model that takes a given time for each batch."""
    times = iter(seconds)

    def model(inputs: list[Any]) -> list[Any]:
        time.sleep(next(times))
        return inputs

    costs = InferenceCosts(CPU)
    loader = [[{"image_id": 0}] * batch_size for _ in seconds]
    return dict(inference_on_dataset(model, loader, costs, costs.callbacks)["inference"])


def test_warm_up_is_left_out() -> None:
    costs = _measure([0.2] * 5 + [0.01] * 10)
    assert costs["images"] == 10
    assert 10 <= costs["latency_p10_ms"] <= costs["latency_median_ms"] < 100
    assert costs["latency_median_ms"] <= costs["latency_p90_ms"]


def test_few_batches_leave_the_last() -> None:
    costs = _measure([0.2, 0.2, 0.01])
    assert costs["images"] == 1
    assert costs["latency_median_ms"] < 150


@pytest.mark.parametrize("num_timed", [1, 9, 10])
def test_tenths_are_of_ten_batches_or_more(num_timed: int) -> None:
    # However many images there are in one: all of a batch count as if they took the same time.
    costs = _measure([0.001] * (5 + num_timed), batch_size=4)
    assert costs["images"] == 4 * num_timed
    assert ("latency_p10_ms" in costs) == ("latency_p90_ms" in costs) == (num_timed == 10)
    assert costs["latency_median_ms"] > 0


def test_time_is_per_image() -> None:
    costs = _measure([0.0, 0.2], batch_size=20)
    assert costs["images"] == 20
    assert 10 <= costs["latency_median_ms"] < 100


def test_peak_is_that_of_the_inference() -> None:
    # 256 MiB come and go before, 64 MiB during the inference.
    _touch(256)
    before = resident_bytes(peak=False) / 2**20

    def model(inputs: list[Any]) -> list[Any]:
        _touch(64)
        return inputs

    costs = InferenceCosts(CPU)
    found = inference_on_dataset(model, [[{}]], costs, costs.callbacks)["inference"]
    assert before + 48 < found["max_rss_mb"] < before + 160
    assert "max_gpu_mb" not in found


def test_without_a_counter_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise PermissionError("clear_refs")

    monkeypatch.setattr("piip_d2.engine.inference_costs.reset_resident_peak", refused)
    monkeypatch.setattr("piip_d2.engine.inference_costs.resident_bytes", lambda peak: 0)
    assert "max_rss_mb" not in _measure([0.0])


def test_costs_of_all_processes_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ([(0.5, 1), (0.5, 2)], {"max_rss_mb": 1e6})
    monkeypatch.setattr(comm, "gather", lambda own: [own, other])
    costs = _measure([0.0, 0.01])
    assert costs["images"] == 4
    assert costs["latency_median_ms"] == 500
    assert costs["max_rss_mb"] == 1e6


def test_results_and_log_of_a_run(tmp_path: Path) -> None:
    results = run_toy(tmp_path)
    assert {"images", "latency_median_ms", "max_rss_mb"} <= set(results["inference"])
    written = json.loads((tmp_path / "results.json").read_text())["inference"]
    assert written.pop("device_name") == device_name("cpu")
    assert written == results["inference"]
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert last["inference/latency_median_ms"] == results["inference"]["latency_median_ms"]
    log = (tmp_path / "log.txt").read_text()
    assert "| ms per image, median" in log
    assert "| AP " in log
    assert not any("inference/" in name for line in metric_lines(tmp_path) for name in line)


def test_peak_of_the_training_does_not_fall_with_an_evaluation(tmp_path: Path) -> None:
    _touch(256)
    run_toy(tmp_path, "train.eval_period=3")
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    peaks = [line["[metric]max_rss_mb"] for line in lines if "[metric]max_rss_mb" in line]
    assert peaks == sorted(peaks)


def test_two_processes(tmp_path: Path) -> None:
    run_toy_in_two_processes(tmp_path)
    written = json.loads((tmp_path / "results.json").read_text())["inference"]
    # Each process takes both batches of the toy, and the first is warm-up.
    assert written["images"] == 4
    assert written["max_rss_mb"] > 10

"""Accuracy and costs of runs that were measured here."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from piip_d2.analysis.configs import build_without_numbers, count_conventions
from piip_d2.analysis.report import CostReport
from piip_d2.analysis.resolutions.choices import network_resolutions
from piip_d2.analysis.resolutions.measure import Cost, Point, in_own_process, measure_cost
from piip_d2.analysis.resolutions.sweep import RESULT_FILE
from piip_d2.engine import load_config
from piip_d2.engine.config import find_config
from piip_d2.engine.environment import device_name, resolve_device

from .curves import read_metrics
from .run_summary import find_checkpoint, known_results
from .tradeoff_points import COCO, FEWEST_IMAGES, MEASURED, Latency, TradeoffPoint
from .training import read_test_data

__all__ = ["run_points"]

_logger = logging.getLogger(__name__)

_KNOWN_NAMES = {"coco_2017_val": COCO}


def run_points(
    folder: str | Path,
    *,
    metric: str = "bbox/AP",
    latency_images: int = 0,
    device: str = "auto",
) -> list[TradeoffPoint]:
    """Reads accuracy and costs of a run, or of a sweep over resolutions.

    Multiply-adds are counted from the configuration, and for a sweep also read. The latency is the
    one that the evaluation or the sweep wrote down, or is measured now.

    Args:
        folder: The output folder of a run, or one with the ``sweep.json`` of
            ``tools/sweep_resolutions.py``.
        metric: What accuracy means, such as "bbox/AP".
        latency_images: If positive, a run is timed on so many test images, one by one, in a
            process of its own.
        device: What it is timed on; a device of PyTorch, or "auto".

    Returns:
        One point, or those of the sweep.

    Raises:
        FileNotFoundError: If the folder holds neither a run nor a sweep.
        ValueError: If it has no such metric.
    """
    folder = Path(folder)
    if (folder / RESULT_FILE).is_file():
        return _sweep_points(folder, metric)
    config_file = folder / "config.yaml"
    if not config_file.is_file():
        raise FileNotFoundError(
            f"{folder} must be the folder of a run, with its config.yaml, or of a sweep, with "
            f"its {RESULT_FILE}; it has neither"
        )
    cfg = load_config(str(config_file))
    results = _results(cfg, folder)
    accuracy = _select(results, metric)
    if accuracy is None:
        known = [f"{task}/{name}" for task in results for name in results[task]]
        raise ValueError(
            f"{folder} must have been evaluated with {metric}, but has "
            f"{', '.join(known) or 'no evaluation'}; evaluate it with train_net.py --eval-only"
        )
    latency = _noted_latency(results)
    if latency_images > 0:
        latency = _measure_latency(folder, latency_images, device)
    resolutions, flops = _count(str(config_file))
    return [
        TradeoffPoint(
            series=folder.resolve().name,
            label=resolutions,
            source=MEASURED,
            dataset=_dataset_name(config_file),
            accuracy=accuracy,
            flops=flops,
            latency=latency,
        )
    ]


def _results(cfg: DictConfig, folder: Path) -> dict[str, dict[str, Any]]:
    """Finds what a run was evaluated with: its best weights, or what results.json has."""
    file = folder / "results.json"
    written: dict[str, Any] = {}
    if file.is_file():
        written = json.loads(file.read_text(encoding="utf-8"))
    try:
        checkpoint = find_checkpoint(folder)
    except FileNotFoundError:
        # A folder may have been copied without its weights.
        return written
    metrics_file = folder / "metrics.json"
    metrics = read_metrics(metrics_file) if metrics_file.is_file() else {}
    known = {
        key: dict(value) for key, value in known_results(cfg, folder, checkpoint, metrics).items()
    }
    return {**written, **known}


def _select(results: Mapping[str, Mapping[str, Any]], metric: str) -> float | None:
    task, _, name = metric.partition("/")
    value = results.get(task, {}).get(name)
    return None if value is None else float(value)


def _noted_latency(results: Mapping[str, Mapping[str, Any]]) -> Latency | None:
    costs = results.get("inference", {})
    if "latency_median_ms" not in costs:
        return None
    num_images = int(costs["images"]) if "images" in costs else None
    spread = None
    # Evaluations of few images have no percentiles; those of earlier versions have useless ones.
    if num_images is None or num_images >= FEWEST_IMAGES:
        low, high = (costs.get(f"latency_{name}_ms") for name in ("p10", "p90"))
        spread = None if low is None or high is None else (float(low), float(high))
    # Results of earlier versions tell of a GPU by its memory alone.
    kind = "the GPU" if "max_gpu_mb" in costs else "the CPU"
    device = str(costs.get("device_name") or f"{kind} that evaluated the run")
    median = float(costs["latency_median_ms"])
    return Latency(median, spread, "10th and 90th percentile", device, num_images)


def _measure_latency(folder: Path, num_images: int, device: str) -> Latency:
    config_file = str(folder / "config.yaml")
    trained = network_resolutions(build_without_numbers(config_file))
    point = Point(
        config_file=config_file,
        overrides=("dataloader.test.num_workers=0",),
        checkpoint=str(find_checkpoint(folder)),
        trained=trained,
        resolutions=trained,
        device=device,
        num_threads=0,
        folder=str(folder / "latency"),
    )
    cost: Cost = in_own_process(measure_cost, point, num_images)
    lower, upper = (1e3 * value for value in cost.quartiles_s)
    name = device_name(resolve_device(device))
    return Latency(1e3 * cost.median_s, (lower, upper), "quartiles", name, cost.num_images)


def _count(config_file: str) -> tuple[str, dict[str, float]]:
    """Resolutions, and multiply-adds by convention, as far as they can be counted."""
    try:
        reports = count_conventions(build_without_numbers(config_file))
    except ValueError as error:
        _logger.warning("%s has no FLOPs in the picture: %s", config_file, error)
        return "", {}
    flops = {}
    # The paper's mixed pyramids were counted by the script that the authors released.
    for convention, name in (
        ("released_script", "paper"),
        ("paper", "paper"),
        ("actual", "actual"),
    ):
        report = reports[convention]
        if isinstance(report, CostReport):
            flops[name] = float(report.flops)
    actual = reports["actual"]
    sides = actual.resolutions if isinstance(actual, CostReport) else ()
    return "/".join(map(str, sides)), flops


def _sweep_points(folder: Path, metric: str) -> list[TradeoffPoint]:
    content = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    settings = content["settings"]
    device = settings["device_name"]
    points = []
    for entry in content["points"]:
        value = entry.get("metrics", {}).get(metric)
        if value is None or "cost" not in entry:
            continue
        cost = entry["cost"]
        lower, upper = (1e3 * second for second in cost["quartiles_s"])
        median, num_images = 1e3 * cost["median_s"], cost.get("num_images")
        points.append(
            TradeoffPoint(
                series=f"{Path(settings['config_file']).stem}, other resolutions",
                label="/".join(map(str, entry["resolutions"])),
                source=MEASURED,
                dataset=_dataset_name(_sweep_config(settings["config_file"])),
                accuracy=float(value),
                flops={"actual": float(cost["multiply_adds"])},
                latency=Latency(median, (lower, upper), "quartiles", device, num_images),
                is_marked=bool(entry["is_trained"]),
            )
        )
    if not points:
        raise ValueError(f"{folder / RESULT_FILE} has no finished point with {metric}")
    return points


def _sweep_config(name: str) -> Path:
    """The file of a configuration, which may have gone since the sweep."""
    try:
        return Path(find_config(name))
    except FileNotFoundError:
        return Path(name)


def _dataset_name(config_file: Path) -> str:
    name = read_test_data(config_file)
    return _KNOWN_NAMES.get(name, name) or "unknown data"

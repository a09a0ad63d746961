"""Accuracy, latency, memory and operations of a trained model over many resolutions."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import piip_d2
from piip_d2._atomic_file import write_text_atomically
from piip_d2.analysis.configs import build_without_numbers
from piip_d2.analysis.count import count_costs
from piip_d2.analysis.resolutions.choices import (
    Resolutions,
    network_resolutions,
    pareto_front,
    set_resolutions,
)
from piip_d2.analysis.resolutions.measure import (
    Point,
    in_own_process,
    measure_accuracy,
    measure_cost,
)
from piip_d2.engine.environment import device_name, resolve_device

logger = logging.getLogger(__name__)

RESULT_FILE = "sweep.json"
_MIB = 2**20


@dataclass(frozen=True)
class SweepSettings:
    """What a sweep measures; results of other settings are not mixed with its own.

    Args:
        config_file: The configuration that was trained.
        checkpoint: Its weights.
        overrides: ``key=value`` each.
        device: A device of PyTorch, or "auto".
        num_threads: Threads of the CPU; 0 leaves PyTorch's choice.
        num_images: Images that are timed one by one.
    """

    config_file: str
    checkpoint: str
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    num_threads: int = 0
    num_images: int = 30


class Sweep:
    """Measures a trained model at several resolutions, and keeps what it has measured.

    Args:
        settings: What is measured.
        folder: Where ``sweep.json`` stands, or will.

    Raises:
        ValueError: If the folder has results of other settings, or a setting is wrong.
        FileNotFoundError: If there is no such checkpoint.
    """

    def __init__(self, settings: SweepSettings, folder: str | Path) -> None:
        if settings.num_images < 1:
            raise ValueError(f"at least 1 image must be timed, got {settings.num_images}")
        if not Path(settings.checkpoint).is_file():
            raise FileNotFoundError(
                f"a sweep needs the weights of a trained model, but there is no file "
                f"{settings.checkpoint!r}"
            )
        self.settings = settings
        self.folder = Path(folder)
        self._model = build_without_numbers(settings.config_file, settings.overrides)
        self.trained = network_resolutions(self._model)
        self.record = self._record()
        known = self._read()
        # Points by their resolutions, in the order in which they were measured.
        self.points: dict[Resolutions, dict[str, Any]] = {
            tuple(point["resolutions"]): point for point in known
        }

    def run(
        self, choices: Sequence[Resolutions], *, renew_costs: bool = False, metric: str = ""
    ) -> list[dict[str, Any]]:
        """Measures what is not measured yet; each result is saved at once.

        Args:
            choices: Image sides in pixels, largest first.
            renew_costs: Whether latency and memory are measured again, for instance since the
                machine was busy. What was found there stays.
            metric: What every point must have, which is said at the first one that has not.

        Returns:
            A point for each of the choices, in their order.

        Raises:
            ValueError: If a choice or the checkpoint does not fit the model, or there is no such
                metric.
        """
        for resolutions in choices:
            set_resolutions(self._model, resolutions)
        set_resolutions(self._model, self.trained)
        for number, resolutions in enumerate(choices, start=1):
            logger.info("Point %d of %d: %s", number, len(choices), _label(resolutions))
            if renew_costs:
                self.points.get(resolutions, {}).pop("cost", None)
            self._measure(resolutions)
            if metric:
                front_of([self.points[resolutions]], metric)
        return [self.points[resolutions] for resolutions in choices]

    def _measure(self, resolutions: Resolutions) -> None:
        found = self.points.setdefault(
            resolutions,
            {"resolutions": list(resolutions), "is_trained": resolutions == self.trained},
        )
        settings = self.settings
        point = Point(
            config_file=settings.config_file,
            overrides=settings.overrides,
            checkpoint=settings.checkpoint,
            trained=self.trained,
            resolutions=resolutions,
            device=settings.device,
            num_threads=settings.num_threads,
            folder=str(self.folder / "points" / "_".join(map(str, resolutions))),
        )
        if "cost" not in found:
            cost = in_own_process(measure_cost, point, settings.num_images)
            report = count_costs(self._model, resolutions=resolutions, image_size=cost.image_size)
            found["cost"] = {**asdict(cost), "multiply_adds": report.flops}
            self._save()
        if "metrics" not in found:
            found["metrics"] = in_own_process(measure_accuracy, point)
            self._save()

    def _record(self) -> dict[str, Any]:
        """What must be the same for results to stand side by side."""
        device = resolve_device(self.settings.device)
        return {
            **asdict(self.settings),
            "overrides": list(self.settings.overrides),
            "device": device,
            "device_name": device_name(device),
            "checkpoint_sha256": hashlib.sha256(
                Path(self.settings.checkpoint).read_bytes()
            ).hexdigest(),
            "trained": list(self.trained),
            "torch": torch.__version__,
            "piip_d2": piip_d2.__version__,
        }

    def _read(self) -> list[dict[str, Any]]:
        path = self.folder / RESULT_FILE
        if not path.is_file():
            return []
        content = json.loads(path.read_text(encoding="utf-8"))
        before, now = content["settings"], json.loads(json.dumps(self.record))
        changed = [key for key in now if before.get(key) != now[key]]
        if changed:
            raise ValueError(
                f"{path} must be of the same settings to be continued, but differs in "
                f"{', '.join(f'{key} ({before.get(key)!r} there)' for key in changed)}; name "
                "another folder, or remove the file"
            )
        points: list[dict[str, Any]] = content["points"]
        return points

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"settings": self.record, "points": list(self.points.values())}
        write_text_atomically(self.folder / RESULT_FILE, json.dumps(content, indent=1) + "\n")


def front_of(points: Sequence[dict[str, Any]], metric: str) -> list[bool]:
    """Tells which points no other point beats in latency and accuracy.

    Args:
        points: As :meth:`Sweep.run` returns them.
        metric: What accuracy means, such as ``bbox/AP``.

    Returns:
        One truth value per point; points that found nothing, and have no accuracy, are left off.

    Raises:
        ValueError: If a point has no such metric.
    """
    for point in points:
        if metric not in point["metrics"]:
            raise ValueError(
                f"the metric must be one of {', '.join(point['metrics'])}, got {metric!r}"
            )
    values = [point["metrics"][metric] for point in points]
    latencies = [point["cost"]["median_s"] for point in points]
    front = pareto_front(latencies, [-math.inf if value is None else value for value in values])
    return [is_on and value is not None for is_on, value in zip(front, values, strict=True)]


def as_markdown(points: Sequence[dict[str, Any]], metrics: Sequence[str]) -> str:
    """Makes a table of a sweep.

    Args:
        points: As :meth:`Sweep.run` returns them.
        metrics: The columns of accuracy, such as ``bbox/AP``; the first decides about the front.

    Returns:
        Markdown, fastest first.
    """
    head = ["Resolutions", *metrics, "ms", "quartiles", "MiB", "GFLOPs", "on the front"]
    lines = [
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 2)} --- |",
    ]
    rows = sorted(
        zip(points, front_of(points, metrics[0]), strict=True),
        key=lambda row: row[0]["cost"]["median_s"],
    )
    for point, is_on_front in rows:
        cost = point["cost"]
        lower, upper = (f"{1e3 * value:.1f}" for value in cost["quartiles_s"])
        cells = [
            _label(point["resolutions"]) + (" (trained)" if point["is_trained"] else ""),
            *(_percent(point["metrics"].get(metric)) for metric in metrics),
            f"{1e3 * cost['median_s']:.1f}",
            f"{lower} to {upper}",
            f"{cost['peak_memory'] / _MIB:.0f}",
            f"{cost['multiply_adds'] / 1e9:.1f}",
            "yes" if is_on_front else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _label(resolutions: Sequence[int]) -> str:
    return " / ".join(str(side) for side in resolutions)

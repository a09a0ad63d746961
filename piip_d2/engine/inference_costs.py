"""What an evaluation costs: time per image and peak memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from piip_d2.engine.environment import device_name
from piip_d2.engine.host_memory import reset_resident_peak, resident_bytes

# A tenth of fewer measurements is none; all images of a batch are one.
FEWEST_FOR_TENTHS = 10

_WARM_UP = 5
_MIB = 2**20


class InferenceCosts(DatasetEvaluator):
    """Measures beside another evaluator; its :attr:`callbacks` go to ``inference_on_dataset``.

    Time is that of the model alone, from the batch on its device to detections at the size of the
    file, divided by the images of the batch. The first five batches of each process, or all but
    the last of fewer, are warm-up.

    Args:
        device: Where the model runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Time per image and number of images, batch by batch.
        self._batches: list[tuple[float, int]] = []
        self._start = self._elapsed = 0.0
        self._peaks: dict[str, float] = {}

    @property
    def device_name(self) -> str:
        """What the main process measured on, see `piip_d2.engine.environment.device_name`."""
        return device_name(self._device)

    @property
    def callbacks(self) -> dict[str, Callable[[], None]]:
        """What ``inference_on_dataset`` calls around each batch and behind the last."""
        return {
            "before_inference": self._begin_batch,
            "after_inference": self._end_batch,
            "on_end": self._read_peaks,
        }

    def reset(self) -> None:
        self._batches = []
        self._peaks = {}
        # Where the system has no such counter, the peak is that of the process since its start.
        with contextlib.suppress(OSError):
            reset_resident_peak()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def process(self, inputs: list[Any], outputs: list[Any]) -> None:
        self._batches.append((self._elapsed / len(inputs), len(inputs)))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns the costs as task "inference", in the main process; all processes call it.

        Returns:
            ``images`` that were timed; the median of the time per image in ms, and from ten timed
            batches on the 10th and 90th percentile; the largest process's peak of resident memory
            and of PyTorch's memory on the GPU in MiB.
        """
        timed = self._batches[min(_WARM_UP, len(self._batches) - 1) :]
        gathered = comm.gather((timed, self._peaks))
        batches = [batch for batches_of_one, _ in gathered for batch in batches_of_one]
        times = [seconds * 1e3 for seconds, images in batches for _ in range(images)]
        if not times:
            return {}
        costs = {"images": float(len(times)), "latency_median_ms": float(np.median(times))}
        if len(batches) >= FEWEST_FOR_TENTHS:
            low, high = np.percentile(times, [10, 90])
            costs |= {"latency_p10_ms": float(low), "latency_p90_ms": float(high)}
        for _, peaks in gathered:
            for name, peak in peaks.items():
                costs[name] = max(costs.get(name, 0.0), peak)
        return {"inference": costs}

    def _begin_batch(self) -> None:
        self._wait()
        self._start = time.perf_counter()

    def _end_batch(self) -> None:
        self._wait()
        self._elapsed = time.perf_counter() - self._start

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _read_peaks(self) -> None:
        # Now, since what the evaluators do next takes memory too.
        resident = resident_bytes(peak=True)
        if resident:
            self._peaks["max_rss_mb"] = resident / _MIB
        if self._device.type == "cuda":
            self._peaks["max_gpu_mb"] = torch.cuda.max_memory_allocated(self._device) / _MIB

"""One point of a sweep: accuracy, and latency and memory, each in a process of its own."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from torch import nn

from piip_d2.analysis.resolutions.choices import Resolutions, set_image_scale, set_resolutions
from piip_d2.data.overrides import apply_data_section
from piip_d2.engine import load_config
from piip_d2.engine.build import build_whole_model
from piip_d2.engine.checkpointer import AtomicCheckpointer
from piip_d2.engine.environment import resolve_device
from piip_d2.engine.evaluation import Evaluation
from piip_d2.engine.host_memory import reset_resident_peak, resident_bytes

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# Passes before the clock starts: caches fill, kernels are chosen.
_WARM_UP = 3


@dataclass(frozen=True)
class Point:
    """What is needed to measure a trained model at one choice of resolutions.

    Args:
        config_file: Its configuration.
        overrides: ``key=value`` each.
        checkpoint: Its weights.
        trained: The resolutions of the configuration, in pixels, largest first.
        resolutions: Those to measure.
        device: A device of PyTorch, or "auto".
        num_threads: Threads of the CPU; 0 leaves PyTorch's choice.
        folder: Where the evaluation writes to.
    """

    config_file: str
    overrides: tuple[str, ...]
    checkpoint: str
    trained: Resolutions
    resolutions: Resolutions
    device: str
    num_threads: int
    folder: str


@dataclass(frozen=True)
class Cost:
    """What single images cost.

    Args:
        median_s: Seconds for one image, from the resized image to detections on the host.
        quartiles_s: A quarter of the images took less than the first, a quarter more than the
            second.
        num_images: How many were timed.
        peak_memory: Bytes: on a GPU, what PyTorch had allocated at most; on a CPU, the growth of
            the process from before the model was built to its peak.
        image_size: Height and width that most of them had, in pixels.
    """

    median_s: float
    quartiles_s: tuple[float, float]
    num_images: int
    peak_memory: int
    image_size: tuple[int, int]


def in_own_process(work: Callable[..., _Result], *arguments: Any) -> _Result:
    """Runs a function in a new process, which takes all its memory with it.

    Args:
        work: A function of a module.
        *arguments: What it is called with.

    Returns:
        What it returns.
    """
    # A forked process would begin with the memory of this one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(work, *arguments).result()


def measure_accuracy(point: Point) -> dict[str, float | None]:
    """Evaluates on the test data of the configuration.

    Args:
        point: What to measure.

    Returns:
        Metrics by names such as ``bbox/AP``, in percent; None where there is no number, as for all
        of them if nothing was found.

    Raises:
        ValueError: If the configuration has no evaluator, or the checkpoint does not fit.
    """
    cfg = _prepare(point)
    evaluation = Evaluation(cfg)
    if not evaluation.is_wanted:
        raise ValueError("a sweep measures AP, but the config has no dataloader.evaluator")
    results = evaluation(_load_model(cfg, point))
    return {
        f"{task}/{name}": float(value) if np.isfinite(value) else None
        for task, metrics in results.items()
        for name, value in metrics.items()
    }


@torch.no_grad()
def measure_cost(point: Point, num_images: int) -> Cost:
    """Times single images, and says how much memory they take.

    Args:
        point: What to measure.
        num_images: Images to time; those of the test data, again from the first where these are
            fewer.

    Returns:
        The cost.
    """
    cfg = _prepare(point)
    samples = _samples(cfg, num_images)
    # From here on the peak is counted anew: loading annotations may have taken more.
    reset_resident_peak()
    before = resident_bytes(peak=False)
    model = _load_model(cfg, point).eval()
    times = []
    for number in range(_WARM_UP + num_images):
        start = time.perf_counter()
        # Detections are on the host only when the GPU has come to them.
        for output in model([samples[number % len(samples)]]):
            output["instances"].to("cpu")
        times.append(time.perf_counter() - start)
    lower, median, upper = np.quantile(times[_WARM_UP:], (0.25, 0.5, 0.75)).tolist()
    sizes = Counter(tuple(sample["image"].shape[1:]) for sample in samples)
    height, width = sizes.most_common(1)[0][0]
    peak = resident_bytes(peak=True) - before
    if cfg.train.device != "cpu":
        peak = torch.cuda.max_memory_allocated()
    return Cost(median, (lower, upper), num_images, peak, (height, width))


def _prepare(point: Point) -> DictConfig:
    """Loads the configuration, at the resolutions of the point but for its model."""
    setup_logger(name="piip_d2")
    if point.num_threads:
        torch.set_num_threads(point.num_threads)
    cfg = load_config(point.config_file, point.overrides)
    apply_data_section(cfg)
    cfg.train.device = resolve_device(point.device)
    cfg.train.output_dir = point.folder
    Path(point.folder).mkdir(parents=True, exist_ok=True)
    set_image_scale(cfg.dataloader.test, point.resolutions[0], point.trained[0])
    return cfg


def _load_model(cfg: DictConfig, point: Point) -> nn.Module:
    model = build_whole_model(cfg).to(cfg.train.device)
    averaged = cfg.train.ema.evaluate != "model"
    AtomicCheckpointer(model).load_for("evaluate", point.checkpoint, prefer_average=averaged)
    set_resolutions(model, point.resolutions)
    return model


def _samples(cfg: DictConfig, count: int) -> list[dict[str, Any]]:
    cfg.dataloader.test.num_workers = 0
    samples: list[dict[str, Any]] = []
    for batch in instantiate(cfg.dataloader.test):
        samples += batch
        if len(samples) >= count:
            break
    return samples[:count]

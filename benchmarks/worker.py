"""Measures tasks in a process of its own, and prints a row as a line of JSON per variant.

python -m benchmarks.worker '{"suite": "backbone", "network": "piip_tsb_1120_896_448", ...}'
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.networks import (
    COMPILED,
    GRAPHS,
    build_model,
    build_windowed_pyramid,
    count_tokens,
    find_pyramids,
    image_side,
    use_variant,
)
from benchmarks.rows import TRAINING, Key, Row, timing_fields
from benchmarks.steps import make_detector_step, make_network_step
from benchmarks.stopwatch import Patience, measure
from piip_d2.engine.precision import Precision

DETECTORS = "detectors"
GROWTH = "growth"
# Begin the lines that hold a row, or what is left out and why.
ROW_MARK, FAILURE_MARK = "ROW ", "FAILURE "
_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16"}


@dataclasses.dataclass(frozen=True)
class Task:
    """What one process measures.

    Args:
        suite: "backbone", "growth" or "detectors".
        network: Name of the experiment.
        mode: "inference" or "training".
        dtype: "float32" or "bfloat16".
        variants: Ways to compute it, one after the other.
        device: Where.
        threads: On a CPU.
        batch_size: Images per call.
        image_side: Side of the image in pixels; None for the experiment's largest resolution.
        flop: Floating-point operations per call; None if they were not counted.
        baseline: Name and variant to compare with.
        patience: How long to measure, as the arguments of :class:`Patience`.
        tiny: Whether to shrink everything.
    """

    suite: str
    network: str
    mode: str
    dtype: str
    variants: tuple[str, ...]
    device: str = "cpu"
    threads: int = 2
    batch_size: int = 1
    image_side: int | None = None
    flop: float | None = None
    baseline: tuple[str, str] | None = None
    patience: dict[str, float] = dataclasses.field(default_factory=dict)
    tiny: bool = False

    @property
    def name(self) -> str:
        """Name of its rows."""
        return self.network if self.image_side is None else f"{self.network} {self.image_side}"

    def key(self, variant: str) -> Key:
        """Key of the row of a variant."""
        return (self.suite, self.name, variant, self.dtype, self.mode)

    def describe(self, variant: str) -> str:
        """What one of its variants is, in words."""
        return f"{self.name}, {variant}, {self.mode}, {self.dtype}"

    def as_json(self) -> str:
        """The task as the argument of a process."""
        return json.dumps(dataclasses.asdict(self))


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the tasks of the command line, one after the other."""
    # float32 is to mean the same in products and convolutions.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for text in sys.argv[1:] if argv is None else argv:
        task = Task(**json.loads(text))
        torch.set_num_threads(task.threads)
        for variant in task.variants:
            try:
                row = measure_variant(task, variant)
                print(ROW_MARK + json.dumps(dataclasses.asdict(row)), flush=True)
            except RuntimeError as error:  # as for lack of memory; the others may have enough
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                failure = {"what": task.describe(variant), "why": reason}
                print(FAILURE_MARK + json.dumps(failure), flush=True)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def measure_variant(task: Task, variant: str) -> Row:
    """Builds the model of a task and measures one way to compute it.

    Args:
        task: The task.
        variant: One of its variants.

    Returns:
        The row.
    """
    device = torch.device(task.device)
    torch.manual_seed(0)
    torch.compiler.reset()
    idle = _memory(device, peak=False)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model = _build(task).to(device)
    use_variant(model, variant)
    step = _make_step(task, variant, model, device)
    measured = measure(step, device, Patience(**task.patience))
    side = task.image_side or image_side(model)
    return Row(
        suite=task.suite,
        name=task.name,
        variant=variant,
        dtype=task.dtype,
        mode=task.mode,
        **timing_fields(measured.timing),
        batch_size=task.batch_size,
        image_size=(side, side),
        flop=task.flop,
        peak_memory_bytes=_memory(device, peak=True),
        idle_memory_bytes=idle,
        compile_s=measured.first_s if variant in (COMPILED, GRAPHS) else None,
        baseline=task.baseline,
        ceiling="arithmetic" if task.flop else None,
        tokens=count_tokens(find_pyramids(model)[0], side),
    )


def _build(task: Task) -> nn.Module:
    if task.suite == GROWTH:
        assert task.image_side is not None
        return build_windowed_pyramid(task.image_side)
    return build_model(task.network, whole_detector=task.suite == DETECTORS, tiny=task.tiny)


def _make_step(task: Task, variant: str, model: nn.Module, device: torch.device) -> Any:
    precision = Precision(_PRECISIONS[task.dtype], device)
    training = task.mode == TRAINING
    if task.suite == DETECTORS:
        return make_detector_step(
            model, precision, variant, training=training, batch_size=task.batch_size
        )
    side = task.image_side or image_side(model)
    images = torch.randn(task.batch_size, 3, side, side, device=device)
    return make_network_step(model, images, precision, variant, training=training)


def _memory(device: torch.device, *, peak: bool) -> int:
    """Bytes that PyTorch has allocated on a GPU, or that this process has in memory."""
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated
        return int(used(device))
    field = "VmHWM:" if peak else "VmRSS:"
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


if __name__ == "__main__":
    main()

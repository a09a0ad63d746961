"""Measures tasks in a process of its own, and prints a row as a line of JSON per variant.

python -m benchmarks.worker '{"suite": "backbone", "network": "piip_tsb_1120_896_448", ...}'
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from benchmarks.networks import (
    COMPILED,
    EAGER,
    GRAPHS,
    NARROW,
    build_model,
    build_windowed_pyramid,
    count_tokens,
    find_pyramids,
    image_side,
    use_variant,
)
from benchmarks.rows import TRAINING, Key, Row, timing_fields
from benchmarks.steps import let_candidates_pass, make_detector_step, make_network_step
from benchmarks.stopwatch import Patience, measure
from piip_d2.engine.host_memory import keep_freed_memory, resident_bytes
from piip_d2.engine.precision import Precision

DETECTORS = "detectors"
GROWTH = "growth"
# Begin the lines that hold a row, or what is left out and why.
ROW_MARK, FAILURE_MARK = "ROW ", "FAILURE "
_COMPILED = (COMPILED, GRAPHS)
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
        return f"{self.suite}, {self.name}, {variant}, {self.mode}, {self.dtype}"

    def as_json(self) -> str:
        """The task as the argument of a process."""
        return json.dumps(dataclasses.asdict(self))


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the tasks of the command line, all that is not compiled first.

    Raises:
        SystemExit: After an error of the GPU, behind which nothing works in this process.
    """
    # float32 is to mean the same in products and convolutions.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    tasks = [Task(**json.loads(text)) for text in (sys.argv[1:] if argv is None else argv)]
    _prepare(tasks[0])
    models = Models(tasks)
    for task, variant in in_order(tasks):
        try:
            row = measure_variant(task, variant, models)
            print(ROW_MARK + json.dumps(dataclasses.asdict(row)), flush=True)
        except Exception as error:  # as for lack of memory; the others may have enough
            models.forget()
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            failure = {"key": task.key(variant), "why": reason}
            print(FAILURE_MARK + json.dumps(failure), flush=True)
            if _is_fatal(error):
                raise SystemExit(f"stopped: {reason}") from error
        gc.collect()
        if task.device != "cpu":
            torch.cuda.empty_cache()


def in_order(tasks: Sequence[Task]) -> list[tuple[Task, str]]:
    """Tasks and variants in the order of measuring: compilers may use up the time of a process."""
    jobs = [(task, variant) for task in tasks for variant in task.variants]
    return sorted(jobs, key=lambda job: _COMPILED.index(job[1]) if job[1] in _COMPILED else -1)


class Models:
    """Holds the model that was used last, as it often is the next one too.

    Where tasks want a detector and its network alone, the network is the detector's: it is built
    and compiled once.

    Args:
        tasks: All tasks of the process.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._detectors = {task.network for task in tasks if task.suite == DETECTORS}
        self._model: nn.Module | None = None
        self._network, self._variant = "", ""

    def get(self, task: Task, variant: str) -> nn.Module:
        """The model of a task, prepared for a variant.

        Args:
            task: The task.
            variant: One of its variants.

        Returns:
            The detector, or the network alone.
        """
        # Being eager leaves a model as it was, other variants change it.
        keeps = self._network == task.name and self._variant in (EAGER, variant)
        if self._model is None or not keeps:
            self.forget()
            self._model = self._build(task)
            self._network, self._variant = task.name, EAGER
        if variant != self._variant:
            torch.compiler.reset()
            use_variant(self._model, variant)
            self._variant = variant
        alone = task.suite != DETECTORS
        return find_pyramids(self._model)[0] if alone else self._model

    def forget(self) -> None:
        """Gives the model's memory back."""
        self._model = None
        torch.compiler.reset()
        gc.collect()

    def _build(self, task: Task) -> nn.Module:
        torch.manual_seed(0)
        device = torch.device(task.device)
        # Random numbers for half a billion weights take long on a processor.
        with device if device.type == "cuda" else nullcontext():
            if task.suite == GROWTH:
                assert task.image_side is not None
                return build_windowed_pyramid(task.image_side)
            whole = task.network in self._detectors
            model = build_model(task.network, whole_detector=whole, tiny=task.tiny).to(device)
        if whole and task.mode != TRAINING:
            let_candidates_pass(model, _precision(task, EAGER), task.batch_size)
        return model


def measure_variant(task: Task, variant: str, models: Models | None = None) -> Row:
    """Builds the model of a task and measures one way to compute it.

    Args:
        task: The task.
        variant: One of its variants.
        models: Where the model may be already; None for a new one.

    Returns:
        The row.
    """
    device = torch.device(task.device)
    idle = _memory(device, peak=False)
    model = (models or Models([task])).get(task, variant)
    if device.type == "cuda":
        # A model that was there already counts as what this row takes, as a new one does.
        sizes = [x.nbytes for x in (*model.parameters(), *model.buffers())]
        idle = max(0, _memory(device, peak=False) - sum(sizes))
    torch.manual_seed(0)
    step = _make_step(task, variant, model, device)

    def reset() -> None:
        # What a compiler needs is no memory of the step. A processor keeps it: see _prepare.
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    measured = measure(step, device, Patience(**task.patience), after_first=reset)
    peak = _memory(device, peak=True)
    model.zero_grad(set_to_none=True)
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
        peak_memory_bytes=peak,
        idle_memory_bytes=idle,
        compile_s=measured.first_s if variant in _COMPILED else None,
        baseline=task.baseline,
        ceiling="arithmetic" if task.flop else None,
        tokens=count_tokens(find_pyramids(model)[0], side),
    )


def _prepare(task: Task) -> None:
    """Sets up the process for the device that all its tasks share."""
    device = torch.device(task.device)
    if device.type == "cuda":
        torch.cuda.init()
        if device.index is not None:
            torch.cuda.set_device(device)
        return
    # As train_net.py does.
    keep_freed_memory()
    torch.set_num_threads(task.threads)


def _precision(task: Task, variant: str) -> Precision:
    name = "fp32" if variant == NARROW else _PRECISIONS[task.dtype]
    return Precision(name, torch.device(task.device))


def _make_step(task: Task, variant: str, model: nn.Module, device: torch.device) -> Any:
    precision = _precision(task, variant)
    training = task.mode == TRAINING
    if task.suite == DETECTORS:
        return make_detector_step(
            model, precision, variant, training=training, batch_size=task.batch_size
        )
    side = task.image_side or image_side(model)
    images = torch.randn(task.batch_size, 3, side, side, device=device)
    images = images.to(next(model.parameters()).dtype)
    return make_network_step(model, images, precision, variant, training=training)


def _is_fatal(error: Exception) -> bool:
    """Whether a GPU does not answer this process any more."""
    return not isinstance(error, torch.OutOfMemoryError) and "CUDA error" in str(error)


def _memory(device: torch.device, *, peak: bool) -> int:
    """Bytes that PyTorch has allocated on a GPU, or that this process has in memory."""
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated
        return int(used(device))
    return resident_bytes(peak=peak)


if __name__ == "__main__":
    main()

"""Compares exported files with the models they were made from."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from piip_d2._optional import require
from piip_d2.export.files import Exported

Program = Callable[..., Sequence[Tensor]]

# Of the largest value; rounding alone, in another order of sums, stays well below.
_TOLERANCE = 2e-5


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a result of a file is from that of the model.

    Args:
        name: Of the result.
        size: Height and width of the image.
        largest: Largest absolute difference; NaN if one of the results has a NaN.
        scale: Largest absolute value of the model's result.
        is_exact: Whether the result is of integers, which have to be the same.
    """

    name: str
    size: tuple[int, int]
    largest: float
    scale: float
    is_exact: bool = False

    @property
    def is_close(self) -> bool:
        """Whether the file computes what the model computes."""
        return self.largest <= (0.0 if self.is_exact else _TOLERANCE * self.scale)

    def __str__(self) -> str:
        height, width = self.size
        return (
            f"{height} x {width}: {self.name} differs by at most {self.largest:.1e} "
            f"(values up to {self.scale:.4g})"
        )


def load_program(path: str | Path) -> Program:
    """Loads an exported file.

    Args:
        path: A ``.pt2``, or an ``.onnx``, which onnxruntime runs on the CPU with as many threads
            as PyTorch has.

    Returns:
        A function from tensors to the tensors of all results, in order.

    Raises:
        ImportError: If onnxruntime is needed and not installed.
    """
    path = Path(path)
    if path.suffix == ".pt2":
        # Its guards tell apart layouts in memory, which the operators of PyTorch do by themselves:
        # they refuse sizes for which the program holds.
        module = torch.export.load(path).module(check_guards=False)
        return lambda *inputs: _as_list(module(*inputs))
    runtime = require("onnxruntime", "running ONNX files")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]

    def run(*inputs: Tensor) -> Sequence[Tensor]:
        arrays = [x.numpy(force=True) for x in inputs]
        results = session.run(None, dict(zip(names, arrays, strict=True)))
        return [torch.from_numpy(result) for result in results]

    return run


@torch.no_grad()
def compare(exported: Exported) -> list[Difference]:
    """Runs a file and its model on the examples.

    Args:
        exported: What an export function returned.

    Returns:
        One entry for every example and result.

    Raises:
        ImportError: If onnxruntime is needed and not installed.
    """
    program = load_program(exported.path)
    differences = []
    for inputs in exported.examples:
        size = _image_size(inputs)
        pairs = zip(
            exported.output_names,
            program(*inputs),
            _as_list(exported.module(*inputs)),
            strict=True,
        )
        for name, result, expected in pairs:
            differences.append(_difference(name, size, result, expected))
    return differences


@torch.no_grad()
def measure_seconds(exported: Exported, repeats: int) -> tuple[float, float]:
    """Measures a file and its model on the first example, in turn.

    Args:
        exported: What an export function returned.
        repeats: Runs of each, after one that does not count.

    Returns:
        Median seconds of the file and of the model.

    Raises:
        ImportError: If onnxruntime is needed and not installed.
    """
    programs: tuple[Callable[..., Any], ...] = (load_program(exported.path), exported.module)
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for program, taken in zip(programs, seconds, strict=True):
            start = time.perf_counter()
            program(*exported.examples[0])
            if repeat > 0:
                taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _difference(name: str, size: tuple[int, int], result: Tensor, expected: Tensor) -> Difference:
    is_exact = not expected.is_floating_point()
    expected = expected.cpu().double()
    largest = (result.cpu().double() - expected).abs().max().item()
    return Difference(name, size, largest, expected.abs().max().item(), is_exact)


def _as_list(results: Any) -> list[Tensor]:
    return list(results.values()) if isinstance(results, dict) else list(results)


def _image_size(inputs: Sequence[Tensor]) -> tuple[int, int]:
    """That of the first image: within its canvas if its size is an input, too."""
    if len(inputs) > 1:
        height, width = inputs[1][0].tolist()
    else:
        height, width = inputs[0].shape[-2:]
    return height, width

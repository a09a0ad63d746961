"""What a GPU's caches can deliver and add up, which bounds the operator's speed there."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.msda.problems import Shape, corners, make_problem

SOURCE = Path(__file__).with_name("gpu_floor.cu")
_REPEATS = 50
_VECTOR_REDUCTIONS_FROM = (9, 0)


@dataclasses.dataclass(frozen=True)
class Reduction:
    """A kind of atomic addition.

    Args:
        name: Type and number of the numbers that one instruction adds.
        element_bytes: Size of one number.
        vector_bytes: Size of all.
    """

    name: str
    element_bytes: int
    vector_bytes: int


REDUCTIONS = (
    Reduction("f32", 4, 4),
    Reduction("f32x2", 4, 8),
    Reduction("f32x4", 4, 16),
    Reduction("bf16x2", 2, 4),
    Reduction("bf16x8", 2, 16),
)


def measure_gpu_floor(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Measures gathers and reductions with the rows that shapes ask for.

    Args:
        shapes: By name.

    Returns:
        By shape the rates in TB/s of useful bytes: gathers of float32 and bfloat16 rows through
        the L1 cache and past it, and reductions of every kind that fits the rows; or the reason
        why nothing was measured.
    """
    if not torch.cuda.is_available():
        return {"not_measured": "there is no CUDA device"}
    if shutil.which("nvcc") is None:
        return {"not_measured": "the compiler nvcc is not on the PATH"}
    with tempfile.TemporaryDirectory() as folder:
        library = _load(compile_source(Path(folder), "native"))
    return {name: _measure_shape(library, shape) for name, shape in shapes.items()}


def compile_source(folder: Path, architecture: str) -> Path:
    """Compiles the micro-benchmarks to a shared library.

    Args:
        folder: Where to.
        architecture: As nvcc's option -arch; "native" for the GPU of this machine.

    Returns:
        The library.

    Raises:
        RuntimeError: If nvcc fails.
    """
    target = folder / "gpu_floor.so"
    flags = ["-O3", "-std=c++17", f"-arch={architecture}", "-Xcompiler", "-fPIC", "-shared"]
    command = ["nvcc", *flags, "-o", str(target), str(SOURCE)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed: {result.stderr.strip()}")
    return target


def vector_bytes(row_bytes: int) -> int:
    """Largest load of 16, 8 or 4 bytes that rows of this size can be read with."""
    for size in (16, 8, 4):
        if row_bytes % size == 0:
            return size
    raise ValueError(f"rows must be a multiple of 4 bytes, got {row_bytes}")


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    rows = (pointer, pointer, ctypes.c_int64, integer, integer)
    library.gather_ms.argtypes = (integer, ctypes.c_bool, *rows, pointer, integer)
    library.reduction_ms.argtypes = (integer, *rows, integer)
    library.gather_ms.restype = library.reduction_ms.restype = ctypes.c_float
    return library


def _measure_shape(library: ctypes.CDLL, shape: Shape) -> dict[str, float]:
    problem = make_problem(shape)
    offsets = corners(problem)[0].flatten(0, 2).flatten(1)  # (groups, samples), in numbers
    # Zeros in float32, and as many bytes suffice for bfloat16.
    table = torch.zeros(problem.value.numel(), device="cuda")
    rates = {}
    for dtype, element in (("float32", 4), ("bfloat16", 2)):
        size = vector_bytes(shape.width * element)
        for path, through_l1 in (("l1", True), ("l2", False)):
            starts = _starts(offsets, element, size)
            lanes = shape.width * element // size
            sink = torch.zeros(1, device="cuda")
            milliseconds = library.gather_ms(
                size, through_l1, table.data_ptr(), starts.data_ptr(), *starts.shape, lanes,
                sink.data_ptr(), _REPEATS,
            )  # fmt: skip
            rates[f"gather_{path}_{dtype}"] = _rate(starts, lanes * size, milliseconds)
    has_vectors = torch.cuda.get_device_capability() >= _VECTOR_REDUCTIONS_FROM
    for kind, reduction in enumerate(REDUCTIONS):
        size, row_bytes = reduction.vector_bytes, shape.width * reduction.element_bytes
        if row_bytes % size or (reduction.name != "f32" and not has_vectors):
            continue
        starts = _starts(offsets, reduction.element_bytes, size)
        milliseconds = library.reduction_ms(
            kind, table.data_ptr(), starts.data_ptr(), *starts.shape, row_bytes // size, _REPEATS
        )
        rates[f"reduction_{reduction.name}"] = _rate(starts, row_bytes, milliseconds)
    return rates


def _starts(offsets: Tensor, element_bytes: int, size: int) -> Tensor:
    """Beginnings of rows, counted in vectors of ``size`` bytes."""
    return (offsets.long() * element_bytes // size).int().contiguous().cuda()


def _rate(starts: Tensor, row_bytes: int, milliseconds: float) -> float:
    """Useful bytes per time, in TB/s."""
    if milliseconds <= 0:
        raise RuntimeError("a micro-benchmark failed on the GPU; compute-sanitizer may tell why")
    return round(starts.numel() * row_bytes / milliseconds * 1e-9, 4)

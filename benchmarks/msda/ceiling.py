"""The speed of gathering alone, which bounds that of the forward pass on a CPU."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.msda.problems import Problem, corners

_SOURCE = Path(__file__).with_name("gather_ceiling.cpp")


class GatherCeiling:
    """Gathers and adds the rows that a problem asks for; only that happens in a call.

    Args:
        problem: In float32, on a CPU.

    Raises:
        RuntimeError: If the C++ source cannot be compiled here.
        ValueError: If it has no code for the problem's head width.
    """

    def __init__(self, problem: Problem) -> None:
        self.library = _library()
        self.problem = problem
        self.offsets, self.weights = corners(problem)
        batch, queries, heads = problem.locations.shape[:3]
        width = problem.value.shape[3]
        self.output = problem.value.new_empty(batch, queries, heads * width)
        self.value = problem.value.contiguous()
        self.arguments = _Gather(
            groups=batch * queries * heads,
            samples=problem.weights.shape[3] * problem.weights.shape[4],
            width=width,
            threads=torch.get_num_threads(),
            table=self.value.data_ptr(),
            offsets=self.offsets.data_ptr(),
            weights=self.weights.data_ptr(),
            output=self.output.data_ptr(),
            parallel_for=_parallel_for(),
        )
        if not self.library.gather_rows(ctypes.byref(self.arguments)):
            raise ValueError(f"gather_ceiling.cpp has no case for head width {width}: add one")

    def __call__(self) -> Tensor:
        """Returns (B, Q, M * D), the same memory every time."""
        self.library.gather_rows(ctypes.byref(self.arguments))
        return self.output


class _Gather(ctypes.Structure):
    """``struct Gather`` of the C++ source."""

    _fields_ = (
        ("groups", ctypes.c_int64),
        ("samples", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("table", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("parallel_for", ctypes.c_void_p),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    compiler = shutil.which("c++")
    if compiler is None:
        raise RuntimeError("measuring the gather ceiling needs the compiler c++, and there is none")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "gather_ceiling.so"
        flags = ["-O3", "-std=c++17", "-march=native", "-fPIC", "-shared"]
        command = [compiler, *flags, "-o", str(target), str(_SOURCE)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {result.stderr.strip()}")
        library = ctypes.CDLL(str(target))
    library.gather_rows.restype = ctypes.c_bool
    return library


def _parallel_for() -> int | None:
    # Handed over as a pointer, so that the C++ source needs no headers of PyTorch.
    libtorch = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    return ctypes.cast(libtorch.torch_parallel_for, ctypes.c_void_p).value

"""Compiles the CUDA operators for the host, and calls them on tensors of the CPU."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.ops.cases import Case, assert_same, with_gradients

TOLERANCES = {torch.float64: 1e-12, torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}
# More compiler flags, as for sanitizers.
FLAGS_VARIABLE = "CUDA_ON_HOST_FLAGS"
_NAMESPACE = "piip_d2_on_host"
_GUARD = 64


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run the kernels.

    Args:
        schedule: Order in which threads get their turn: 0 forwards, 1 backwards, else shuffled.
        wide: Whether addresses are computed in 64 bits, and elements loaded one by one.
        shift: Elements by which value and gradient are moved off their alignment.
        deterministic: Whether the value's gradient is summed in fixed point.
        needs: Which of the gradients of value, points, weights and reference are wanted.
    """

    schedule: int = 0
    wide: bool = False
    shift: int = 0
    deterministic: bool = False
    needs: tuple[bool, bool, bool, bool] = (True, True, True, True)


def compile_operators(folder: pathlib.Path) -> pathlib.Path:
    """Returns the path of a shared library; skips the test where it cannot be made."""
    compiler = shutil.which("g++")
    python = pathlib.Path(sysconfig.get_paths()["include"])
    if compiler is None or not (python / "Python.h").is_file():
        pytest.skip("g++ and Python.h are needed to compile the CUDA kernels for the host")
    here = pathlib.Path(__file__).parent
    library = folder / f"{_NAMESPACE}.so"
    torch_folder = pathlib.Path(torch.__file__).parent
    command = [compiler, "-std=c++17", "-O1", "-fPIC", "-shared", "-Wl,-Bsymbolic", "-Wall"]
    command += ["-Wno-unknown-pragmas", *os.environ.get(FLAGS_VARIABLE, "").split()]
    command += [
        "-DUSE_CUDA",
        f"-Dpiip_d2={_NAMESPACE}",
        f"-I{torch_folder / 'include'}",
        f"-I{python}",
    ]
    command += ["-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command += ["-DPy_LIMITED_API=0x030a0000"]
    command += ["-include", str(here / "emulation.h"), "-x", "c++", str(here / "operators.cpp")]
    command += [f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
    done = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


class EmulatedOperators:
    """The operators in a library that ``compile_operators`` has made."""

    def __init__(self, library: pathlib.Path) -> None:
        torch.ops.load_library(str(library))
        self._operators = getattr(torch.ops, _NAMESPACE)
        self._library = ctypes.CDLL(str(library))
        self._library.set_emulation.argtypes = [ctypes.c_int32, ctypes.c_bool]
        self._library.quotient.argtypes = [ctypes.c_int32, ctypes.c_int32]

    def quotient(self, dividend: int, divisor: int) -> int:
        """What the kernels take for ``dividend // divisor``."""
        return self._library.quotient(dividend, divisor)

    def forward(self, case: Case, options: Options | None = None) -> Tensor:
        """The output (B, Q, M * D)."""
        options = options or Options()
        self._library.set_emulation(options.schedule, options.wide)
        name = "ms_deform_attn_fused" if case.is_fused else "ms_deform_attn"
        return getattr(self._operators, name)(*_guarded_arguments(case, options))

    def backward(
        self, case: Case, grad_output: Tensor, options: Options | None = None
    ) -> Sequence[Tensor]:
        """Gradients of value, points, weights, and for the fused form of reference per head."""
        options = options or Options()
        self._library.set_emulation(options.schedule, options.wide)
        name = "ms_deform_attn_fused_backward" if case.is_fused else "ms_deform_attn_backward"
        needs = options.needs if case.is_fused else options.needs[:3]
        return getattr(self._operators, name)(
            _guarded(grad_output, options.shift),
            *_guarded_arguments(case, options),
            *needs,
            options.deterministic,
        )


def with_reference_per_head(case: Case) -> list[Tensor]:
    """The tensors of a case, reference points as (B, Q, M, L, R)."""
    tensors = list(case.tensors)
    if len(tensors) == 4:
        points = tensors[1]
        size = tensors[3].shape[-1]
        tensors[3] = tensors[3][:, :, None].expand(*points.shape[:4], size).clone()
    return tensors


def make_grad_output(case: Case) -> Tensor:
    value, points = case.tensors[:2]
    shape = (*points.shape[:2], value.shape[2] * value.shape[3])
    return (torch.rand(shape, dtype=torch.float64) * 2 - 1).to(value.dtype)


def check(operators: EmulatedOperators, case: Case, options: Options | None = None) -> None:
    """Compares output and all gradients to those of float64 arithmetic on the same numbers."""
    options = options or Options()
    exact = dataclasses.replace(case, tensors=with_reference_per_head(case))
    exact = exact.converted(torch.float64)
    grad_output = make_grad_output(case)
    expected = with_gradients(exact.run_reference, exact.tensors, grad_output)
    actual = [operators.forward(case, options)]
    actual += operators.backward(case, grad_output, options)
    # The last one stays empty where there is no reference.
    actual = actual[: len(expected)]
    tolerance = TOLERANCES[case.tensors[0].dtype]
    assert_same([x.double() for x in actual], expected, tolerance)


def _guarded_arguments(case: Case, options: Options) -> Sequence[object]:
    value, *others = case.operator_arguments()
    return (
        _guarded(value, options.shift),
        *(_guarded(x) if isinstance(x, Tensor) else x for x in others),
    )


def _guarded(tensor: Tensor, shift: int = 0) -> Tensor:
    """A copy between two guards that read as NaN; what is not contiguous stays as it is."""
    if not tensor.is_contiguous():
        return tensor
    first = _GUARD + shift
    memory = torch.full((first + tensor.numel() + _GUARD,), float("nan"), dtype=tensor.dtype)
    copy = memory[first : first + tensor.numel()].view(tensor.shape)
    return copy.copy_(tensor)

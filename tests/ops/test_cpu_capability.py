"""The kernels for other instruction sets than the best one that this processor has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from piip_d2.ops import has_extension

ROOT = Path(__file__).resolve().parents[2]
# Errors relative to the largest right value, for sums of 16 rounded products.
TOLERANCES = {
    "float64": 1e-12,
    "float32": 1e-5,
    "bfloat16": 2**-7,
    "float16": 2**-9,
}

# Run in a process of its own, since the choice is made once. Prints the largest error of the output
# and of every gradient by type and head width.
SCRIPT = """
import json
import torch
from piip_d2.ops import ms_deform_attn_fused
from piip_d2.ops.reference import ms_deform_attn_fused_reference

def run(function, tensors, shapes, gradient):
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    output = function(leaves[0], shapes, leaves[1], leaves[2], reference_points=leaves[3])
    return [output, *torch.autograd.grad(output, leaves, gradient)]

torch.manual_seed(0)
errors = {}
for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
    compute = torch.promote_types(dtype, torch.float32)
    for width in (1, 5, 6, 12, 24, 40, 100):
        for shapes, points in ([(5, 7)], 4), ([(4, 3), (1, 1), (6, 2)], 3):
            size = sum(h * w for h, w in shapes)
            value = torch.randn(2, size, 3, width).to(dtype)
            offsets = torch.randn(2, 11, 3, len(shapes), points, 2, dtype=compute) * 2
            logits = torch.randn(2, 11, 3, len(shapes), points, dtype=compute)
            reference = torch.rand(2, 11, len(shapes), 2, dtype=compute)
            tensors = (value, offsets, logits, reference)
            gradient = torch.randn(2, 11, 3 * width).to(dtype)
            results = run(ms_deform_attn_fused, tensors, shapes, gradient)
            wide = [x.double() for x in tensors]
            right = run(ms_deform_attn_fused_reference, wide, shapes, gradient.double())
            for result, expected in zip(results, right, strict=True):
                error = (result.double() - expected).abs().max() / expected.abs().max()
                name = str(dtype).removeprefix("torch.")
                errors[name] = max(errors.get(name, 0.0), error.item())
print(json.dumps({"capability": torch.ops.piip_d2.cpu_capability(), "errors": errors}))
"""


@pytest.mark.skipif(not has_extension(), reason="the compiled operators are not installed")
@pytest.mark.parametrize("capability", ["avx2", "portable"])
def test_other_instruction_sets(capability: str) -> None:
    report = _run(capability)
    if report["capability"] != capability:
        pytest.skip(f"this processor has no {capability}")
    for name, error in report["errors"].items():
        assert error <= TOLERANCES[name], name


@pytest.mark.skipif(not has_extension(), reason="the compiled operators are not installed")
def test_the_best_instruction_set_is_the_default() -> None:
    best = torch.ops.piip_d2.cpu_capability()
    names = {"AVX512": "avx512", "AVX2": "avx2"}
    if "PIIP_D2_CPU_CAPABILITY" not in os.environ:
        assert best == names.get(torch.backends.cpu.get_cpu_capability(), "portable")


def _run(capability: str) -> dict[str, Any]:
    environment = os.environ | {"PIIP_D2_CPU_CAPABILITY": capability, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(process.stdout)

"""Refuses to time what computes something else."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.msda.implementations import Implementation, prepare
from benchmarks.msda.problems import Problem
from piip_d2.ops.reference import ms_deform_attn_reference

# Largest error that is let through, as a share of the largest number of the right result. Inputs
# are the same to the last bit, so these are for rounding of results and of intermediate sums.
TOLERANCES = {torch.float32: 5e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}

# What each form of the operator is differentiated by.
_GRADIENTS = {
    "plain": ("grad_value", "grad_locations", "grad_weights"),
    "fused": ("grad_value", "grad_offsets", "grad_logits"),
}


def expected_results(problem: Problem) -> dict[str, Tensor]:
    """Output and all gradients of both forms, computed in float64.

    Locations are those of the fused form in float64; the rounded ones of the plain form differ
    from them by a millionth of a pixel.
    """
    exact = problem.to(torch.float64, problem.value.device)
    value = exact.value.requires_grad_()
    offsets = problem.offsets.double().requires_grad_()
    logits = problem.logits.double().requires_grad_()
    locations, weights = prepare(problem, offsets, logits)
    output = ms_deform_attn_reference(value, problem.shape.levels, locations, weights)
    names = ("grad_value", "grad_offsets", "grad_logits", "grad_locations", "grad_weights")
    leaves = (value, offsets, logits, locations, weights)
    gradients = torch.autograd.grad(output, leaves, exact.grad_output)
    return {"output": output.detach(), **dict(zip(names, gradients, strict=True))}


def errors(
    implementation: Implementation, problem: Problem, expected: Mapping[str, Tensor]
) -> dict[str, float]:
    """Largest errors of output and gradients, as shares of the largest right number.

    Args:
        implementation: What is tested.
        problem: Its inputs.
        expected: From :func:`expected_results` for the same problem.

    Returns:
        By the name of the result.
    """
    leaves = [x.detach().requires_grad_() for x in implementation.inputs(problem)]
    output = implementation.operator(*leaves)
    gradients = torch.autograd.grad(output, leaves, problem.grad_output)
    names = ("output", *_GRADIENTS[implementation.form])
    results = zip(names, (output.detach(), *gradients), strict=True)
    return {name: relative_error(result, expected[name]) for name, result in results}


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Largest error as a share of the largest number; infinite where shapes differ."""
    if result.shape != expected.shape:
        return float("inf")
    scale = expected.abs().max()
    return float((result.double() - expected).abs().max() / scale)


def refusal(found: Mapping[str, float], tolerance: float) -> str | None:
    """Says what is wrong with an implementation of these errors.

    Args:
        found: Errors by the name of the result.
        tolerance: Largest error that is let through.

    Returns:
        A sentence, or None if nothing is wrong.
    """
    # Not "error > tolerance", which NaN would pass.
    wrong = [f"{name} {error:.1e}" for name, error in found.items() if not error <= tolerance]
    if not wrong:
        return None
    return f"relative error above {tolerance:.0e}: {', '.join(wrong)}"


def check(
    implementation: Implementation,
    problem: Problem,
    expected: Mapping[str, Tensor],
    tolerance: float,
) -> tuple[dict[str, float], str | None]:
    """Finds out whether an implementation may be timed.

    Args:
        implementation: What is tested.
        problem: Its inputs.
        expected: From :func:`expected_results` for the same problem.
        tolerance: Largest error that is let through.

    Returns:
        Its errors, and what is wrong with it, or None if nothing is.
    """
    try:
        found = errors(implementation, problem, expected)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        # Other packages refuse some widths and types; that is a result, too.
        return {}, f"{type(error).__name__}: {error}".splitlines()[0]
    return found, refusal(found, tolerance)

"""Measures one shape: all implementations, data types and directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.msda.accuracy import TOLERANCES, check, expected_results, relative_error
from benchmarks.msda.ceiling import GatherCeiling
from benchmarks.msda.implementations import Implementation, bind
from benchmarks.msda.problems import Problem, Shape, make_problem
from benchmarks.msda.summary import CEILING
from benchmarks.msda.timing import Call, Clock, Settings, Timing, time_in_turns

FORWARD, BOTH = "forward", "forward_backward"
# A launch of a graph takes as long as the smallest calls, hence several in one.
_CALLS_PER_GRAPH = 10


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure on each shape.

    Args:
        implementations: Names.
        dtypes: Types of the value; float32 brings the gather ceiling along, on a CPU.
        directions: Of :data:`FORWARD` and :data:`BOTH`.
        device: Where.
        uniform: Whether samples lie anywhere, instead of near their queries.
        with_ceiling: Whether to measure gathering alone.
        tolerance: Largest relative error let through, instead of the one for the type.
    """

    implementations: Sequence[str]
    dtypes: Sequence[torch.dtype]
    directions: Sequence[str]
    device: torch.device
    uniform: bool = False
    with_ceiling: bool = True
    tolerance: float | None = None


@dataclasses.dataclass(frozen=True)
class ShapeResult:
    """What came out for one shape; all by data type, then by implementation.

    Args:
        errors: Relative errors by the name of the result.
        refused: Why something was not timed.
        timings: By direction, data type and implementation.
    """

    errors: dict[str, dict[str, dict[str, float]]]
    refused: dict[str, dict[str, str]]
    timings: dict[str, dict[str, dict[str, Timing]]]


def measure_shape(shape: Shape, plan: Plan, clock: Clock, settings: Settings) -> ShapeResult:
    """Checks everything first, then times what is right, all data types in turns.

    Args:
        shape: Sizes.
        plan: What to measure.
        clock: Measures.
        settings: How carefully.

    Returns:
        What was found, also about what was refused.
    """
    original = make_problem(shape, uniform=plan.uniform)
    result = ShapeResult({}, {}, {direction: {} for direction in plan.directions})
    calls: dict[str, dict[tuple[str, str], Call]] = {name: {} for name in plan.directions}
    for dtype in plan.dtypes:
        problem = original.to(dtype, plan.device)
        dtype_name = str(dtype).removeprefix("torch.")
        expected = expected_results(problem)
        right = _check_all(problem, expected, plan, result, dtype_name)
        for direction in plan.directions:
            result.timings[direction][dtype_name] = {}
            for implementation in right:
                call = _make_call(implementation, problem, direction)
                calls[direction][dtype_name, implementation.name] = call
        if _wants_ceiling(plan, dtype):
            calls[FORWARD][dtype_name, CEILING] = Call(
                _checked_ceiling(problem, expected["output"])
            )
    for direction in plan.directions:
        for (dtype_name, name), timing in time_in_turns(calls[direction], clock, settings).items():
            result.timings[direction][dtype_name][name] = timing
    return result


def _wants_ceiling(plan: Plan, dtype: torch.dtype) -> bool:
    is_measurable = plan.device.type == "cpu" and dtype == torch.float32
    return plan.with_ceiling and is_measurable and FORWARD in plan.directions


def _check_all(
    problem: Problem,
    expected: Mapping[str, Tensor],
    plan: Plan,
    result: ShapeResult,
    dtype_name: str,
) -> list[Implementation]:
    """Returns the implementations that are right, and notes what there is to say of all."""
    tolerance = plan.tolerance or TOLERANCES[problem.value.dtype]
    right = []
    result.errors[dtype_name], result.refused[dtype_name] = {}, {}
    for implementation in bind(plan.implementations, problem):
        errors, complaint = check(implementation, problem, expected, tolerance)
        result.errors[dtype_name][implementation.name] = errors
        if complaint is None:
            right.append(implementation)
        else:
            result.refused[dtype_name][implementation.name] = complaint
    return right


def _checked_ceiling(problem: Problem, expected: Tensor) -> GatherCeiling:
    ceiling = GatherCeiling(problem)
    error = relative_error(ceiling(), expected)
    if not error <= TOLERANCES[torch.float32]:
        raise RuntimeError(f"the gather ceiling computes something else: relative error {error}")
    return ceiling


def _make_call(implementation: Implementation, problem: Problem, direction: str) -> Call:
    function = _function(implementation, problem, direction)
    if problem.value.is_cuda:
        return _graphed(function)
    return Call(function)


def _function(
    implementation: Implementation, problem: Problem, direction: str
) -> Callable[[], object]:
    operator, inputs = implementation.operator, implementation.inputs(problem)
    if direction == FORWARD:

        def forward() -> object:
            with torch.no_grad():
                return operator(*inputs)

        return forward

    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def both() -> object:
        return torch.autograd.grad(operator(*leaves), leaves, problem.grad_output)

    return both


def _graphed(function: Callable[[], object]) -> Call:
    """Captures calls in a CUDA graph, so that the work is timed and not Python."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for _ in range(_CALLS_PER_GRAPH):
                function()
    except RuntimeError:
        # Some packages wait for the GPU within a call, which no graph can hold.
        torch.cuda.synchronize()
        return Call(function)
    return Call(graph.replay, times=_CALLS_PER_GRAPH)

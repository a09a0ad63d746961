"""Times multi-scale deformable attention on few shapes, as rows of the common schema.

python -m benchmarks.operator_speed --output benchmarks/results/cpu.json

The measuring is that of benchmarks/ms_deform_attn.py, which has all shapes, and other packages.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from benchmarks.command import add_common_options, command_line, device_of, start
from benchmarks.msda.implementations import FUSED, GRID_SAMPLE, PLAIN, WITH_PREPARATION
from benchmarks.msda.problems import POINTS, SHAPES, Shape
from benchmarks.msda.study import BOTH, FORWARD, Plan, ShapeResult, measure_shape
from benchmarks.msda.timing import Clock, CpuClock, CudaClock, Settings, Timing
from benchmarks.rows import INFERENCE, TRAINING, Results, Row, timing_fields
from benchmarks.suite import Deadline

SUITE = "operator"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# A call of PIIP with heads of 32 channels, calls of its released models, and DINO's encoder.
_SHAPES = ("A", "E", "P4", "P2")
_IMPLEMENTATIONS = (GRID_SAMPLE, PLAIN, FUSED, GRID_SAMPLE + WITH_PREPARATION)
_BASELINES = {
    PLAIN: GRID_SAMPLE,
    GRID_SAMPLE: GRID_SAMPLE,
    FUSED: GRID_SAMPLE + WITH_PREPARATION,
    GRID_SAMPLE + WITH_PREPARATION: GRID_SAMPLE + WITH_PREPARATION,
}
_MODES = {FORWARD: INFERENCE, BOTH: TRAINING}
_SETTINGS = Settings(samples=5, sample_ms=30.0, tries=2)
_TINY_SETTINGS = Settings(samples=2, sample_ms=0.1, tries=1)
_TINY_SHAPE = Shape(((5, 4), (3, 2)), (3, 5), heads=2, width=6)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and writes what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for all of it")
    args = parser.parse_args(argv)
    results, run = start(args, SUITE, command_line("benchmarks.operator_speed", argv))
    measure_operator(results, run, device_of(args), Deadline(args.budget), tiny=args.tiny)


def measure_operator(
    results: Results,
    run: dict[str, Any],
    device: torch.device,
    deadline: Deadline,
    *,
    tiny: bool = False,
) -> None:
    """Measures the operator on all shapes for which time is left.

    Args:
        results: Where rows go.
        run: As from :func:`benchmarks.rows.describe_run`.
        device: The device.
        deadline: When no further shape is begun.
        tiny: Whether to try one shape that says nothing.
    """
    plan = Plan(
        implementations=_IMPLEMENTATIONS,
        dtypes=list(_DTYPES.values()),
        directions=(FORWARD, BOTH),
        device=device,
        with_ceiling=False,
    )
    clock: Clock = CudaClock() if device.type == "cuda" else CpuClock()
    shapes = {"tiny": _TINY_SHAPE} if tiny else {name: SHAPES[name] for name in _SHAPES}
    for name, shape in shapes.items():
        if results.has((SUITE, f"shape {name}", PLAIN, "bfloat16", TRAINING)):
            continue
        if deadline.left < 1:
            results.leave_out(SUITE, f"shape {name}", "no time was left")
            continue
        print(f"operator on shape {name}", file=sys.stderr, flush=True)
        settings = _TINY_SETTINGS if tiny else _SETTINGS
        result = measure_shape(shape, plan, clock, settings)
        for row in as_rows(name, shape, result):
            results.add(row, run)
        for dtype, reasons in result.refused.items():
            for implementation, why in reasons.items():
                results.leave_out(SUITE, f"shape {name}, {implementation}, {dtype}", why)


def as_rows(name: str, shape: Shape, result: ShapeResult) -> Iterator[Row]:
    """The rows of a shape.

    Args:
        name: Of the shape.
        shape: Its sizes.
        result: What was measured.

    Yields:
        A row per direction, type and implementation.
    """
    for direction, by_dtype in result.timings.items():
        for dtype, timings in by_dtype.items():
            for implementation, timing in timings.items():
                yield _row(name, shape, implementation, dtype, direction, timing)


def _row(
    name: str, shape: Shape, implementation: str, dtype: str, direction: str, timing: Timing
) -> Row:
    width = _DTYPES[dtype].itemsize
    plain_forward = direction == FORWARD and implementation in (PLAIN, FUSED)
    return Row(
        suite=SUITE,
        name=f"shape {name}",
        variant=implementation,
        dtype=dtype,
        mode=_MODES[direction],
        **timing_fields(timing),
        batch_size=shape.batch,
        moved_bytes=_needed_bytes(shape, width) if plain_forward else None,
        baseline=(f"shape {name}", _BASELINES[implementation]),
        ceiling="memory" if plain_forward else None,
        note=str(dataclasses.asdict(shape)),
    )


def _needed_bytes(shape: Shape, width: int) -> float:
    """Bytes that have to be read and written once: value, offsets, weights and output."""
    cells = sum(rows * columns for rows, columns in shape.levels)
    if isinstance(shape.queries, tuple):
        queries = shape.queries[0] * shape.queries[1]
    else:
        queries = cells if shape.queries is None else shape.queries
    samples = queries * shape.heads * len(shape.levels) * POINTS
    numbers = (cells + queries) * shape.heads * shape.width
    # Three float32 numbers per sample: two of its place, and its weight.
    return float(shape.batch * (numbers * width + samples * 3 * 4))


if __name__ == "__main__":
    main()

"""Measures one GPU in less than nine minutes: ceilings, operator, backbones and whole detectors.

python -m benchmarks.gpu --output benchmarks/results/gpu.json

Rows are written as they are measured. What finds no time is listed in the file; the same command
with --resume measures it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.backbone_speed import SUITE as BACKBONE
from benchmarks.ceilings import measure_ceilings
from benchmarks.command import add_common_options, command_line, device_of, start
from benchmarks.gpu.plan import ahead_of_time, plan_groups
from benchmarks.operator_speed import SUITE as OPERATOR
from benchmarks.operator_speed import measure_operator
from benchmarks.rows import CEILINGS, Results
from benchmarks.suite import Deadline, measure_in_process, run_tasks
from benchmarks.worker import DETECTORS, Task

_SUITES = (CEILINGS, OPERATOR, BACKBONE, DETECTORS)
# Shares of the budget: for the operator at most, and for compiling ahead.
_OPERATOR_SHARE, _AHEAD_SHARE = 0.06, 0.28


def main(argv: Sequence[str] | None = None) -> None:
    """Measures all that the budget allows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    parser.set_defaults(output=Path("benchmarks") / "results" / "gpu.json")
    parser.add_argument("--budget", type=float, default=510.0, help="seconds for all of it")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for one process")
    parser.add_argument(
        "--ahead", type=int, default=8, help="processes that compile at a time; 0 for none"
    )
    parser.add_argument("--variants", nargs="+", default=(), help="instead of all of them")
    args = parser.parse_args(argv)
    deadline = Deadline(args.budget)
    command = command_line("benchmarks.gpu", argv)
    for suite in _SUITES:
        results, run = start(args, suite, command)
        results.write()
    groups = list(plan_groups(args.device, args.threads, args.variants, tiny=args.tiny))
    if args.ahead:
        _compile_ahead(groups, results, args.ahead, _AHEAD_SHARE * args.budget)
    device = device_of(args)
    measure_ceilings(results, run, device, tiny=args.tiny)
    operator_time = min(_OPERATOR_SHARE * args.budget, deadline.left)
    measure_operator(results, run, device, Deadline(operator_time), tiny=args.tiny)
    # The memory is for the processes that follow.
    torch.cuda.empty_cache()
    run_tasks(groups, results, run, deadline, limit_s=args.limit)


def _compile_ahead(
    groups: Sequence[Sequence[Task]], results: Results, num_processes: int, seconds: float
) -> None:
    """Fills the compilers' caches, which later processes read; failures show themselves there."""
    deadline = Deadline(seconds)
    missing = [
        task
        for task in ahead_of_time(groups)
        if not all(results.has(task.key(variant)) for variant in task.variants)
    ]

    def call_once(task: Task) -> list[Any]:
        try:
            return list(measure_in_process([task], deadline.left)) if deadline.left > 1 else []
        except RuntimeError as error:
            return [(task.name, str(error))]

    with ThreadPoolExecutor(num_processes) as pool:
        for task, found in zip(missing, pool.map(call_once, missing), strict=True):
            failures = [entry for entry in found if isinstance(entry, tuple)]
            print(f"compiled ahead: {task.name}, {task.mode}, {task.dtype} {failures or ''}")


if __name__ == "__main__":
    main()

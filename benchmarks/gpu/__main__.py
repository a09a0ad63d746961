"""Measures one GPU in less than nine minutes: ceilings, operator, backbones and whole detectors.

python -m benchmarks.gpu --output benchmarks/results/gpu.json

Rows are written as they are measured. What finds no time is listed in the file; the same command
with --resume measures it.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.backbone_speed import SUITE as BACKBONE
from benchmarks.ceilings import measure_ceilings
from benchmarks.command import add_common_options, command_line, device_of, start
from benchmarks.gpu.plan import PLAN, ahead_of_time, plan_groups, with_flop
from benchmarks.operator_speed import SUITE as OPERATOR
from benchmarks.operator_speed import measure_operator
from benchmarks.rows import CEILINGS, Results, Row
from benchmarks.suite import Deadline, measure_in_process, run_tasks
from benchmarks.worker import DETECTORS, Task

_SUITES = (CEILINGS, OPERATOR, BACKBONE, DETECTORS)
# Shares of the budget: for the operator at most, and for compiling ahead.
_OPERATOR_SHARE, _AHEAD_SHARE = 0.06, 0.3


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
        "--ahead", type=int, default=5, help="processes that compile at a time; 0 for none"
    )
    known = sorted({x for group in PLAN for *_, variants in group for x in variants})
    parser.add_argument(
        "--variants", nargs="+", choices=known, default=(), help="instead of all of them"
    )
    args = parser.parse_args(argv)
    device = device_of(args)
    if device.type != "cuda" and not args.tiny:
        parser.error(
            f"full sizes need a GPU, but the device is {args.device}; name one with --device, or "
            "try the program with --tiny"
        )
    deadline = Deadline(args.budget)
    command = command_line("benchmarks.gpu", argv)
    for suite in _SUITES:
        results, run = start(args, suite, command)
        results.write()
    groups = list(plan_groups(args.device, args.threads, args.variants, tiny=args.tiny))
    groups = _count_and_compile(groups, results, args.ahead, _AHEAD_SHARE * args.budget)
    measure_ceilings(results, run, device, tiny=args.tiny)
    operator_time = min(_OPERATOR_SHARE * args.budget, deadline.left)
    measure_operator(results, run, device, Deadline(operator_time), tiny=args.tiny)
    # The memory is for the processes that follow.
    torch.cuda.empty_cache()
    run_tasks(groups, results, run, deadline, limit_s=args.limit)


def _count_and_compile(
    groups: Sequence[Sequence[Task]], results: Results, num_processes: int, seconds: float
) -> list[list[Task]]:
    """Counts operations while other processes fill the compilers' caches, which later ones read."""
    missing = [
        [
            task
            for task in tasks
            if not all(results.has(task.key(variant)) for variant in task.variants)
        ]
        for tasks in (ahead_of_time(groups) if num_processes else [])
    ]
    deadline = Deadline(seconds)
    threads = max(1, (os.cpu_count() or 1) // max(1, num_processes))
    with ThreadPoolExecutor(max(1, num_processes)) as pool:
        compile_ahead = functools.partial(_compile_ahead, deadline=deadline, threads=threads)
        done = pool.map(compile_ahead, [tasks for tasks in missing if tasks])
        counted = [[with_flop(task) for task in tasks] for tasks in groups]
        for lines in done:
            print(*lines, sep="\n", flush=True)
    return counted


def _compile_ahead(tasks: Sequence[Task], *, deadline: Deadline, threads: int) -> list[str]:
    """Calls tasks once, and says what came of it; failures show themselves again in the rows."""
    lines = []
    try:
        if deadline.left > 1:
            for found in measure_in_process(tasks, deadline.left, compile_threads=threads):
                key, why = (found.key, "done") if isinstance(found, Row) else found
                lines.append(f"compiled ahead: {', '.join(key)}: {why}")
    except RuntimeError as error:
        lines.append(f"compiled ahead: {tasks[0].network}: {error}")
    return lines or [f"compiled ahead: {tasks[0].network}: no time was left"]


if __name__ == "__main__":
    main()

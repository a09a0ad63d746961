#!/usr/bin/env python
"""Times multi-scale deformable attention beside what else computes it, and reports ratios.

python benchmarks/ms_deform_attn.py --json benchmarks/results/ms_deform_attn.json

Everything has to pass a check against float64 first. All implementations take turns in random
order in one process; a sample counts only if other processes left the machine alone meanwhile.
Other packages take part if they are installed:

pip install --no-build-isolation torch-ms-deform-attn==0.1.1
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# For when this file is run by its path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.msda.gpu_floor import measure_gpu_floor
from benchmarks.msda.implementations import default_names
from benchmarks.msda.machine import describe
from benchmarks.msda.problems import SHAPES
from benchmarks.msda.report import as_json, as_text
from benchmarks.msda.study import BOTH, FORWARD, Plan, measure_shape
from benchmarks.msda.timing import Clock, CpuClock, CudaClock, Settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the comparison that the command line asks for, and writes it where that is said."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    report = run(args)
    print(as_text(report))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures what the command line asks for.

    Args:
        args: Of the command line.

    Returns:
        The report; see :func:`benchmarks.msda.report.as_json`.
    """
    device = torch.device(args.device)
    clock: Clock = CudaClock() if device.type == "cuda" else CpuClock()
    plan = Plan(
        implementations=args.implementations or default_names(device),
        dtypes=[DTYPES[name] for name in args.dtypes],
        directions=args.directions,
        device=device,
        uniform=args.locations == "uniform",
        with_ceiling=not args.without_ceiling,
        tolerance=args.tolerance,
    )
    settings = Settings(args.samples, args.sample_ms, args.max_others, args.tries)
    results = {}
    for name in args.shapes:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        results[name] = measure_shape(SHAPES[name], plan, clock, settings)
    report = {
        **describe(device),
        "locations": args.locations,
        "samples": args.samples,
        "sample_ms": args.sample_ms,
        "max_others": args.max_others,
        "load_source": str(clock.load.source) if isinstance(clock, CpuClock) else None,
        **as_json(results),
    }
    if args.gpu_floor:
        report["gpu_floor"] = measure_gpu_floor({name: SHAPES[name] for name in args.shapes})
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    add("--implementations", nargs="+", metavar="NAME", help="instead of all that can run here")
    add("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"], metavar="DTYPE")
    add("--directions", nargs="+", choices=(FORWARD, BOTH), default=(FORWARD, BOTH))
    add("--locations", choices=("local", "uniform"), default="local")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1), help="on a CPU")
    add("--samples", type=int, default=9, help="per implementation")
    add("--sample-ms", type=float, default=60.0, help="shortest sample in milliseconds")
    add("--max-others", type=float, default=0.08, help="cores that other processes may take")
    add("--tries", type=int, default=5, help="rounds per wanted sample, before disturbed ones do")
    add("--tolerance", type=float, help="largest relative error, instead of the data type's own")
    add("--without-ceiling", action="store_true", help="leave out gathering alone")
    add("--gpu-floor", action="store_true", help="measure what the GPU's memory paths can do")
    add("--json", type=Path, metavar="FILE", help="where to write all results")
    return parser


if __name__ == "__main__":
    main()

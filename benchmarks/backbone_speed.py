"""Times PIIP-TSB beside a ViT-B with windows, and both beside what the processor can do.

python -m benchmarks.backbone_speed --output benchmarks/results/cpu.json

Every variant runs in a process of its own, so that its peak of memory is its own. Weights are
random; times do not depend on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from benchmarks.ceilings import measure_ceilings
from benchmarks.command import add_common_options, command_line, device_of, start
from benchmarks.costs import count_flop
from benchmarks.networks import BASELINE, COMPILED, EAGER, NAIVE, NARROW
from benchmarks.rows import CEILINGS, INFERENCE, TRAINING
from benchmarks.suite import Deadline, run_tasks
from benchmarks.worker import Task

SUITE = "backbone"
PYRAMID = "piip_tsb_1120_896_448"
CHECKPOINTED_BLOCK = "checkpointed block"
_FP32, _BF16 = "float32", "bfloat16"

# Network, mode, type, variant; the most important first, in case that time runs out. Compilers take
# minutes on two cores, and more for training.
PLAN = (
    (PYRAMID, INFERENCE, _FP32, EAGER),
    (PYRAMID, TRAINING, _FP32, EAGER),
    (PYRAMID, INFERENCE, _BF16, EAGER),
    (PYRAMID, INFERENCE, _BF16, NARROW),
    (BASELINE, INFERENCE, _FP32, EAGER),
    (PYRAMID, TRAINING, _BF16, EAGER),
    (PYRAMID, TRAINING, _FP32, CHECKPOINTED_BLOCK),
    (PYRAMID, INFERENCE, _FP32, COMPILED),
    (BASELINE, INFERENCE, _BF16, EAGER),
    (BASELINE, TRAINING, _FP32, EAGER),
    (PYRAMID, INFERENCE, _FP32, NAIVE),
    (BASELINE, TRAINING, _BF16, EAGER),
    (PYRAMID, INFERENCE, _BF16, COMPILED),
    (PYRAMID, TRAINING, _FP32, NAIVE),
    (PYRAMID, TRAINING, _FP32, COMPILED),
    (PYRAMID, TRAINING, _BF16, COMPILED),
)
_PATIENCE = {
    INFERENCE: {"samples": 5, "at_least": 3, "seconds": 12.0},
    TRAINING: {"samples": 3, "at_least": 2, "seconds": 20.0},
}
_TINY_PATIENCE = {"samples": 2, "at_least": 1, "seconds": 0.1, "sample_s": 0.0}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    variants = list(dict.fromkeys(entry[3] for entry in PLAN))
    parser.add_argument("--variants", nargs="+", choices=variants, default=variants)
    parser.add_argument("--modes", nargs="+", choices=(INFERENCE, TRAINING))
    parser.add_argument("--dtypes", nargs="+", choices=(_FP32, _BF16))
    parser.add_argument("--budget", type=float, default=1800.0, help="seconds for all of it")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one process")
    args = parser.parse_args(argv)
    results, run = start(args, SUITE, command_line("benchmarks.backbone_speed", argv))
    deadline = Deadline(args.budget)
    # Those of the same device, threads and versions stay as they are.
    results.start(CEILINGS, run, resume=True)
    measure_ceilings(results, run, device_of(args), tiny=args.tiny)
    groups = ([task] for task in plan_tasks(args))
    run_tasks(groups, results, run, deadline, limit_s=args.limit)


def plan_tasks(args: argparse.Namespace) -> Iterator[Task]:
    """The tasks that a command line asks for, the most important ones first."""
    for network, mode, dtype, variant in PLAN:
        wanted = variant in args.variants
        wanted = wanted and mode in (args.modes or (mode,)) and dtype in (args.dtypes or (dtype,))
        if wanted:
            yield Task(
                suite=SUITE,
                network=network,
                mode=mode,
                dtype=dtype,
                variants=(variant,),
                device=args.device,
                threads=args.threads,
                flop=count_flop(network, mode, whole_detector=False, tiny=args.tiny),
                baseline=(BASELINE, EAGER),
                patience=_TINY_PATIENCE if args.tiny else _PATIENCE[mode],
                tiny=args.tiny,
            )


if __name__ == "__main__":
    main()

"""What is measured on a GPU, the most important first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from benchmarks.backbone_speed import SUITE as BACKBONE
from benchmarks.costs import count_flop
from benchmarks.networks import BASELINE, COMPILED, EAGER, GRAPHS, NAIVE
from benchmarks.rows import INFERENCE, TRAINING
from benchmarks.worker import DETECTORS, Task

_TSB_1120, _DINO = "piip_tsb_1120_896_448", "dino_piip_tsb_1120_896_448"
_TSB_1568, _SBL_1568 = "piip_tsb_1568_1120_672", "piip_sbl_1568_1120_672"
_FP32, _BF16 = "float32", "bfloat16"
_OURS = (EAGER, COMPILED, GRAPHS)
# Images per step; the published recipe has 16 on 8 GPUs.
_BATCH_SIZES = {INFERENCE: 1, TRAINING: 2}
_PATIENCE = {
    **{"samples": 9, "at_least": 3, "seconds": 3.0, "sample_s": 0.2},
    "always_warm_up": True,
}
_TINY_PATIENCE = {"samples": 1, "at_least": 1, "seconds": 0.1, "sample_s": 0.0}

# Every group shares a process: (suite, network, mode, type, variants) each.
PLAN = (
    ((DETECTORS, _SBL_1568, TRAINING, _BF16, (NAIVE,)),
     (DETECTORS, _TSB_1568, TRAINING, _BF16, (NAIVE,)),
     (BACKBONE, _SBL_1568, TRAINING, _BF16, (NAIVE,)),
     (BACKBONE, _TSB_1568, TRAINING, _BF16, (NAIVE,))),
    ((DETECTORS, _SBL_1568, TRAINING, _BF16, (EAGER, COMPILED)),
     (BACKBONE, _SBL_1568, TRAINING, _BF16, (EAGER, COMPILED))),
    ((DETECTORS, _TSB_1568, TRAINING, _BF16, (EAGER, COMPILED)),
     (BACKBONE, _TSB_1568, TRAINING, _BF16, (EAGER, COMPILED))),
    ((DETECTORS, BASELINE, INFERENCE, _BF16, _OURS),
     (BACKBONE, BASELINE, INFERENCE, _BF16, _OURS)),
    ((DETECTORS, _TSB_1120, INFERENCE, _BF16, _OURS),
     (BACKBONE, _TSB_1120, INFERENCE, _BF16, _OURS)),
    ((DETECTORS, _TSB_1568, TRAINING, _BF16, (GRAPHS,)),
     (BACKBONE, _TSB_1568, TRAINING, _BF16, (GRAPHS,)),
     (DETECTORS, _SBL_1568, TRAINING, _BF16, (GRAPHS,)),
     (BACKBONE, _SBL_1568, TRAINING, _BF16, (GRAPHS,))),
    ((DETECTORS, _TSB_1568, INFERENCE, _BF16, (EAGER, COMPILED)),
     (DETECTORS, _SBL_1568, INFERENCE, _BF16, (EAGER,))),
    ((DETECTORS, BASELINE, TRAINING, _BF16, (EAGER, COMPILED)),
     (BACKBONE, BASELINE, TRAINING, _BF16, (EAGER, COMPILED))),
    ((DETECTORS, _TSB_1120, INFERENCE, _FP32, (EAGER, COMPILED)),
     (BACKBONE, _TSB_1120, INFERENCE, _FP32, (EAGER, COMPILED)),
     (DETECTORS, BASELINE, INFERENCE, _FP32, (EAGER, COMPILED)),
     (BACKBONE, BASELINE, INFERENCE, _FP32, (EAGER, COMPILED))),
    ((DETECTORS, _TSB_1568, TRAINING, _FP32, (EAGER,)),
     (BACKBONE, _TSB_1568, TRAINING, _FP32, (EAGER, COMPILED)),
     (DETECTORS, BASELINE, TRAINING, _FP32, (EAGER,)),
     (BACKBONE, BASELINE, TRAINING, _FP32, (EAGER,))),
    ((DETECTORS, _DINO, INFERENCE, _BF16, (EAGER, COMPILED)),
     (DETECTORS, _DINO, TRAINING, _BF16, (EAGER, COMPILED))),
    ((DETECTORS, _DINO, INFERENCE, _FP32, (EAGER,)),
     (DETECTORS, _DINO, TRAINING, _FP32, (EAGER,))),
)  # fmt: skip


def plan_groups(
    device: str, threads: int, only_variants: Sequence[str] = (), *, tiny: bool
) -> Iterator[list[Task]]:
    """The groups of tasks in their order.

    Args:
        device: Where they run.
        threads: On a CPU.
        only_variants: Those to measure; empty for all.
        tiny: Whether to shrink everything.

    Yields:
        Tasks that share a process, their operations not counted yet.
    """
    for group in PLAN:
        yield [
            Task(
                suite=suite,
                network=network,
                mode=mode,
                dtype=dtype,
                variants=tuple(x for x in variants if not only_variants or x in only_variants),
                device=device,
                threads=threads,
                batch_size=_BATCH_SIZES[mode],
                baseline=_baseline(network, mode, dtype),
                patience=_TINY_PATIENCE if tiny else _PATIENCE,
                tiny=tiny,
            )
            for suite, network, mode, dtype, variants in group
        ]


def with_flop(task: Task) -> Task:
    """A task with its operations counted, which takes seconds for every new network."""
    whole = task.suite == DETECTORS
    flop = count_flop(
        task.network, task.mode, whole_detector=whole, batch_size=task.batch_size, tiny=task.tiny
    )
    return dataclasses.replace(task, flop=flop)


def ahead_of_time(groups: Sequence[Sequence[Task]]) -> list[list[Task]]:
    """What to call once in a few processes at a time, so that compilers' results lie in a cache.

    Args:
        groups: As from :func:`plan_groups`.

    Returns:
        For each network the tasks of one process, so that the memory suffices, with what is planned
        first in front. They compile networks; detectors have the same networks in them.
    """
    found: dict[str, list[Task]] = {}
    for group in groups:
        for task in group:
            # DINO's network has other feature maps, and no task of its own.
            compiled = tuple(x for x in task.variants if x in (COMPILED, GRAPHS))
            if compiled and (task.suite == BACKBONE or task.network == _DINO):
                once = dataclasses.replace(task, variants=compiled, patience=_TINY_PATIENCE)
                found.setdefault(task.network, []).append(once)
    return list(found.values())


def _baseline(network: str, mode: str, dtype: str) -> tuple[str, str] | None:
    """The naive form where that is measured, and ViT-B for what has the same published cost."""
    naive = any(
        NAIVE in variants and (network, mode, dtype) == (name, its_mode, its_dtype)
        for group in PLAN
        for _, name, its_mode, its_dtype, variants in group
    )
    if naive:
        return network, NAIVE
    return (BASELINE, EAGER) if network in (BASELINE, _TSB_1120) else None

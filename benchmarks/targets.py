"""What this project wants to reach, and whether the measured rows do."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.networks import BASELINE, CHECKPOINTED, COMPILED, EAGER, GRAPHS, NAIVE, NARROW
from benchmarks.rows import INFERENCE, TRAINING, best_rate, same_run
from benchmarks.worker import DETECTORS, GROWTH

Rows = Sequence[Mapping[str, Any]]

_BACKBONE = "backbone"
_TSB_1120 = "piip_tsb_1120_896_448"
_TSB_1568, _SBL_1568 = "piip_tsb_1568_1120_672", "piip_sbl_1568_1120_672"
_FP32, _BF16 = "float32", "bfloat16"
_OURS = (EAGER, COMPILED, GRAPHS, NARROW)
# Operations of one forward pass of TSB 1120/896/448 up to the merge. The shares that are wanted
# were set with this number, which leaves out the feature maps, though their time is measured too.
STATED_FLOP = 614e9
# What the reference implementation takes at most, in GiB.
_REFERENCE_INFERENCE_GIB, _REFERENCE_TRAINING_GIB = 2.4, 8.2
# Growth counts as linear below this exponent of time over tokens, from this many pixels on.
_LINEAR, LARGE_SIDE = 1.1, 1024


@dataclasses.dataclass(frozen=True)
class Target:
    """Something to reach.

    Args:
        what: In words.
        reference: What the reference does, in words.
        file: Name of the results that say, "cpu" or "gpu".
        wanted: The number to reach.
        at_least: Whether more is better.
        unit: Of the number: "%", "GiB", "x" or nothing.
        value: Finds the number in the rows; None if it was not measured.
    """

    what: str
    reference: str
    file: str
    wanted: float
    at_least: bool
    unit: str
    value: Callable[[Rows], float | None]

    def verdict(self, rows: Rows) -> tuple[float | None, str]:
        """The number, and "reached", "missed" or "not measured"."""
        found = self.value(rows)
        if found is None:
            return None, "not measured"
        reached = found >= self.wanted if self.at_least else found <= self.wanted
        return found, "reached" if reached else "missed"


def fastest(
    rows: Rows, suite: str, name: str, mode: str, dtype: str, variants: Sequence[str] = _OURS
) -> Mapping[str, Any] | None:
    """The fastest of some variants, None if none was measured."""
    found = [
        row
        for row in rows
        if (row["suite"], row["name"], row["mode"], row["dtype"]) == (suite, name, mode, dtype)
        and row["variant"] in variants
    ]
    return min(found, key=lambda row: float(row["median_s"]), default=None)


def growth_exponent(rows: Rows, mode: str) -> float | None:
    """Exponent of time over tokens, fitted through all images that are large."""
    found = [
        row
        for row in rows
        if row["suite"] == GROWTH and row["mode"] == mode and row["image_size"][0] >= LARGE_SIDE
    ]
    if len(found) < 2:
        return None
    tokens = [math.log(row["tokens"]) for row in found]
    times = [math.log(row["median_s"]) for row in found]
    return statistics.linear_regression(tokens, times).slope


def _share(mode: str, dtype: str) -> Callable[[Rows], float | None]:
    def value(rows: Rows) -> float | None:
        row = fastest(rows, _BACKBONE, _TSB_1120, mode, dtype)
        ceiling = 0.0 if row is None else best_rate(rows, row, "arithmetic")
        if row is None or not ceiling:
            return None
        passes = 3 if mode == TRAINING else 1
        return 100 * passes * STATED_FLOP / float(row["median_s"]) / ceiling

    return value


def _memory(mode: str, *, checkpointed: bool = False) -> Callable[[Rows], float | None]:
    def value(rows: Rows) -> float | None:
        variants = sorted({row["variant"] for row in rows if CHECKPOINTED in row["variant"]})
        wanted = variants if checkpointed else (EAGER,)
        row = fastest(rows, _BACKBONE, _TSB_1120, mode, _FP32, wanted)
        return None if row is None else float(row["peak_memory_bytes"]) / 2**30

    return value


def _times_faster(suite: str, name: str, mode: str, other: tuple[str, Sequence[str]]) -> Any:
    def value(rows: Rows) -> float | None:
        ours = fastest(rows, suite, name, mode, _BF16)
        theirs = fastest(rows, suite, other[0], mode, _BF16, other[1])
        if ours is None or theirs is None or not same_run(ours, theirs):
            return None
        return float(theirs["median_s"]) / float(ours["median_s"])

    return value


def _rate_share(suite: str, name: str) -> Callable[[Rows], float | None]:
    def value(rows: Rows) -> float | None:
        row = fastest(rows, suite, name, TRAINING, _BF16)
        return None if row is None or "ceiling_share" not in row else 100 * row["ceiling_share"]

    return value


_CPU = "TSB 1120/896/448, backbone, batch 1, 2 threads"
TARGETS = (
    Target(f"{_CPU}, forward, float32: share of the ceiling", "40 %", "cpu", 73, True, "%",
           _share(INFERENCE, _FP32)),
    Target(f"{_CPU}, forward, float32: memory of the process", "2.4 GiB", "cpu",
           0.6 * _REFERENCE_INFERENCE_GIB, False, "GiB", _memory(INFERENCE)),
    Target(f"{_CPU}, forward, bfloat16 (with AMX): share of the ceiling", "", "cpu", 29, True, "%",
           _share(INFERENCE, _BF16)),
    Target(f"{_CPU}, forward and backward, float32: share of the ceiling", "37 %", "cpu", 68, True,
           "%", _share(TRAINING, _FP32)),
    Target(f"{_CPU}, forward and backward, float32: memory of the process", "8.2 GiB", "cpu",
           0.6 * _REFERENCE_TRAINING_GIB, False, "GiB", _memory(TRAINING)),
    Target("the same with activation checkpointing", "8.2 GiB", "cpu",
           0.35 * _REFERENCE_TRAINING_GIB, False, "GiB", _memory(TRAINING, checkpointed=True)),
    Target("time over tokens, windowed pyramid, inference: exponent from 1024 pixels on", "", "cpu",
           _LINEAR, False, "", lambda rows: growth_exponent(rows, INFERENCE)),
    Target("time over tokens, windowed pyramid, training: exponent from 1024 pixels on", "", "cpu",
           _LINEAR, False, "", lambda rows: growth_exponent(rows, TRAINING)),
    Target("GPU, bfloat16, Mask R-CNN TSB 1568/1120/672, training step: speed over naive", "1 x",
           "gpu", 1.6, True, "x", _times_faster(DETECTORS, _TSB_1568, TRAINING,
                                                (_TSB_1568, (NAIVE,)))),
    Target("GPU, bfloat16, Mask R-CNN SBL 1568/1120/672, training step: speed over naive", "1 x",
           "gpu", 1.6, True, "x", _times_faster(DETECTORS, _SBL_1568, TRAINING,
                                                (_SBL_1568, (NAIVE,)))),
    Target("the same, SBL: share of the matrix rate", "", "gpu", 45, True, "%",
           _rate_share(DETECTORS, _SBL_1568)),
    Target("the same, SBL, backbone alone: share of the matrix rate", "", "gpu", 45, True, "%",
           _rate_share(_BACKBONE, _SBL_1568)),
    Target("GPU, bfloat16, Mask R-CNN TSB 1120/896/448, batch 1: frame rate over ViT-B's at 1024",
           "1 x", "gpu", 1.5, True, "x", _times_faster(DETECTORS, _TSB_1120, INFERENCE,
                                                       (BASELINE, _OURS))),
)  # fmt: skip

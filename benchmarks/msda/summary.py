"""Ratios between what was measured, and their means over the shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.msda.implementations import (
    DEFORMOPS,
    FUSED,
    GRID_SAMPLE,
    PLAIN,
    TORCH_MSDA,
    WITH_PREPARATION,
)

CEILING = "gather ceiling"
# InternViT's heads of 100 channels are measured, but stay out of the means.
MEAN_SHAPES = ("A", "A2", "B", "C", "P1", "P2", "P3", "P4", "E", "D")

# What is divided by what, "slower / faster", so that more than 1 speaks for the second.
_RATIOS = (
    (GRID_SAMPLE, PLAIN),
    (TORCH_MSDA, PLAIN),
    (DEFORMOPS, PLAIN),
    (PLAIN + WITH_PREPARATION, FUSED),
    (GRID_SAMPLE + WITH_PREPARATION, FUSED),
    (TORCH_MSDA + WITH_PREPARATION, FUSED),
    (DEFORMOPS + WITH_PREPARATION, FUSED),
    (FUSED, PLAIN),
    (PLAIN, CEILING),
)

# Medians in milliseconds by shape and implementation.
Medians = Mapping[str, Mapping[str, float]]


def geometric_mean(numbers: Iterable[float]) -> float:
    """Geometric mean of positive numbers."""
    logarithms = [math.log(number) for number in numbers]
    if not logarithms:
        raise ValueError("the geometric mean needs at least one number, got none")
    return math.exp(sum(logarithms) / len(logarithms))


def ratios(medians: Medians) -> dict[str, dict[str, Any]]:
    """Ratios of all pairs that were measured on at least one shape.

    Args:
        medians: Of one direction (forward, or both) and one data type.

    Returns:
        By "slower / faster": the geometric mean over the shapes of the means, smallest and
        largest ratio with their shapes, and the ratio of every shape.
    """
    found = {}
    for numerator, denominator in _RATIOS:
        by_shape = {
            shape: times[numerator] / times[denominator]
            for shape, times in medians.items()
            if numerator in times and denominator in times
        }
        if by_shape:
            found[f"{numerator} / {denominator}"] = describe_ratios(by_shape)
    return found


def describe_ratios(by_shape: Mapping[str, float]) -> dict[str, Any]:
    """Mean, extremes and all of the ratios of one pair.

    Args:
        by_shape: Ratios; the mean is over :data:`MEAN_SHAPES`, or over all if none is among them.

    Returns:
        Numbers rounded to three decimals; the extremes with their shapes.
    """
    in_mean = [ratio for shape, ratio in by_shape.items() if shape in MEAN_SHAPES]
    smallest = min(by_shape, key=lambda shape: by_shape[shape])
    largest = max(by_shape, key=lambda shape: by_shape[shape])
    return {
        "geometric_mean": round(geometric_mean(in_mean or by_shape.values()), 3),
        "smallest": {"shape": smallest, "ratio": round(by_shape[smallest], 3)},
        "largest": {"shape": largest, "ratio": round(by_shape[largest], 3)},
        "by_shape": {shape: round(ratio, 3) for shape, ratio in by_shape.items()},
    }


def dtype_ratios(narrow: Medians, wide: Medians) -> dict[str, dict[str, Any]]:
    """Times with a narrower value in relation to those with a wider one, per implementation.

    Args:
        narrow: Medians with values of 16 bit.
        wide: Medians with values of 32 bit.

    Returns:
        By implementation, as from :func:`describe_ratios`.
    """
    names = sorted({name for times in narrow.values() for name in times})
    found = {}
    for name in names:
        by_shape = {
            shape: times[name] / wide[shape][name]
            for shape, times in narrow.items()
            if name in times and name in wide.get(shape, {})
        }
        if by_shape:
            found[name] = describe_ratios(by_shape)
    return found

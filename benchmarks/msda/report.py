"""The results as JSON and as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.msda.study import FORWARD, ShapeResult
from benchmarks.msda.summary import CEILING, Medians, dtype_ratios, ratios
from benchmarks.msda.timing import Timing

_DECIMALS = 4


def as_json(results: Mapping[str, ShapeResult]) -> dict[str, Any]:
    """All that was measured, and what follows from it.

    Args:
        results: By the name of the shape.

    Returns:
        "milliseconds" by direction, data type, shape and implementation; "ratios" by direction
        and data type; "float32_ratios" of other types by direction; "gather_ceiling_fraction" by
        shape and implementation; "errors" and "refused" by shape and data type.
    """
    medians = _medians(results)
    return {
        "ratios": {
            direction: {dtype: ratios(by_shape) for dtype, by_shape in by_dtype.items()}
            for direction, by_dtype in medians.items()
        },
        "float32_ratios": {
            direction: {
                dtype: dtype_ratios(by_shape, by_dtype["float32"])
                for dtype, by_shape in by_dtype.items()
                if dtype != "float32" and "float32" in by_dtype
            }
            for direction, by_dtype in medians.items()
        },
        "gather_ceiling_fraction": _ceiling_fractions(medians.get(FORWARD, {}).get("float32", {})),
        "milliseconds": _all_timings(results),
        "errors": {
            shape: _rounded_errors(result) for shape, result in results.items() if result.errors
        },
        "refused": {
            shape: {dtype: why for dtype, why in result.refused.items() if why}
            for shape, result in results.items()
            if any(result.refused.values())
        },
    }


def as_text(report: Mapping[str, Any]) -> str:
    """Tables of a report that holds what :func:`as_json` returns."""
    parts = []
    for direction, by_dtype in report["milliseconds"].items():
        for dtype, by_shape in by_dtype.items():
            parts.append(f"{direction}, {dtype}: median ms (quartiles; ! disturbed samples)")
            parts.append(_times_table(by_shape))
            parts.append(_ratio_table(report["ratios"][direction][dtype]))
        for dtype, found in report["float32_ratios"][direction].items():
            parts.append(f"{direction}: time with {dtype} / time with float32")
            parts.append(_ratio_table(found))
    for shape, by_dtype in report["refused"].items():
        for dtype, reasons in by_dtype.items():
            parts += [f"not timed: {name} on {shape}, {dtype}: {reasons[name]}" for name in reasons]
    return "\n\n".join(part for part in parts if part)


def format_table(rows: list[list[str]]) -> str:
    """Aligns columns; the first row is the heading, the first column the names."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def _medians(results: Mapping[str, ShapeResult]) -> dict[str, dict[str, dict[str, dict]]]:
    """Medians by direction, data type, shape and implementation."""
    found: dict[str, dict[str, dict[str, dict]]] = {}
    for shape, result in results.items():
        for direction, by_dtype in result.timings.items():
            for dtype, timings in by_dtype.items():
                times = {name: timing.median_ms for name, timing in timings.items()}
                found.setdefault(direction, {}).setdefault(dtype, {})[shape] = times
    return found


def _all_timings(results: Mapping[str, ShapeResult]) -> dict[str, dict[str, dict[str, dict]]]:
    found: dict[str, dict[str, dict[str, dict]]] = {}
    for shape, result in results.items():
        for direction, by_dtype in result.timings.items():
            for dtype, timings in by_dtype.items():
                described = {name: _timing(timing) for name, timing in timings.items()}
                found.setdefault(direction, {}).setdefault(dtype, {})[shape] = described
    return found


def _timing(timing: Timing) -> dict[str, Any]:
    described = dataclasses.asdict(timing)
    described["median_ms"] = round(timing.median_ms, _DECIMALS)
    described["quartiles_ms"] = [round(quartile, _DECIMALS) for quartile in timing.quartiles_ms]
    return described


def _rounded_errors(result: ShapeResult) -> dict[str, dict[str, dict[str, float]]]:
    return {
        dtype: {
            name: {what: float(f"{error:.1e}") for what, error in errors.items()}
            for name, errors in by_name.items()
        }
        for dtype, by_name in result.errors.items()
    }


def _ceiling_fractions(medians: Medians) -> dict[str, dict[str, float]]:
    """Speed of every implementation as a share of that of gathering alone."""
    return {
        shape: {
            name: round(times[CEILING] / time, 3) for name, time in times.items() if name != CEILING
        }
        for shape, times in medians.items()
        if CEILING in times
    }


def _times_table(by_shape: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    names = list(dict.fromkeys(name for times in by_shape.values() for name in times))
    rows = [["shape", *names]]
    for shape, times in by_shape.items():
        rows.append([shape, *(_cell(times.get(name)) for name in names)])
    return format_table(rows)


def _cell(timing: Mapping[str, Any] | None) -> str:
    if timing is None:
        return "-"
    low, high = timing["quartiles_ms"]
    mark = f" !{timing['disturbed']}" if timing["disturbed"] else ""
    return f"{timing['median_ms']:.3f} ({low:.3f}-{high:.3f}){mark}"


def _ratio_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    if not found:
        return ""
    shapes = list(dict.fromkeys(shape for ratio in found.values() for shape in ratio["by_shape"]))
    rows = [["ratio", "mean", "smallest", "largest", *shapes]]
    for name, ratio in found.items():
        extremes = [f"{ratio[end]['ratio']:.2f}" for end in ("smallest", "largest")]
        by_shape = ratio["by_shape"]
        cells = [f"{by_shape[shape]:.2f}" if shape in by_shape else "-" for shape in shapes]
        rows.append([name, f"{ratio['geometric_mean']:.2f}", *extremes, *cells])
    return format_table(rows)

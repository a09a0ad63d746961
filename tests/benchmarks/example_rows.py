"""Rows for tests, made up."""

from __future__ import annotations

from typing import Any

from benchmarks.rows import CEILINGS, INFERENCE, Row

RUN: dict[str, Any] = {
    "device": "a processor",
    "threads": 2,
    "compiled_operators": True,
    "versions": {"torch": "2.0"},
    "command": "python -m benchmarks.something",
    "date": "2020-02-02T00:00:00+00:00",
}


def make_row(**fields: Any) -> Row:
    """A row of a backbone that takes two seconds."""
    defaults: dict[str, Any] = {
        "suite": "backbone",
        "name": "piip",
        "variant": "eager",
        "dtype": "float32",
        "mode": INFERENCE,
        "median_s": 2.0,
        "quartiles_s": (1.5, 2.5),
        "samples": 3,
    }
    return Row(**{**defaults, **fields})


def make_ceiling(rate: float, **fields: Any) -> Row:
    """A ceiling of so many operations per second."""
    own = {"suite": CEILINGS, "name": "product", "mode": "ceiling", "flop": rate, "median_s": 1.0}
    return make_row(**{**own, **fields})

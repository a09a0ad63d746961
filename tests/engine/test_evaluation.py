"""What an evaluation writes and what it returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine.runs import run_toy
from tests.engine.toys import ToyEvaluator


def test_numbers_of_many_classes_are_in_the_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {"AP": 1.0, **{f"AP-{number}": float("nan") for number in range(101)}}
    monkeypatch.setattr(ToyEvaluator, "evaluate", lambda self: {"bbox": dict(numbers)})
    results = run_toy(tmp_path)
    assert set(results["bbox"]) == {"AP"}
    written = json.loads((tmp_path / "results.json").read_text())["bbox"]
    assert len(written) == 102 and written["AP-100"] is None
    curves = (tmp_path / "metrics.json").read_text()
    assert '"bbox/AP"' in curves and "bbox/AP-" not in curves

"""The tables of docs/MEMORY.md come from stored results, and these hold what is promised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import activation_memory, memory_estimate

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = (ROOT / "docs" / "MEMORY.md").read_text(encoding="utf-8")


def test_document_has_the_counted_numbers() -> None:
    results = json.loads((RESULTS / "activation_memory.json").read_text())["results"]
    assert set(results) <= {row.name for row in activation_memory.rows()}
    for table in activation_memory.as_markdown(results):
        assert table in DOCUMENT


def test_document_has_the_measured_numbers() -> None:
    results = json.loads((RESULTS / "memory_estimate.json").read_text())["results"]
    assert set(results) <= {row.name for row in memory_estimate.ROWS}
    assert memory_estimate.as_markdown(results) in DOCUMENT
    for name, found in results.items():
        assert abs(found["ratio"] - 1) <= memory_estimate.TOLERANCE, name


def test_large_models_fit_on_eight_gpus() -> None:
    results = json.loads((RESULTS / "activation_memory.json").read_text())["results"]
    large = [row for row in activation_memory.rows() if row.config in activation_memory.LARGE]
    assert len(large) == 4
    for row in large:
        assert results[row.name]["total"] < 75 * 2**30, row.name


def test_rows_that_are_there_are_not_counted_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "memory.json"
    file.write_text((RESULTS / "activation_memory.json").read_text())
    activation_memory.main(["--only", "no such row", "--output", str(file)])
    assert activation_memory.parts_table({})[0] in capsys.readouterr().out.replace("\n", "\n")

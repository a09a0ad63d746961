"""Rows survive, are compared with what they name, and make room for new ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.rows import Results, best_rate, describe_run, rate
from tests.benchmarks.example_rows import RUN, make_ceiling, make_row


def test_every_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "results" / "cpu.json"
    results = Results(file)
    for variant in ("eager", "compiled"):
        results.add(make_row(variant=variant), RUN)
        assert json.loads(file.read_text())["rows"] == results.rows
    assert [row["variant"] for row in Results(file).rows] == ["eager", "compiled"]
    assert Results(file).rows[0] | RUN == Results(file).rows[0]


def test_ratio_and_share_come_from_the_same_file() -> None:
    results = Results(None)
    row = make_row(flop=30.0, ceiling="arithmetic", baseline=("vit", "eager"), median_s=1 / 3)
    added = results.add(row, RUN)
    assert "ratio" not in added and "ceiling_share" not in added
    # In another type or mode they are no comparison.
    results.add(make_row(name="vit", dtype="bfloat16"), RUN)
    results.add(make_ceiling(1e9, dtype="bfloat16"), RUN)
    assert "ratio" not in added and "ceiling_share" not in added
    results.add(make_row(name="vit", median_s=1.0), RUN)
    results.add(make_ceiling(120.0), RUN)
    results.add(make_ceiling(100.0, name="convolution"), RUN)
    assert added["ratio"] == pytest.approx(1 / 3, rel=1e-4)
    assert added["ceiling_share"] == pytest.approx(0.75, rel=1e-4)
    assert best_rate(results.rows, added, "arithmetic") == 120.0
    assert best_rate(results.rows, added, "memory") == 0.0
    assert rate(added, "arithmetic") == pytest.approx(90, rel=1e-4)


@pytest.mark.parametrize("name", ["device", "threads", "versions"])
def test_other_runs_are_no_comparison(name: str) -> None:
    results = Results(None)
    other = RUN | {name: {"torch": "1.0"} if name == "versions" else 1}
    results.add(make_row(name="vit"), other)
    results.add(make_ceiling(120.0), other)
    row = make_row(flop=30.0, ceiling="arithmetic", baseline=("vit", "eager"))
    added = results.add(row, RUN)
    assert "ratio" not in added and "ceiling_share" not in added
    results.add(make_row(name="vit"), RUN)
    results.add(make_ceiling(120.0), RUN)
    assert "ratio" in added and "ceiling_share" in added


def test_same_key_replaces_a_row() -> None:
    results = Results(None)
    results.add(make_row(), RUN)
    results.add(make_row(median_s=3.0), RUN)
    assert [row["median_s"] for row in results.rows] == [3.0]


def test_a_suite_starts_anew_or_goes_on() -> None:
    results = Results(None)
    results.add(make_row(), RUN)
    results.add(make_row(suite="growth"), RUN)
    results.leave_out("backbone", "all", "no time")
    results.start("backbone", RUN, resume=True)
    assert results.has(make_row().key) and not results.left_out
    # What was measured with other versions is no part of this run.
    results.start("backbone", RUN | {"versions": {"torch": "2.1"}}, resume=True)
    assert not results.has(make_row().key)
    results.start("growth", RUN, resume=False)
    assert not results.rows


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"results": {}}')
    with pytest.raises(ValueError, match="must hold rows of schema 1, found None"):
        Results(file)


def test_description_of_a_run() -> None:
    run = describe_run(torch.device("cpu"), "python -m benchmarks.ceilings")
    assert set(run) == set(RUN)
    assert run["versions"]["torch"] == torch.__version__
    assert run["threads"] == torch.get_num_threads()

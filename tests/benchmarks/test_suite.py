"""Processes of tasks give rows one by one; whatever fails or takes too long is said."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from benchmarks import suite
from benchmarks.networks import BASELINE, NAIVE, NAIVE_ENVIRONMENT
from benchmarks.rows import INFERENCE, Results, Row
from benchmarks.suite import Deadline, run_tasks, start_process
from benchmarks.worker import FAILURE_MARK, ROW_MARK, Task
from tests.benchmarks.example_rows import RUN, make_row

TASK = Task("backbone", "piip", INFERENCE, "float32", ("eager", "compiled"))
_FAILURE = json.dumps({"key": TASK.key("compiled"), "why": "no compiler"})


def _says(row: Row) -> str:
    return f"print({ROW_MARK + json.dumps(dataclasses.asdict(row))!r}, flush=True)"


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Sequence[Task]]]:
    """Lets a program play the process of all tasks, and returns what is asked of it."""

    def script(program: str) -> list[Sequence[Task]]:
        asked: list[Sequence[Task]] = []

        def start(tasks: Sequence[Task], compile_threads: int | None) -> subprocess.Popen[str]:
            assert compile_threads is None
            asked.append(tasks)
            return subprocess.Popen(
                [sys.executable, "-c", program],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

        monkeypatch.setattr(suite, "start_process", start)
        return asked

    return script


def _run(results: Results, limit_s: float = 30.0, budget_s: float = 30.0) -> None:
    run_tasks([[TASK]], results, RUN, Deadline(budget_s), limit_s=limit_s)


def test_rows_are_taken_in(play: Callable[[str], list[Sequence[Task]]]) -> None:
    rows = [make_row(), make_row(variant="compiled")]
    asked = play("print('a warning')\n" + "\n".join(map(_says, rows)))
    results = Results(None)
    _run(results)
    assert [row["variant"] for row in results.rows] == ["eager", "compiled"]
    assert not results.left_out
    # All is there already.
    _run(results)
    assert len(asked) == 1
    results.rows.pop(0)
    _run(results)
    assert asked[1][0].variants == ("eager",)


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        ("raise SystemExit('out of luck')", "failed: out of luck"),
        ("import time\ntime.sleep(60)", "ended after 5 s"),
        (f"print({FAILURE_MARK + _FAILURE!r})", "no compiler"),
        ("", "the process gave no row"),
    ],
)  # fmt: skip
def test_what_was_measured_before_an_end_is_kept(
    play: Callable[[str], list[Sequence[Task]]], ending: str, why: str
) -> None:
    play(f"{_says(make_row())}\n{ending}")
    results = Results(None)
    _run(results, limit_s=5.0)
    assert [row["variant"] for row in results.rows] == ["eager"]
    what = "backbone, piip, compiled, inference, float32"
    assert results.left_out == [{"suite": "backbone", "what": what, "why": why}]


def test_a_failure_is_of_its_own_suite(play: Callable[[str], list[Sequence[Task]]]) -> None:
    detector = dataclasses.replace(TASK, suite="detectors", variants=("compiled",))
    backbone = dataclasses.replace(TASK, variants=("compiled",))
    # The backbone fails and the detector gives a row; then the other way round.
    for failing, other in ((backbone, detector), (detector, backbone)):
        failure = json.dumps({"key": failing.key("compiled"), "why": "no compiler"})
        row = make_row(suite=other.suite, variant="compiled")
        play(f"print({FAILURE_MARK + failure!r}, flush=True)\n{_says(row)}")
        results = Results(None)
        run_tasks([[detector, backbone]], results, RUN, Deadline(30.0), limit_s=30.0)
        assert [row["suite"] for row in results.rows] == [other.suite]
        what = f"{failing.suite}, piip, compiled, inference, float32"
        assert results.left_out == [{"suite": failing.suite, "what": what, "why": "no compiler"}]


def test_no_time_is_left(play: Callable[[str], list[Sequence[Task]]]) -> None:
    asked = play("")
    results = Results(None)
    _run(results, budget_s=0.0)
    assert not asked
    assert [entry["why"] for entry in results.left_out] == ["no time was left"] * 2


def test_environment_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(
        suite.subprocess, "Popen", lambda command, **options: seen.update(options, command=command)
    )
    start_process([TASK])
    assert not set(NAIVE_ENVIRONMENT) & set(seen["env"])
    assert seen["env"]["OMP_NUM_THREADS"] == "2"
    assert Task(**json.loads(seen["command"][-1])).variants == ["eager", "compiled"]
    assert "TORCHINDUCTOR_COMPILE_THREADS" not in seen["env"]
    start_process([dataclasses.replace(TASK, variants=(NAIVE,))], 3)
    assert seen["env"]["TORCHINDUCTOR_COMPILE_THREADS"] == "3"
    assert seen["env"].items() >= NAIVE_ENVIRONMENT.items()


@pytest.mark.slow
def test_a_real_process() -> None:
    patience = {"samples": 1, "at_least": 1, "seconds": 0.0, "sample_s": 0.0}
    task = Task("backbone", BASELINE, INFERENCE, "float32", (NAIVE,), patience=patience, tiny=True)
    (row,) = suite.measure_in_process([task], limit_s=300.0)
    assert isinstance(row, Row) and row.key == task.key(NAIVE)

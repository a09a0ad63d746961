"""Runs tasks in processes of their own, within a time budget; a row is safe once it is measured."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.networks import NAIVE, NAIVE_ENVIRONMENT
from benchmarks.rows import Key, Results, Row, rate
from benchmarks.worker import FAILURE_MARK, ROW_MARK, Task

ROOT = Path(__file__).resolve().parents[1]
_LAST_WORDS = 3


class Deadline:
    """Says how much time is left.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()


def run_tasks(
    groups: Iterable[Sequence[Task]],
    results: Results,
    run: Mapping[str, Any],
    deadline: Deadline,
    *,
    limit_s: float,
) -> None:
    """Measures groups of tasks in their order, the most important ones first.

    What is there already is not measured again; what takes too long, fails or finds no time is
    noted as left out.

    Args:
        groups: Tasks that share a process.
        results: Where rows go.
        run: As from :func:`benchmarks.rows.describe_run`.
        deadline: When all of it has to be over.
        limit_s: Seconds after which a single process is ended.
    """
    for group in groups:
        missing = [task for task in (_missing(task, results) for task in group) if task.variants]
        if not missing:
            continue
        why, open_variants = "no time was left", _open_variants(missing)
        if deadline.left > 1:
            why = "the process gave no row"
            try:
                for found in measure_in_process(missing, min(limit_s, deadline.left)):
                    if isinstance(found, Row):
                        open_variants.pop(found.key, None)
                        print(describe(results.add(found, run)), flush=True)
                    else:
                        key, reason = found
                        _leave_out(results, key[0], open_variants.pop(key), reason)
            except RuntimeError as error:
                why = str(error)
        for key, what in open_variants.items():
            _leave_out(results, key[0], what, why)


def measure_in_process(
    tasks: Sequence[Task], limit_s: float, *, compile_threads: int | None = None
) -> Iterator[Row | tuple[Key, str]]:
    """Measures tasks in a process of their own.

    Args:
        tasks: The tasks.
        limit_s: Seconds after which the process is ended.
        compile_threads: Processes that its compiler may start; None for as many as it likes.

    Yields:
        A row as soon as it is there, or the key of what failed and why.

    Raises:
        RuntimeError: If the process fails as a whole or is ended.
    """
    process = start_process(tasks, compile_threads)
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    deadline, last_words = Deadline(limit_s), []
    try:
        while True:
            try:
                line = lines.get(timeout=max(deadline.left, 0.01))
            except queue.Empty:
                raise RuntimeError(f"ended after {limit_s:.0f} s") from None
            if line is None:
                break
            if line.startswith(ROW_MARK):
                yield _row(json.loads(line.removeprefix(ROW_MARK)))
            elif line.startswith(FAILURE_MARK):
                failure = json.loads(line.removeprefix(FAILURE_MARK))
                yield tuple(failure["key"]), failure["why"]
            elif line.strip():
                last_words = [*last_words, line.strip()][-_LAST_WORDS:]
        if process.wait() != 0:
            raise RuntimeError(f"failed: {' | '.join(last_words)}")
    finally:
        end_process(process)
        reader.join()


def start_process(
    tasks: Sequence[Task], compile_threads: int | None = None
) -> subprocess.Popen[str]:
    """Starts a process for tasks, with its whole offspring in a group of its own."""
    environment = dict(os.environ)
    if compile_threads is not None:
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = str(compile_threads)
    if any(NAIVE in task.variants for task in tasks):
        environment.update(NAIVE_ENVIRONMENT)
    if tasks[0].device == "cpu":
        environment["OMP_NUM_THREADS"] = str(tasks[0].threads)
    arguments = [task.as_json() for task in tasks]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end_process(process: subprocess.Popen[str]) -> None:
    """Ends a process and what it has started, compilers for example."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def describe(row: Mapping[str, Any]) -> str:
    """A row in one line."""
    parts = [row[name] for name in ("suite", "name", "variant", "mode", "dtype")]
    parts.append(f"{row['median_s']:.4g} s")
    if row.get("flop"):
        parts.append(f"{rate(row, 'arithmetic') / 1e9:.0f} GFLOP/s")
    if "ceiling_share" in row:
        parts.append(f"{100 * row['ceiling_share']:.0f} % of the ceiling")
    if row.get("peak_memory_bytes"):
        parts.append(f"{row['peak_memory_bytes'] / 2**30:.2f} GiB")
    return ", ".join(parts)


def _missing(task: Task, results: Results) -> Task:
    variants = tuple(x for x in task.variants if not results.has(task.key(x)))
    return dataclasses.replace(task, variants=variants)


def _open_variants(tasks: Sequence[Task]) -> dict[Key, str]:
    return {task.key(x): task.describe(x) for task in tasks for x in task.variants}


def _leave_out(results: Results, suite: str, what: str, why: str) -> None:
    results.leave_out(suite, what, why)
    print(f"left out: {what}: {why}", flush=True)


def _row(fields: dict[str, Any]) -> Row:
    for name in ("quartiles_s", "image_size", "baseline"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    return Row(**fields)


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)

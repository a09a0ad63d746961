"""One schema for the results of all benchmarks: rows in a JSON file, each speaking for itself.

A file is written anew after every row, so that a run that is cut short loses nothing.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.msda.machine import describe
from benchmarks.msda.timing import Timing
from piip_d2._atomic_file import write_text_atomically

SCHEMA = 1
CEILINGS = "ceilings"
# Modes of rows; a ceiling has its own, as nothing is inferred or trained there.
INFERENCE, TRAINING = "inference", "training"
_RATES = {"flop": "arithmetic", "moved_bytes": "memory"}
_SIGNIFICANT_DIGITS = 5
# What has to be equal where two rows are compared.
_RUN = ("device", "threads", "versions")

Key = tuple[str, str, str, str, str]


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement.

    Args:
        suite: The benchmark that it belongs to.
        name: What was measured.
        variant: How it was computed, as "eager" or "compiled".
        dtype: Type of the arithmetic.
        mode: "inference" or "training", or another word for what has neither.
        median_s: Median of the samples in seconds.
        quartiles_s: Lower and upper quartile of the samples in seconds.
        samples: Number of samples.
        disturbed: How many of them other processes disturbed by taking processor time.
        batch_size: Images per call.
        image_size: Height and width of the images in pixels.
        flop: Floating-point operations of one call, twice the multiply-adds; None if not counted.
        moved_bytes: Bytes that one call reads and writes; None if not counted.
        peak_memory_bytes: On a CPU the largest resident size of a process that did nothing else; on
            a GPU the most that PyTorch had allocated.
        idle_memory_bytes: The same before the model was built.
        compile_s: Seconds of the first call of what is compiled: the compiler's, those of the call
            itself, and for a model that another row has used already the call's alone.
        baseline: Name and variant of the row with the same suite, type and mode to compare with.
        ceiling: "arithmetic" or "memory", the kind of limit to compare with; None for none.
        tokens: Cells of all maps together that a network works on; None if nobody asks.
        note: What else has to be known.
    """

    suite: str
    name: str
    variant: str
    dtype: str
    mode: str
    median_s: float
    quartiles_s: tuple[float, float]
    samples: int
    disturbed: int = 0
    batch_size: int | None = None
    image_size: tuple[int, int] | None = None
    flop: float | None = None
    moved_bytes: float | None = None
    peak_memory_bytes: int | None = None
    idle_memory_bytes: int | None = None
    compile_s: float | None = None
    baseline: tuple[str, str] | None = None
    ceiling: str | None = None
    tokens: int | None = None
    note: str = ""

    @property
    def key(self) -> Key:
        """What tells it from the other rows of a file."""
        return (self.suite, self.name, self.variant, self.dtype, self.mode)


def timing_fields(timing: Timing) -> dict[str, Any]:
    """What a row takes over from what was timed."""
    low, high = timing.quartiles_ms
    return {
        "median_s": timing.median_ms / 1e3,
        "quartiles_s": (low / 1e3, high / 1e3),
        "samples": timing.samples,
        "disturbed": timing.disturbed,
    }


def describe_run(device: torch.device, command: str) -> dict[str, Any]:
    """What every row says of the run that it is from.

    Args:
        device: Where the work is done.
        command: The command line, as a reader would type it.

    Returns:
        ``device``, ``threads``, ``versions``, ``command`` and ``date``.
    """
    found = describe(device)
    versions = {name: found[name] for name in ("torch", "cuda", "python", "piip_d2") if found[name]}
    instructions = found["vector_instructions"]
    processors = f"{found['device']}, {found['processors']} cores, {instructions}"
    return {
        "device": found["device"] if device.type == "cuda" else processors,
        "threads": found["threads"] if device.type == "cpu" else None,
        "compiled_operators": found["compiled_operators"],
        "versions": versions,
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


class Results:
    """The rows of a file.

    Args:
        path: The file; what it holds already is kept. None for results that are not written.

    Raises:
        ValueError: If the file holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.left_out: list[dict[str, str]] = []
        if path is not None and path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.get("schema") != SCHEMA:
                raise ValueError(
                    f"{path} must hold rows of schema {SCHEMA}, found {content.get('schema')!r}; "
                    "name another file, or remove this one"
                )
            self.rows, self.left_out = content["rows"], content["left_out"]

    def start(self, suite: str, run: Mapping[str, Any], *, resume: bool) -> None:
        """Makes room for the rows of a suite.

        Args:
            suite: Its name.
            run: As from :func:`describe_run`.
            resume: Keeps the suite's rows that were measured on the same device, with the same
                versions and threads; without it all of them go.
        """
        self.rows = [
            row for row in self.rows if row["suite"] != suite or (resume and same_run(row, run))
        ]
        self.left_out = [entry for entry in self.left_out if entry["suite"] != suite]

    def has(self, key: Key) -> bool:
        """Whether there is a row of this key."""
        return any(_key(row) == key for row in self.rows)

    def add(self, row: Row, run: Mapping[str, Any]) -> dict[str, Any]:
        """Takes a row in, in place of one with the same key, and writes the file.

        Args:
            row: The row.
            run: As from :func:`describe_run`.

        Returns:
            The row with everything that follows from it and from the other rows.
        """
        fields = dataclasses.asdict(row)
        found = {name: _rounded(value) for name, value in fields.items() if value not in (None, "")}
        self.rows = [other for other in self.rows if _key(other) != row.key]
        self.rows.append({**found, **run})
        self._compare()
        self.write()
        return self.rows[-1]

    def leave_out(self, suite: str, what: str, why: str) -> None:
        """Notes what was not measured, and writes the file."""
        entry = {"suite": suite, "what": what, "why": why}
        if entry not in self.left_out:
            self.left_out.append(entry)
        self.write()

    def write(self) -> None:
        """Writes the file, if there is one."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lists = [
            f'"{name}": [\n{_lines(entries)}\n]'
            for name, entries in (("rows", self.rows), ("left_out", self.left_out))
        ]
        text = f'{{"schema": {SCHEMA},\n{", ".join(lists)}}}\n'
        write_text_atomically(self.path, text)

    def _compare(self) -> None:
        """Adds ratios to baselines, and shares of the ceilings, to all rows that have them."""
        by_key = {_key(row): row for row in self.rows}
        for row in self.rows:
            if "baseline" in row:
                suite, _, _, dtype, mode = _key(row)
                baseline = by_key.get((suite, *row["baseline"], dtype, mode))
                row.pop("ratio", None)
                if baseline is not None and same_run(baseline, row):
                    row["ratio"] = _rounded(row["median_s"] / baseline["median_s"])
            ceiling = best_rate(self.rows, row, row["ceiling"]) if "ceiling" in row else 0
            row.pop("ceiling_share", None)
            if ceiling:
                row["ceiling_share"] = _rounded(rate(row, row["ceiling"]) / ceiling)


def rate(row: Mapping[str, Any], kind: str) -> float:
    """Operations or bytes per second of a row.

    Args:
        row: The row.
        kind: "arithmetic" or "memory".

    Returns:
        The rate; 0 where the row does not count this kind.
    """
    amount = next((row.get(field) for field, name in _RATES.items() if name == kind), None)
    return (amount or 0) / row["median_s"]


def best_rate(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any], kind: str) -> float:
    """The ceiling of a row: the highest rate that was measured in its type, where it was measured.

    Args:
        rows: All rows of the file.
        row: What is to be compared with the ceiling.
        kind: "arithmetic", for which matrix products and convolutions compete, or "memory".

    Returns:
        Operations or bytes per second; 0 if no ceiling was measured on the row's device, with its
        threads and versions.
    """
    ceilings = [
        ceiling
        for ceiling in rows
        if (ceiling["suite"], ceiling["dtype"]) == (CEILINGS, row["dtype"])
        and same_run(ceiling, row)
    ]
    return max((rate(ceiling, kind) for ceiling in ceilings), default=0.0)


def same_run(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two rows may be compared: the same device, threads and versions."""
    return all(first[name] == second[name] for name in _RUN)


def _key(row: Mapping[str, Any]) -> Key:
    return (row["suite"], row["name"], row["variant"], row["dtype"], row["mode"])


def _lines(entries: Sequence[Mapping[str, Any]]) -> str:
    return ",\n".join(json.dumps(entry) for entry in entries)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
    if isinstance(value, tuple | list):
        return [_rounded(item) for item in value]
    return value

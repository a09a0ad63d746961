"""Writes the tables of docs/PERFORMANCE.md from the results; its introduction stays.

python -m benchmarks.performance
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data_loading import SUITE as LOADING
from benchmarks.growth import own_memory
from benchmarks.rows import CEILINGS, Results, rate
from benchmarks.targets import TARGETS, Rows
from benchmarks.worker import DETECTORS, GROWTH

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "PERFORMANCE.md"
RESULTS = ROOT / "benchmarks" / "results"
START_OF_TABLES = "<!-- What follows is written by python -m benchmarks.performance. -->\n"
FILES = {"cpu": "On a CPU", "gpu": "On a GPU"}
_SUITES = {
    CEILINGS: "Ceilings",
    "backbone": "Backbones",
    DETECTORS: "Whole detectors",
    "operator": "Multi-scale deformable attention",
    GROWTH: "Growth with the size of the image",
    LOADING: "Preparation of training images",
}
_PLOT = ROOT / "docs" / "images" / "growth.png"
_GIB = 2**30
_NOTHING = "–"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if results or the document cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    args = parser.parse_args(argv)
    try:
        head, mark, _ = args.document.read_text(encoding="utf-8").partition(START_OF_TABLES)
        if not mark:
            raise ValueError(f"{args.document} has no line {START_OF_TABLES.strip()!r}")
        text = as_markdown(read_results(args.results))
        args.document.write_text(f"{head}{mark}\n{text}", encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"performance.py: {error}", file=sys.stderr)
        return 1
    return 0


def read_results(folder: Path) -> dict[str, Results]:
    """Reads all results of a folder, those that are missing as empty ones."""
    return {name: Results(folder / f"{name}.json") for name in FILES}


def as_markdown(results: Mapping[str, Results]) -> str:
    """Writes targets and tables.

    Args:
        results: By the name of their file.

    Returns:
        Markdown.
    """
    sections = ["## Targets", targets_table({name: found.rows for name, found in results.items()})]
    for name, title in FILES.items():
        sections.append(f"## {title}")
        found = results[name]
        if not found.rows:
            sections.append("Not measured: there is no file of results.")
        for suite, heading in _SUITES.items():
            rows = [row for row in found.rows if row["suite"] == suite]
            if rows:
                sections += [f"### {heading}, {name.upper()}", *_suite(suite, rows)]
        if found.left_out:
            lines = [f"* {entry['what']}: {entry['why']}" for entry in found.left_out]
            sections += [f"### Left out, {name.upper()}", "\n".join(lines)]
    return "\n\n".join(sections) + "\n"


def targets_table(rows: Mapping[str, Rows]) -> str:
    """The table of what is wanted.

    Args:
        rows: By the name of their file.

    Returns:
        Markdown.
    """
    lines = [
        _line(["what", "reference", "target", "measured", "verdict"]),
        _line(["---", "---", "---", "---:", "---"]),
    ]
    for target in TARGETS:
        value, verdict = target.verdict(rows[target.file])
        bound = "at least" if target.at_least else "at most"
        wanted = f"{bound} {_number(target.wanted, target.unit)}"
        measured = _NOTHING if value is None else _number(value, target.unit)
        lines.append(_line([target.what, target.reference or _NOTHING, wanted, measured, verdict]))
    return "\n".join(lines)


def _suite(suite: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each run of which there are rows, below what the run was."""
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        runs.setdefault(_run(row), []).append(row)
    parts = []
    for run, found in runs.items():
        parts += [run, _growth_table(found) if suite == GROWTH else _table(suite, found)]
    if suite == GROWTH and _PLOT.is_file():
        parts.append(f"![time and memory over tokens]({_PLOT.relative_to(DOCUMENT.parent)})")
    return parts


def _run(row: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    threads = f", {row['threads']} threads" if row.get("threads") else ""
    compiled = "" if row["compiled_operators"] else ", operators not compiled"
    date = row["date"].split("T")[0]
    return f"{row['device']}{threads}; {versions}{compiled}; {date}; `{row['command']}`"


def _table(suite: str, rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["what", "how", "type", "mode", "batch", "median (quartiles), samples"]
    has_memory = any("peak_memory_bytes" in row for row in rows)
    has_baseline = any("ratio" in row for row in rows)
    head += ["time / baseline's"] if has_baseline else []
    head += ["rate"] if suite != "operator" else []
    head += ["share of the ceiling"] if suite != CEILINGS else []
    head += ["peak memory, beyond start"] if has_memory else []
    lines = [_line(head), _line(["---"] * 4 + ["---:"] * (len(head) - 4))]
    for row in rows:
        # Elsewhere a note repeats sizes.
        note = f" ({row['note']})" if suite == LOADING and row.get("note") else ""
        cells = [row["name"], row["variant"] + note, row["dtype"], row["mode"]]
        cells += [str(row.get("batch_size", _NOTHING)), _time(row)]
        cells += [_ratio(row)] if has_baseline else []
        cells += [_rate(row)] if suite != "operator" else []
        share = row.get("ceiling_share")
        cells += [] if suite == CEILINGS else [f"{100 * share:.0f} %" if share else _NOTHING]
        cells += [_memory(row)] if has_memory else []
        lines.append(_line(cells))
    return "\n".join(lines)


def _growth_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ["image", "tokens", "mode", "median (quartiles), samples", "share of the ceiling"]
    head += ["µs per token", "peak memory, beyond start", "KiB beyond start per token"]
    lines = [_line(head), _line(["---:"] * len(head))]
    for row in sorted(rows, key=lambda row: (row["mode"], row["tokens"])):
        share = row.get("ceiling_share")
        lines.append(
            _line(
                [
                    f"{row['image_size'][0]}",
                    f"{row['tokens']}",
                    row["mode"],
                    _time(row),
                    f"{100 * share:.0f} %" if share else _NOTHING,
                    f"{row['median_s'] / row['tokens'] * 1e6:.0f}",
                    _memory(row),
                    f"{own_memory(row) / row['tokens'] / 2**10:.0f}",
                ]
            )
        )
    return "\n".join(lines)


def _time(row: Mapping[str, Any]) -> str:
    seconds = row["median_s"]
    factor, unit = (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")
    low, high = (factor * value for value in row["quartiles_s"])
    text = f"{factor * seconds:.3g} {unit} ({low:.3g}–{high:.3g}), {row['samples']}"
    return text + (f", {row['disturbed']} disturbed" if row.get("disturbed") else "")


def _ratio(row: Mapping[str, Any]) -> str:
    if "ratio" not in row:
        return _NOTHING
    return f"{row['ratio']:.2f} ({', '.join(row['baseline'])})"


def _rate(row: Mapping[str, Any]) -> str:
    if row.get("flop"):
        return f"{rate(row, 'arithmetic') / 1e9:.0f} GFLOP/s"
    if row.get("moved_bytes"):
        return f"{rate(row, 'memory') / 1e9:.0f} GB/s"
    return (
        f"{row['batch_size'] / row['median_s']:.1f} images/s" if "batch_size" in row else _NOTHING
    )


def _memory(row: Mapping[str, Any]) -> str:
    if "peak_memory_bytes" not in row:
        return _NOTHING
    return f"{row['peak_memory_bytes'] / _GIB:.2f}, {own_memory(row) / _GIB:.2f} GiB"


def _number(value: float, unit: str) -> str:
    text = f"{value:.0f}" if unit == "%" else f"{value:.2f}"
    return f"{text} {unit}".strip()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())

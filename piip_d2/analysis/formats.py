"""Cost reports as text, Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from piip_d2.analysis.report import CostReport, PartCost

_HEADER = ("part", "what", "params (M)", "GFLOPs", "of it attention cores")
_NUM_TEXT_COLUMNS = 2


def format_costs(reports: Mapping[str, CostReport | str], form: str) -> str:
    """Writes cost reports as a document.

    Args:
        reports: By convention its report, or the sentence that says why there is none.
        form: ``"text"``, ``"markdown"`` or ``"json"``.

    Returns:
        The document, with a line break at its end.

    Raises:
        ValueError: If the form is unknown.
    """
    if form not in FORMATS:
        raise ValueError(f"format must be one of {tuple(FORMATS)}, got {form!r}")
    return FORMATS[form](reports).rstrip("\n") + "\n"


def mega(number: int, decimals: int = 3) -> str:
    """Writes a number of parameters in millions.

    Args:
        number: The number.
        decimals: Digits behind the point.

    Returns:
        The text.
    """
    return f"{number / 1e6:.{decimals}f}"


def giga(number: int, decimals: int = 3) -> str:
    """Writes a number of operations in thousand millions.

    Args:
        number: The number.
        decimals: Digits behind the point.

    Returns:
        The text.
    """
    return f"{number / 1e9:.{decimals}f}"


def _as_text(reports: Mapping[str, CostReport | str]) -> str:
    sections = []
    for convention, report in reports.items():
        if isinstance(report, str):
            sections.append(f"{convention}: {report}")
            continue
        rows = [_HEADER, *_table(report)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        lines = [_title(report), *(_aligned(row, widths) for row in rows), *report.notes]
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _as_markdown(reports: Mapping[str, CostReport | str]) -> str:
    sections = []
    for convention, report in reports.items():
        if isinstance(report, str):
            sections.append(f"**{convention}**: {report}")
            continue
        alignment = ["---"] * _NUM_TEXT_COLUMNS + ["--:"] * (len(_HEADER) - _NUM_TEXT_COLUMNS)
        rows = [_HEADER, alignment, *_table(report)]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        notes = "\n".join(f"* {note}" for note in report.notes)
        sections.append(f"**{_title(report)}**\n\n{table}\n\n{notes}")
    return "\n\n".join(sections)


def _as_json(reports: Mapping[str, CostReport | str]) -> str:
    content = {
        convention: {"not_defined": report} if isinstance(report, str) else _record(report)
        for convention, report in reports.items()
    }
    return json.dumps(content, indent=2)


def _title(report: CostReport) -> str:
    sizes = "/".join(str(side) for side in report.resolutions)
    height, width = report.image_size
    return f"{report.convention}: resolutions {sizes}, image of {height} x {width}"


def _table(report: CostReport) -> list[Sequence[str]]:
    return [*(_row(part) for part in report.rows), _row(_total(report))]


def _row(part: PartCost) -> Sequence[str]:
    return (
        part.name,
        part.description,
        mega(part.params),
        giga(part.flops),
        giga(part.attention_flops),
    )


def _total(report: CostReport) -> PartCost:
    return PartCost("total", report.params, report.flops, report.attention_flops)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    texts = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
    return "  ".join(texts[:_NUM_TEXT_COLUMNS] + numbers[_NUM_TEXT_COLUMNS:])


def _record(report: CostReport) -> dict[str, Any]:
    return {
        "resolutions": list(report.resolutions),
        "image_size": list(report.image_size),
        **_numbers(_total(report)),
        "parts": {
            part.name: {**_numbers(part), "description": part.description} for part in report.parts
        },
        "notes": list(report.notes),
    }


def _numbers(part: PartCost) -> dict[str, int]:
    return {
        "params": part.params,
        "flops": part.flops,
        "attention_flops": part.attention_flops,
    }


FORMATS: dict[str, Callable[[Mapping[str, CostReport | str]], str]] = {
    "text": _as_text,
    "markdown": _as_markdown,
    "json": _as_json,
}

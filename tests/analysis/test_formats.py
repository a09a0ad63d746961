"""Reports as text, Markdown and JSON."""

from __future__ import annotations

import json

import pytest

from piip_d2.analysis import CostReport, PartCost
from piip_d2.analysis.formats import FORMATS, format_costs

REPORT = CostReport(
    "actual",
    (96, 48),
    (96, 64),
    (
        PartCost("branches.1", 1_500_000, 2_000_000_000, 500_000_000, "a branch"),
        PartCost("interactions.0", 1_000, 3_000_000),
        PartCost("interactions.1", 2_000, 4_000_000),
    ),
    ("A note.",),
)
REPORTS = {"paper": "not defined: no rule.", "actual": REPORT}


def test_text() -> None:
    lines = format_costs(REPORTS, "text").splitlines()
    assert lines[0] == "paper: not defined: no rule."
    assert lines[2] == "actual: resolutions 96/48, image of 96 x 64"
    assert lines[4].split() == ["branches.1", "a", "branch", "1.500", "2.000", "0.500"]
    assert lines[5].split() == ["interactions", "0.003", "0.007", "0.000"]
    assert lines[6].split() == ["total", "1.503", "2.007", "0.500"]
    assert lines[7] == "A note."
    assert len({len(line) for line in lines[3:7]}) == 1, "columns stand below each other"


def test_markdown() -> None:
    lines = format_costs(REPORTS, "markdown").splitlines()
    assert lines[0] == "**paper**: not defined: no rule."
    assert "| branches.1 | a branch | 1.500 | 2.000 | 0.500 |" in lines
    table = [line for line in lines if line.startswith("|")]
    assert table[1] == "| --- | --- | --: | --: | --: |"
    assert len({line.count("|") for line in table}) == 1
    assert lines[-1] == "* A note."


def test_json() -> None:
    content = json.loads(format_costs(REPORTS, "json"))
    assert content["paper"] == {"not_defined": "not defined: no rule."}
    actual = content["actual"]
    assert (actual["params"], actual["flops"]) == (1_503_000, 2_007_000_000)
    assert actual["resolutions"] == [96, 48] and actual["image_size"] == [96, 64]
    assert actual["parts"]["interactions.1"]["flops"] == 4_000_000
    assert actual["notes"] == ["A note."]


@pytest.mark.parametrize("form", FORMATS)
def test_documents_end_with_one_line_break(form: str) -> None:
    document = format_costs(REPORTS, form)
    assert document.endswith("\n") and not document.endswith("\n\n")


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(ValueError, match="format must be one of"):
        format_costs(REPORTS, "yaml")

"""``docs/MODEL_ZOO.md`` and ``docs/COSTS.md`` state what is counted."""

from __future__ import annotations

import dataclasses
import os
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from piip_d2.analysis import CostReport, PartCost, count_costs
from piip_d2.analysis.configs import build_without_numbers
from piip_d2.analysis.detectors import find_network
from piip_d2.analysis.model_zoo import (
    PublishedRow,
    count_rows,
    read_rows,
    stated_costs_come_out,
    zoo_line,
    zoo_tables,
)
from piip_d2.analysis.without_numbers import without_numbers
from piip_d2.checkpoint import build_from_official
from piip_d2.modeling.backbone import PIIPNetwork
from tests.analysis.forms import form_of
from tests.analysis.published import COSTS, build_published
from tests.golden import cases
from tests.oracle.configurations import CONVNEXT_SIZES, oracle_cases

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "MODEL_ZOO.md"
ROWS = read_rows(ROOT / "docs" / "paper_rows.csv")
LINES = {
    line.split(" | ")[0].removeprefix("| "): line
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
}
ORACLE_CASES = oracle_cases()
VECTORS = cases.vector_cases()
NOT_COMPARED = {"reference": "", "outputs": "", "second_program": ""}
EXAMPLE = dataclasses.replace(
    ROWS[0], id="X1", resolutions="64", mega_params="2", giga_flops="3", **NOT_COMPARED
)
REPORT = CostReport("actual", (64,), (64, 64), (PartCost("branches.0", 2_400_000, 2_960_000_000),))
# One network alone, one of convolutions, one ablation.
QUICK = ("A1", "B2", "K8")


def row_of(name: str) -> PublishedRow:
    return next(row for row in ROWS if row.id == name)


def test_rows_name_what_there_is() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS) > 90
    for row in ROWS:
        assert not row.config or (ROOT / "configs" / f"{row.config}.py").is_file(), row
        assert not row.reference or row.reference in COSTS["script_records"], row
        assert not row.outputs or row.outputs in VECTORS, row
        assert not row.second_program or row.second_program in ORACLE_CASES, row


def test_no_config_is_left_out() -> None:
    named = {row.config for row in ROWS}
    for folder in ("mask_rcnn", "cascade_rcnn", "dino", "ablations"):
        for path in (ROOT / "configs" / folder).glob("*.py"):
            assert f"{folder}/{path.stem}" in named


def test_every_row_is_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for row in ROWS:
        assert (row.id in LINES) if row.config else (f"{row.id} {row.system} (" in text)


@pytest.mark.parametrize("name", QUICK)
def test_lines_are_up_to_date(name: str) -> None:
    row = row_of(name)
    assert LINES[name] == zoo_line(row, count_rows([row], ROOT / "configs")[row.config])


@pytest.mark.parametrize("row", [row for row in ROWS if row.reference], ids=lambda row: row.id)
def test_configs_cost_what_the_authors_configurations_do(row: PublishedRow) -> None:
    record = COSTS["script_records"][row.reference]
    flops = COSTS["script_flops_with_fused_mlp"].get(row.reference, record["flops"])
    if row.config:
        stated = f"{record['params'] / 1e6:.1f} / {flops / 1e9:.1f}"
        assert LINES[row.id].split(" | ")[6] == stated


# Networks of one form are built once: by the authors' configuration where there is one, as that is
# built for other tests, too.
COMPARED = {
    (row.outputs, row.second_program, row.reference or row.config): row
    for row in ROWS
    if row.outputs or row.second_program
}.values()


@pytest.mark.parametrize("row", COMPARED, ids=lambda row: row.id)
def test_what_was_compared_is_of_the_form_of_the_row(row: PublishedRow) -> None:
    if row.reference:
        network = build_published(row.reference)
    else:
        network = find_network(build_without_numbers(str(ROOT / "configs" / f"{row.config}.py")))
    form = form_of(network)
    if row.outputs:
        mode = "as_released" if "as_released" in row.outputs else "corrected"
        assert form_of(small(VECTORS[row.outputs]["config"], mode)) == form
    if row.second_program:
        case = ORACLE_CASES[row.second_program]
        assert form_of(small(case.config, case.four_branch)) == form


def small(cfg: dict[str, Any], four_branch: str) -> PIIPNetwork:
    with without_numbers():
        return build_from_official(cfg, four_branch=four_branch, convnext_sizes=CONVNEXT_SIZES)


def test_forms_differ_where_branches_do() -> None:
    forms = {name: form_of(small(case["config"], "corrected")) for name, case in VECTORS.items()}
    assert forms["convnext_cnn_branch3"] != forms["convnext_vit_branch3"]
    assert forms["tsb_simple_fpn"] != forms["augreg_windows"] != forms["h6b_2branch"]
    assert forms["tsb_simple_fpn"] != forms["tsb_normal_attn"]
    assert forms["tsb_simple_fpn"] != forms["tsb_noproj_nonorm_fusedmlp"]
    name = "tsbl_4branch_as_released_code"
    assert form_of(small(VECTORS[name]["config"], "as_released")) != forms[name]


@pytest.mark.slow
def test_the_document_is_up_to_date() -> None:
    costs = count_rows(ROWS, ROOT / "configs", os.cpu_count() or 1)
    assert DOCUMENT.read_text(encoding="utf-8").endswith(f"\n\n{zoo_tables(ROWS, costs)}")


@pytest.mark.parametrize(
    ("params", "flops", "expected"),
    [
        (2_400_000, 2_960_000_000, {"params", "FLOPs"}),
        (2_600_000, 2_960_000_000, {"params", "FLOPs"}),
        (3_000_000, 3_400_000_000, {"FLOPs"}),
        (1_949_999, 2_400_000_000, {"params"}),
        # Printed as 2.5, and then rounded up.
        (1_000_000, 2_460_000_000, {"FLOPs"}),
        (1_000_000, 4_000_000_000, set()),
    ],
)
def test_stated_costs(params: int, flops: int, expected: set[str]) -> None:
    parts = (PartCost("branches.0", params, flops),)
    report = dataclasses.replace(REPORT, parts=parts)
    assert stated_costs_come_out(EXAMPLE, report) == expected


def test_nothing_is_verified_without_costs() -> None:
    assert stated_costs_come_out(EXAMPLE, "not defined") == set()
    without = dataclasses.replace(EXAMPLE, mega_params="", giga_flops="")
    reports = {"paper": "not defined", "released_script": "not defined", "actual": REPORT}
    assert zoo_line(without, reports).endswith(
        "| – / – | – | – | 2.4 / 3.0 | 2.4 / 3.0 | 43.8 / 39.9 | – |"
    )


def test_other_resolutions_are_noticed() -> None:
    other = dataclasses.replace(EXAMPLE, resolutions="128")
    with pytest.raises(ValueError, match="row X1 has resolutions 128, but .* has 64"):
        zoo_line(other, {"actual": REPORT})


def test_bad_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,table\nA1,first\n")
    with pytest.raises(ValueError, match="must have the columns"):
        read_rows(path)
    names = [field.name for field in dataclasses.fields(PublishedRow)]
    path.write_text(f"{','.join(names)}\nA1{',' * (len(names) - 1)}\n")
    with pytest.raises(ValueError, match="must say why: A1"):
        read_rows(path)


@pytest.fixture
def make_zoo() -> Callable[..., int]:
    main = runpy.run_path(str(ROOT / "tools" / "make_model_zoo.py"))["main"]
    return lambda *arguments: main(arguments)


def test_tool_writes_behind_the_mark(make_zoo: Callable[..., int], tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    lines = (ROOT / "docs" / "paper_rows.csv").read_text(encoding="utf-8").splitlines()
    rows.write_text("\n".join(line for line in lines if re.match("id,|A1,|C1,", line)))
    document = tmp_path / "ZOO.md"
    mark = "<!-- What follows is written by tools/make_model_zoo.py. -->\n"
    document.write_text(f"# Zoo\n\n{mark}old")
    arguments = ("--rows", str(rows), "--document", str(document), "--num-processes", "1")
    assert make_zoo(*arguments) == 0
    text = document.read_text()
    assert text.startswith("# Zoo\n\n<!--") and "old" not in text
    assert LINES["A1"] in text and "* C1 PVTv2-B5" in text


def test_tool_refuses_other_documents(
    make_zoo: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "ZOO.md"
    document.write_text("# Zoo\n")
    assert make_zoo("--document", str(document)) == 1
    assert "has no line" in capsys.readouterr().err
    assert make_zoo("--rows", str(tmp_path / "missing.csv")) == 1
    assert document.read_text() == "# Zoo\n"


STATED = re.findall(
    r"^\| \[PIIP-.*?\]\(\.\./(configs/\S+?)\) \| (.+) \|$",
    (ROOT / "docs" / "COSTS.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


@pytest.mark.parametrize(
    ("config", "cells"),
    [
        pytest.param(*stated, marks=[pytest.mark.slow] if number else [], id=stated[0])
        for number, stated in enumerate(STATED)
    ],
)
def test_table_of_costs(config: str, cells: str) -> None:
    paper, script, backbone, detector, photograph = cells.split(" | ")
    model = build_without_numbers(str(ROOT / config))
    reports = [count_costs(model, convention=name) for name in ("paper", "released_script")]
    reports += [count_costs(model.backbone.bottom_up), count_costs(model)]
    for stated, report, digits in zip(
        (paper, script, backbone, detector), reports, (0, 1, 1, 1), strict=True
    ):
        assert stated == f"{report.params / 1e6:.{digits}f} / {report.flops / 1e9:.{digits}f}"
    height, width, flops = re.fullmatch(r"(\d+) x (\d+): (.*)", photograph).groups()
    report = count_costs(model, image_size=(int(height), int(width)))
    assert report.image_size == (int(height), int(width))
    assert flops == f"{report.flops / 1e9:.1f}"


def test_there_are_tables_to_check() -> None:
    assert len(STATED) == 5 and len(LINES) > 60

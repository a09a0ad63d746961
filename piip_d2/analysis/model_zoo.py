"""The table of all published detectors: our configuration, its costs, and what was verified."""

from __future__ import annotations

import csv
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from math import floor
from pathlib import Path

from piip_d2.analysis.configs import build_without_numbers, count_conventions
from piip_d2.analysis.formats import giga, mega
from piip_d2.analysis.report import CostReport

Reports = Mapping[str, CostReport | str]

_HEADER = (
    "row",
    "what",
    "resolutions",
    "our config",
    "stated (M / G)",
    "`paper` (M / G)",
    "`released_script` (M / G)",
    "`actual`, backbone (M / G)",
    "`actual`, detector (M / G)",
    "box / mask AP, theirs",
    "verified here",
)
_NETWORK_PARTS = {
    "image_pyramid",
    "branches",
    "interactions",
    "stage_merges",
    "merge",
    "feature_maps",
}
_OF_THE_AUTHORS = ("paper", "released_script")
_CORRECTED = "__branch4fixed"
_NOTHING = "–"


@dataclass(frozen=True)
class PublishedRow:
    """A row of a published table.

    Args:
        id: Its name here.
        table: Title of its table.
        system: What it is.
        resolutions: Image sides with strokes between them, or nothing.
        mega_params: Stated parameters in millions, or nothing.
        giga_flops: Stated operations in thousand millions, or nothing.
        box_ap: Stated AP of boxes.
        mask_ap: Stated AP of masks, or nothing.
        config: Our configuration below ``configs/``, without suffix, or nothing.
        reference: Name of the authors' configuration, or nothing; with ``__branch4fixed`` behind
            it, what their code makes of it once the fourth branch is put right.
        outputs: The small network of this form whose outputs are compared with the authors', or
            nothing.
        second_program: The one whose outputs are compared with a second program's, or nothing.
        remark: What else has to be known; why there is no configuration.
    """

    id: str
    table: str
    system: str
    resolutions: str
    mega_params: str
    giga_flops: str
    box_ap: str
    mask_ap: str
    config: str
    reference: str
    outputs: str
    second_program: str
    remark: str


def read_rows(path: Path) -> list[PublishedRow]:
    """Reads the published rows.

    Args:
        path: A CSV file with the fields of :class:`PublishedRow` as columns.

    Returns:
        The rows in their order.

    Raises:
        ValueError: If a column is missing, or a row has neither configuration nor remark.
        OSError: If the file cannot be read.
    """
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        wanted = [field.name for field in fields(PublishedRow)]
        if reader.fieldnames is None or list(reader.fieldnames) != wanted:
            raise ValueError(f"{path} must have the columns {wanted}, got {reader.fieldnames}")
        rows = [PublishedRow(**record) for record in reader]
    bare = [row.id for row in rows if not row.config and not row.remark]
    if bare:
        raise ValueError(f"rows without a config must say why: {', '.join(bare)}")
    return rows


def count_rows(
    rows: Sequence[PublishedRow], configs: Path, num_processes: int = 1
) -> dict[str, Reports]:
    """Counts the costs of all configurations that rows name.

    Args:
        rows: The rows.
        configs: The folder of the configurations.
        num_processes: How many of them are counted at a time.

    Returns:
        By configuration the reports of all conventions, or why there is none.

    Raises:
        ValueError: If one cannot be built.
        OSError: If one is missing.
    """
    names = list(dict.fromkeys(row.config for row in rows if row.config))
    files = [str(configs / f"{name}.py") for name in names]
    if num_processes == 1:
        return dict(zip(names, map(_count, files), strict=True))
    # Started anew: threads of PyTorch do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        return dict(zip(names, pool.map(_count, files), strict=True))


def zoo_tables(rows: Sequence[PublishedRow], costs: Mapping[str, Reports]) -> str:
    """Writes the tables of the model zoo.

    Args:
        rows: The rows.
        costs: Reports by configuration, see :func:`count_rows`.

    Returns:
        Markdown, one section for each published table.
    """
    sections = []
    for table in dict.fromkeys(row.table for row in rows):
        own = [row for row in rows if row.table == table]
        lines = [f"## {table}", ""]
        if any(row.config for row in own):
            lines += [_line(_HEADER), _line(["---"] * len(_HEADER))]
            lines += [zoo_line(row, costs[row.config]) for row in own if row.config]
            lines.append("")
        lines += [f"* {row.id}: {row.remark}." for row in own if row.config and row.remark]
        lines += _without_config([row for row in own if not row.config])
        sections.append("\n".join(lines).rstrip())
    return "\n\n".join(sections) + "\n"


def zoo_line(row: PublishedRow, reports: Reports) -> str:
    """One row of a table.

    Args:
        row: The published row.
        reports: The reports of its configuration.

    Returns:
        A line of Markdown.

    Raises:
        ValueError: If the configuration has other resolutions than the row.
    """
    actual = reports["actual"]
    assert isinstance(actual, CostReport)
    resolutions = "/".join(str(side) for side in actual.resolutions)
    if resolutions != row.resolutions:
        raise ValueError(
            f"row {row.id} has resolutions {row.resolutions}, but {row.config} has {resolutions}"
        )
    network = [part for part in actual.parts if part.name.split(".")[0] in _NETWORK_PARTS]
    config = f"[{row.config.split('/')[-1]}](../configs/{row.config}.py)"
    return _line(
        [
            row.id,
            row.system,
            row.resolutions,
            config,
            f"{row.mega_params or _NOTHING} / {row.giga_flops or _NOTHING}",
            _costs(reports["paper"]),
            _costs(reports["released_script"]),
            _pair(sum(part.params for part in network), sum(part.flops for part in network)),
            _pair(actual.params, actual.flops),
            f"{row.box_ap or _NOTHING} / {row.mask_ap or _NOTHING}",
            ", ".join(_verified(row, reports)) or _NOTHING,
        ]
    )


def stated_costs_come_out(row: PublishedRow, report: CostReport | str) -> set[str]:
    """Compares stated costs with counted ones.

    Args:
        row: The published row.
        report: The costs of its configuration in one convention, or why there are none.

    Returns:
        ``"params"`` and ``"FLOPs"``, those of the two that are stated and come out. The authors'
        figures are printed with one decimal and then rounded, or cut off.
    """
    if isinstance(report, str):
        return set()
    found = set()
    for name, stated, counted in (
        ("params", row.mega_params, report.params / 1e6),
        ("FLOPs", row.giga_flops, report.flops / 1e9),
    ):
        if stated and int(stated) in (floor(counted), floor(round(counted, 1) + 0.5)):
            found.add(name)
    return found


def _count(config_file: str) -> Reports:
    return count_conventions(build_without_numbers(config_file))


def _verified(row: PublishedRow, reports: Reports) -> list[str]:
    stated = {name for name, value in zip(("params", "FLOPs"), _stated(row), strict=True) if value}
    found = []
    equal = {name: stated_costs_come_out(row, reports[name]) for name in _OF_THE_AUTHORS}
    best = max(equal, key=lambda name: len(equal[name]))
    if equal[best]:
        what = "costs" if equal[best] == stated else " and ".join(sorted(equal[best]))
        found.append(f"{what} (`{best}`)")
    if row.reference and not row.reference.endswith(_CORRECTED):
        found.append("weights")
    if row.outputs:
        found.append("outputs")
    if row.second_program:
        found.append("second program")
    return found


def _stated(row: PublishedRow) -> tuple[str, str]:
    return row.mega_params, row.giga_flops


def _without_config(rows: Sequence[PublishedRow]) -> list[str]:
    """One line for each reason, as there are many systems of others."""
    lines = []
    for remark in dict.fromkeys(row.remark for row in rows):
        named = [
            f"{row.id} {row.system} ({row.box_ap or _NOTHING} / {row.mask_ap or _NOTHING})"
            for row in rows
            if row.remark == remark
        ]
        lines.append(f"* {'; '.join(named)}: {remark}.")
    return lines


def _costs(report: CostReport | str) -> str:
    return _NOTHING if isinstance(report, str) else _pair(report.params, report.flops)


def _pair(params: int, flops: int) -> str:
    return f"{mega(params, 1)} / {giga(flops, 1)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""Accuracy and costs that the paper and the authors' repository report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from piip_d2.analysis.model_zoo import PublishedRow, read_rows

from .tradeoff_points import COCO, FROM_PAPER, FROM_REPOSITORY, TradeoffPoint

__all__ = ["paper_points"]


def paper_points(
    csv_file: str | Path, *, metric: str = "bbox/AP", tables: Sequence[str] = ("A",)
) -> list[TradeoffPoint]:
    """Reads the published points; all are of COCO's validation images.

    Args:
        csv_file: The published rows, ``docs/paper_rows.csv``.
        metric: "bbox/AP" or "segm/AP".
        tables: Letters that the ids of their rows begin with.

    Returns:
        The points of all rows that state both FLOPs and this AP, in their order.

    Raises:
        ValueError: If there is no such point, or the paper has no such metric.
        OSError: If the file cannot be read.
    """
    stated = {"bbox/AP": "box_ap", "segm/AP": "mask_ap"}
    if metric not in stated:
        raise ValueError(f"the paper states {' and '.join(stated)}, got {metric!r}")
    rows = [row for row in read_rows(Path(csv_file)) if row.id.rstrip("0123456789") in tables]
    rows = [row for row in rows if row.giga_flops and getattr(row, stated[metric])]
    if not rows:
        raise ValueError(
            f"no row of {csv_file} in tables {', '.join(tables)} states FLOPs and {metric}; name "
            "others, such as A or B"
        )
    return [_published(row, rows, float(getattr(row, stated[metric]))) for row in rows]


def _published(row: PublishedRow, rows: Sequence[PublishedRow], accuracy: float) -> TradeoffPoint:
    # What occurs at several resolutions is a line of its own; the others of a table are a group.
    table = [other for other in rows if other.table == row.table]
    counts = Counter(other.system for other in table)
    is_series = counts[row.system] > 1
    others = "other systems" if max(counts.values()) > 1 else row.table
    return TradeoffPoint(
        series=row.system if is_series else others,
        label=row.resolutions if is_series else row.system,
        source=FROM_REPOSITORY if row.id.startswith("R") else FROM_PAPER,
        dataset=COCO,
        accuracy=accuracy,
        flops={"paper": 1e9 * float(row.giga_flops)},
    )

"""The published points are those of the table, and named as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from piip_d2.visualization.published_points import paper_points

ROWS = Path(__file__).resolve().parents[2] / "docs" / "paper_rows.csv"


def test_main_table() -> None:
    points = paper_points(ROWS)
    assert len(points) == 11
    assert {point.source for point in points} == {"from the paper"}
    assert {point.dataset for point in points} == {"COCO val2017"}
    assert all(point.latency is None for point in points)
    series = {point.series for point in points}
    assert series == {"PIIP-TSB", "PIIP-SBL", "PIIP-TSBL", "other systems"}
    first = next(point for point in points if point.series == "PIIP-TSB")
    assert (first.label, first.accuracy, first.flops) == ("1120/896/448", 43.9, {"paper": 243e9})
    alone = [point.label for point in points if point.series == "other systems"]
    assert alone == ["ViTDet-B", "ViTDet-L"]


def test_masks_and_the_repository() -> None:
    points = paper_points(ROWS, metric="segm/AP", tables=("B", "R"))
    mixed = [point for point in points if point.source == "from the paper"]
    assert {point.series for point in mixed} == {
        "Convolutional and mixed pyramids, Mask R-CNN, 12 epochs"
    }
    assert next(point.accuracy for point in mixed if point.label == "C/V/V") == 42.4
    released = [point for point in points if point.source == "from the authors' repository"]
    assert {point.label for point in released} >= {"PIIP-H6B", "PIIP-H6B, faster"}


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the paper states bbox/AP and segm/AP, got 'bbox/AP50'"):
        paper_points(ROWS, metric="bbox/AP50")
    # This table states no FLOPs.
    with pytest.raises(ValueError, match="in tables C states FLOPs and bbox/AP; name others"):
        paper_points(ROWS, tables=("C",))
    with pytest.raises(FileNotFoundError):
        paper_points(tmp_path / "rows.csv")

"""Tables of results."""

from __future__ import annotations

from piip_d2.evaluation import per_class_table, results_table


def test_tasks_stand_side_by_side() -> None:
    results = {
        "bbox": {"AP": 41.239, "APl": float("nan"), "AP-ring": 60.0},
        "segm": {"AP": 34.0, "ARl": None},
        "inference": {"images": 195.0, "latency_median_ms": 98.7, "max_rss_mb": 927.5},
        "model": {"bbox": {"AP": 1.0}},
    }
    table, costs = results_table(results).split("\n\n")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert cells[0] == ["metric", "bbox", "segm"]
    assert cells[2:] == [["AP", "41.24", "34.00"], ["APl", "-", "-"], ["ARl", "-", "-"]]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in costs.splitlines()]
    assert lines[2:] == [
        ["images timed", "195"],
        ["ms per image, median", "99"],
        ["peak memory of a process, MiB", "928"],
    ]


def test_without_costs_or_numbers() -> None:
    assert results_table({"bbox": {"AP": 1.0}}).endswith("1.00 |")
    assert results_table({}) == ""
    assert "images" in results_table({"inference": {"images": 3.0}})


def test_classes_stand_below_one_another() -> None:
    rows = [
        {"name": "12", "objects": 3, "AP": 1.0, "AR": None},
        {"name": "b", "objects": 4, "AP": float("nan"), "AR": 2.5},
    ]
    table = per_class_table(rows)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert cells[0] == ["class", "objects", "AP", "AR"]
    assert cells[2:] == [["12", "3", "1.00", "-"], ["b", "4", "-", "2.50"]]

"""Results of an evaluation, as files want them."""

from __future__ import annotations

import numpy as np
import pytest

from piip_d2.evaluation.results import without_many_classes, without_nan


def test_nan_becomes_none_at_any_depth() -> None:
    rows = [{"name": "a", "objects": 2, "AP": float("nan")}, {"AP": np.float32(1.5)}]
    found = without_nan({"bbox": rows, "time": (float("nan"), 1)})
    assert found == {
        "bbox": [{"name": "a", "objects": 2, "AP": None}, {"AP": 1.5}],
        "time": [None, 1],
    }


@pytest.mark.parametrize(("num_classes", "num_left"), [(100, 201), (101, 1)])
def test_many_classes_are_left_out_of_each_task(num_classes: int, num_left: int) -> None:
    many = {"AP": 1.0}
    for metric in ("AP", "AR"):
        many |= {f"{metric}-{number}": 0.0 for number in range(num_classes)}
    few = {"AP": 2.0, "AP-cat": 3.0}
    results = {"segm": many, "bbox": few, "model": {"segm": many, "bbox": few}, "note": "text"}
    left = without_many_classes(results)
    assert left["bbox"] == left["model"]["bbox"] == few
    assert len(left["segm"]) == len(left["model"]["segm"]) == num_left
    assert left["note"] == "text"

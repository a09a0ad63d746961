from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detectron2.structures import BoxMode

from piip_d2.data.object_sizes import PyramidGrid, describe_sizes, measure_objects

GRID = PyramidGrid({"p3": 8, "p2": 4}, ((448, 40.0), (1120, 16.0)), 672, 1120)


def _record(*sides: float, height: int = 336, width: int = 560, **more: Any) -> dict[str, Any]:
    boxes = [{"bbox": [0, 0, side, side], "bbox_mode": BoxMode.XYWH_ABS} for side in sides]
    return {"height": height, "width": width, "annotations": boxes, **more}


def test_objects_are_measured() -> None:
    corners = {"bbox": [10, 10, 14, 19], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
    crowd = {"bbox": [0, 0, 99, 99], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 1}
    records = [_record(), {"height": 9, "width": 20, "annotations": [corners, crowd]}, _record(3)]
    sizes = measure_objects(records)
    assert (sizes.num_images, sizes.num_empty_images, len(sizes)) == (3, 1, 2)
    assert sizes.sides.tolist() == pytest.approx([6.0, 3.0])
    assert sizes.image_sizes.tolist() == [[9, 20], [336, 560]]


def test_sizes_are_those_that_the_detector_gets() -> None:
    # Twice as large; then limited by the short side, by the long side, and not at all.
    records = [_record(10), _record(10, height=672, width=700), _record(10, height=100, width=1120)]
    assert measure_objects(records).scaled(GRID).tolist() == pytest.approx([20, 10, 10])
    own_size = PyramidGrid({"p2": 4}, ())
    assert measure_objects(records).scaled(own_size).tolist() == [10, 10, 10]


def test_sizes_are_set_beside_strides_and_tokens() -> None:
    # Doubled: 2, 4, 7, 8, 18, 100.
    train = measure_objects([_record(1, 2, 3.5, 4, 9, 50)])
    text = describe_sizes({"train": train, "val": measure_objects([_record()])}, GRID)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")[1:6]]
    assert cells[0] == ["object size [pixels]", "beside the pyramid", "train", "val"]
    assert [row[0] for row in cells[2:]] == ["below 4", "4 to 8", "8 and more"]
    assert [row[2] for row in cells[2:]] == ["1 (17 %)", "2 (33 %)", "3 (50 %)"]
    assert [row[3] for row in cells[2:]] == ["0 (-)", "0 (-)", "0 (-)"]
    assert "short side of 672 pixels and a long one of at most 1120" in text
    # The branch that sees the largest image first.
    tokens = [line for line in text.split("\n") if line.startswith("A token")]
    assert "at 1120 pixels covers 16 x 16 pixels of such an image: 67 % of" in tokens[0]
    assert "at 448 pixels covers 40 x 40 pixels of such an image: 83 % of" in tokens[1]
    assert "Mind that" not in text


def test_too_small_objects_are_pointed_out() -> None:
    text = describe_sizes({"train": measure_objects([_record(*np.full(300, 1.0), 9)])}, GRID)
    assert "Mind that 100 % of the objects are smaller than a cell" in text
    few = describe_sizes({"train": measure_objects([_record(1, *np.full(300, 9.0))])}, GRID)
    assert "1 (< 1 %)" in few and "Mind" not in few

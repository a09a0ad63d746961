"""The shared data set is one that Detectron2 reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from detectron2.data.datasets import load_coco_json

if TYPE_CHECKING:
    from tests.conftest import TinyCoco


def test_tiny_coco_is_read_by_detectron2(tiny_coco: TinyCoco) -> None:
    records = load_coco_json(tiny_coco.json_file, tiny_coco.image_root, "tiny_coco_check")
    assert len(records) == tiny_coco.num_images
    assert [len(record["annotations"]) for record in records] == [2, 1, 2, 0]
    assert {a["category_id"] for record in records for a in record["annotations"]} == {0, 1}
    assert all(os.path.isfile(record["file_name"]) for record in records)


def test_data_sets_stay_out_of_the_checkout() -> None:
    root = os.environ["DETECTRON2_DATASETS"]
    assert not os.path.abspath(root).startswith(os.path.abspath(os.path.dirname(__file__)))

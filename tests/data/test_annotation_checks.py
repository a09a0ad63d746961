from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from piip_d2.data.checks import check_coco, read_coco_json
from piip_d2.data.mask_outlines import encode_rle, uncompressed_rle

from .conftest import Coco, Writer


def _check(content: Coco, write_coco: Writer) -> tuple[Coco, Any]:
    json_file, folder = write_coco(content)
    return check_coco(read_coco_json(json_file), json_file, folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"category_id": 99}, "annotation of an unknown category"),
        ({"category_id": [1]}, "annotation of an unknown category"),
        ({"image_id": 99}, "annotation with an image_id that no image has"),
        ({"image_id": None}, "annotation with an image_id that no image has"),
        ({"bbox": [1, 2, 3]}, "annotation without four finite numbers as bbox"),
        ({"bbox": [1, 2, 3, float("nan")]}, "annotation without four finite numbers as bbox"),
        ({"bbox": None, "segmentation": []}, "annotation without four finite numbers as bbox"),
        ({"bbox": [1, 2, 0, 5]}, "box without area"),
        ({"bbox": [1, 2, 5, -5]}, "box without area"),
        ({"bbox": [100, 2, 5, 5]}, "box outside its image"),
        ({"segmentation": [[1, 2, 3, 4]]}, "mask without three points, or of another size"),
        ({"segmentation": {"size": [9, 9], "counts": "x"}}, "mask without three points, or of"),
        ({"segmentation": {"size": [32, 48], "counts": [5]}}, "mask without three points, or of"),
        ({"segmentation": {"size": [32, 48], "counts": ["a"]}}, "mask without three points, or of"),
        (
            {"segmentation": {"size": [32, 48], "counts": "zzzz"}},
            "mask without three points, or of",
        ),
        (
            {"segmentation": {"size": [32, 48], "counts": "\x00"}},
            "mask without three points, or of",
        ),
        ({"segmentation": {"size": [32, 48], "counts": "o"}}, "mask without three points, or of"),
        ({"segmentation": {"size": [32, 48]}}, "mask without three points, or of"),
        ({"segmentation": "text"}, "mask without three points, or of another size"),
    ],
)
def test_annotations_that_cannot_be_used_are_counted(
    coco: Coco, write_coco: Writer, change: Coco, problem: str
):
    coco["annotations"][0].update(change)
    cleaned, summary = _check(coco, write_coco)
    ((found, count),) = summary.problems.items()
    assert found.startswith(problem)
    assert count == 1
    assert len(cleaned["annotations"]) == 11
    assert f"1 x {problem}" in summary.describe()


def test_annotations_are_mended_where_that_is_safe(coco: Coco, write_coco: Writer):
    entries = coco["annotations"]
    entries[0]["bbox"] = [-6, 4, 20, 10]
    entries[1]["bbox"] = [-0.5, 4, 20, 10]
    entries[2]["id"] = entries[3]["id"]
    entries[9]["id"] = 0
    del entries[4]["id"], entries[5]["iscrowd"], entries[6]["area"]
    entries[7]["ignore"] = 1
    entries[0]["segmentation"] = [[1, 2, 3, 4], [1, 1, 9, 1, 9, 9]]
    entries[8]["segmentation"] = []
    cleaned, summary = _check(coco, write_coco)
    mended = cleaned["annotations"]
    assert mended[0]["bbox"] == [0, 4, 14, 10]
    assert mended[0]["segmentation"] == [[1, 1, 9, 1, 9, 9]]
    assert mended[1]["bbox"] == [-0.5, 4, 20, 10]
    assert len({entry["id"] for entry in mended}) == 12
    assert mended[5]["iscrowd"] == 0
    assert mended[6]["area"] == 80
    assert mended[7]["iscrowd"] == 1
    assert "ignore" not in mended[7]
    assert "segmentation" not in mended[8]
    assert summary.problems == {
        "box that reached outside its image, clipped": 1,
        "annotation with no id of its own, or 0, given one": 3,
    }


def test_crowds_without_a_mask_get_their_box(coco: Coco, write_coco: Writer):
    for entry in coco["annotations"][6:]:
        entry["iscrowd"] = 1
    cleaned, summary = _check(coco, write_coco)
    assert cleaned["annotations"][6]["segmentation"] == [[2, 2, 12, 2, 12, 10, 2, 10]]
    assert (summary.num_masks, summary.num_crowds, summary.problems) == (6, 6, {})


def test_objects_without_a_mask_are_set_aside_on_demand(coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    cleaned, summary = check_coco(coco, json_file, folder, set_aside_unmasked=True)
    assert [entry["iscrowd"] for entry in cleaned["annotations"]] == [0] * 6 + [1] * 6
    assert cleaned["annotations"][6]["segmentation"] == [[2, 2, 12, 2, 12, 10, 2, 10]]
    assert (summary.num_annotations, summary.num_masks, summary.num_crowds) == (6, 6, 6)
    assert summary.problems == {"object without a mask, set aside as a crowd region": 6}


@pytest.mark.parametrize("packed", [False, True])
def test_run_lengths_of_every_shape_are_let_through(coco: Coco, write_coco: Writer, packed: bool):
    for number, entry in enumerate(coco["annotations"][:4]):
        image = coco["images"][entry["image_id"]]
        generator = np.random.default_rng(number)
        mask = generator.random((image["height"], image["width"])) < 0.25 * (number + 1)
        entry["segmentation"] = encode_rle(mask) if packed else uncompressed_rle(mask)
    _, summary = _check(coco, write_coco)
    assert summary.problems == {}
    assert summary.num_run_length_masks == 4


def test_suspicious_annotations_are_kept_and_counted(coco: Coco, write_coco: Writer):
    entries = coco["annotations"]
    entries[0]["segmentation"] = [[-9, 2, 12, 2, 12, 10, -9, 10]]
    entries[0]["bbox"] = [0, 2, 12, 8]
    entries[2]["segmentation"] = [[20, 20, 30, 20, 30, 30]]
    entries[4].update(bbox=[4, 4, 0.5, 8], segmentation=[])
    entries[7].update(bbox=entries[6]["bbox"], category_id=entries[6]["category_id"])
    coco["images"][5]["file_name"] = "4.png"
    cleaned, summary = _check(coco, write_coco)
    assert len(cleaned["annotations"]) == 12
    assert summary.problems == {}
    assert summary.suspicions == {
        "image that is listed twice": 1,
        "polygon that reaches outside its image": 1,
        "box that does not fit its mask": 1,
        "box less than a pixel wide or high": 1,
        "object with box and class of an earlier one": 1,
    }
    assert "To be looked at: 1 x image that is listed twice (4.png)" in summary.describe()


def test_boxes_as_corners_are_recognised(coco: Coco, write_coco: Writer):
    for entry in coco["annotations"]:
        left, top, width, height = entry["bbox"]
        entry["bbox"] = [left + 8, top + 8, left + 8 + width, top + 8 + height]
        entry.pop("segmentation", None)
    _, summary = _check(coco, write_coco)
    sign = "sign that all boxes are x, y, x, y; COCO's are x, y, width, height"
    assert summary.suspicions == {sign: 1}
    assert summary.examples[sign] == ("6 of 12 reach outside their images",)


def test_boxes_come_from_masks_where_they_lack(coco: Coco, write_coco: Writer):
    del coco["annotations"][0]["bbox"]
    mask = np.zeros((32, 48), dtype=bool)
    mask[3:9, 20:30] = True
    coco["annotations"][1].update(bbox=[], segmentation=uncompressed_rle(mask))
    cleaned, summary = _check(coco, write_coco)
    assert cleaned["annotations"][0]["bbox"] == [2, 2, 10, 8]
    assert cleaned["annotations"][1]["bbox"] == [20, 3, 10, 6]
    assert summary.problems == {"object without a box, given that of its mask": 2}


@pytest.mark.parametrize(
    "mask",
    [
        [[100, 100, 120, 100, 120, 120]],
        [[5, 5, 9, 5, 7, 5]],
        {"size": [32, 48], "counts": [32 * 48]},
    ],
)
def test_masks_without_anything_inside(coco: Coco, write_coco: Writer, mask: Any):
    coco["annotations"][0]["segmentation"] = mask
    _, summary = _check(coco, write_coco)
    assert summary.problems == {"mask without area, or outside its image": 1}

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from piip_d2.data.checks import check_coco, check_splits, read_coco_json
from piip_d2.data.mask_outlines import encode_rle, uncompressed_rle

from .conftest import Coco, Writer


def _check(content: Coco, write_coco: Writer) -> tuple[Coco, Any]:
    json_file, folder = write_coco(content)
    return check_coco(read_coco_json(json_file), json_file, folder)


def test_good_data_pass_unchanged(coco: Coco, write_coco: Writer):
    cleaned, summary = _check(coco, write_coco)
    assert cleaned == coco
    assert summary.problems == {}
    # Classes follow their ids, not their place in the list.
    assert summary.class_names == ("early", "late")
    assert summary.category_ids == (3, 7)
    assert summary.num_classes == 2
    assert (summary.num_images, summary.num_annotations, summary.num_masks) == (6, 12, 6)
    assert "6 images (0 without objects), 12 objects of 2 classes, 6 masks" in summary.describe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a JSON file, but reading it fails"),
        ("[1, 2]", "must hold an object with .* got a list"),
        ('{"images": [], "categories": []}', "must have a list 'annotations', found the keys"),
        ('{"images": {}, "annotations": [], "categories": []}', "must have a list 'images'"),
    ],
)
def test_what_is_not_coco_is_an_error(tmp_path: Path, text: str, message: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_coco_json(path)


def test_binary_and_missing_files(tmp_path: Path):
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=r"there must be a COCO-format JSON at .*a\.json"):
        read_coco_json(path)
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="must be a JSON file"):
        read_coco_json(path)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "must name at least one category"),
        (
            [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
            "must differ, got 1 for 'a' and for 'b'",
        ),
        ([{"id": "x", "name": "a"}], "whole number 'id' and a 'name', got"),
        ([{"id": 1}], "whole number 'id' and a 'name', got"),
    ],
)
def test_categories_are_checked(
    coco: Coco, write_coco: Writer, categories: list[Any], message: str
):
    coco["categories"] = categories
    with pytest.raises(ValueError, match=message):
        _check(coco, write_coco)


def test_missing_images_are_counted_and_named(
    coco: Coco, write_coco: Writer, caplog: pytest.LogCaptureFixture
):
    json_file, folder = write_coco(coco)
    for number in range(4):
        (folder / f"{number}.png").unlink()
    cleaned, summary = check_coco(coco, json_file, folder)
    assert summary.problems["image whose file is missing"] == 4
    assert summary.problems["annotation of an image that is not there"] == 8
    assert [image["id"] for image in cleaned["images"]] == [4, 5]
    assert "4 of the images" in caplog.text
    assert "0.png, 1.png, 2.png, ..." in caplog.text


def test_a_wrong_folder_is_an_error(coco: Coco, write_coco: Writer, tmp_path: Path):
    json_file, _ = write_coco(coco)
    with pytest.raises(FileNotFoundError, match=r"must lie in .*elsewhere, but none is there"):
        check_coco(coco, json_file, tmp_path / "elsewhere")


def test_images_without_name_id_or_size(coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    images = coco["images"]
    del images[0]["id"], images[1]["file_name"], images[2]["width"], images[3]["height"]
    images[4]["id"] = 5
    (folder / "3.png").write_text("damaged")
    cleaned, summary = check_coco(coco, json_file, folder)
    assert [image["file_name"] for image in cleaned["images"]] == ["2.png", "4.png"]
    assert cleaned["images"][0]["width"] == 48
    assert summary.problems["image without id or file_name"] == 2
    assert summary.problems["image with the id of an earlier one"] == 1
    assert summary.problems["image without width and height, read from its file"] == 1
    assert summary.problems["image without a size that cannot be read either"] == 1


def test_no_usable_image_is_an_error(coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    with pytest.raises(ValueError, match="must list at least one image"):
        check_coco({**coco, "images": []}, json_file, folder)
    with pytest.raises(
        ValueError, match="must list images that can be used, found: 1 x image with"
    ):
        check_coco({**coco, "images": [{}]}, json_file, folder)


def test_images_without_objects_are_counted(coco: Coco, write_coco: Writer):
    coco["annotations"] = coco["annotations"][:4]
    coco["annotations"][3]["iscrowd"] = coco["annotations"][2]["iscrowd"] = 1
    _, summary = _check(coco, write_coco)
    assert summary.num_empty_images == 5
    assert (summary.num_annotations, summary.num_crowds) == (2, 2)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"category_id": 99}, "annotation of an unknown category"),
        ({"category_id": [1]}, "annotation of an unknown category"),
        ({"image_id": 99}, "annotation of an image that is not there"),
        ({"image_id": None}, "annotation of an image that is not there"),
        ({"bbox": [1, 2, 3]}, "annotation without four finite numbers as bbox"),
        ({"bbox": [1, 2, 3, float("nan")]}, "annotation without four finite numbers as bbox"),
        ({"bbox": None}, "annotation without four finite numbers as bbox"),
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
        "annotation with no id of its own, given one": 2,
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


def test_nothing_usable_is_an_error(coco: Coco, write_coco: Writer):
    for entry in coco["annotations"]:
        entry["bbox"][2] = 0
    with pytest.raises(ValueError, match="annotations that can be used, found: 12 x box without"):
        _check(coco, write_coco)


def test_no_annotations_at_all_is_a_data_set_of_empty_images(coco: Coco, write_coco: Writer):
    coco["annotations"] = []
    assert _check(coco, write_coco)[1].num_empty_images == 6


def test_splits_must_have_the_same_classes(coco: Coco, write_coco: Writer, tmp_path: Path):
    _, train = _check(coco, write_coco)
    coco["categories"][0]["name"] = "other"
    _, val = _check(coco, write_coco)
    with pytest.raises(ValueError, match=r"same categories .*only in the first: \['late'\]"):
        check_splits(train, val)


def test_images_in_both_splits_are_found(coco: Coco, write_coco: Writer, tmp_path: Path):
    json_file, folder = write_coco(coco)
    _, train = check_coco(coco, json_file, folder)
    copies = tmp_path / "copies"
    copies.mkdir()
    for number in range(6):
        image = Image.new("RGB", (48 + number, 32)) if number else Image.open(folder / "0.png")
        image.save(copies / f"{number}.png")
    (copies / "0.png").write_bytes((folder / "0.png").read_bytes())
    _, val = check_coco(json.loads(json.dumps(coco)), json_file, copies)
    assert check_splits(train, val) == ["0.png"]

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from piip_d2.data.checks import check_classes, check_coco, read_coco_json

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


def test_missing_images_are_counted_and_named(coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    for number in range(4):
        (folder / f"{number}.png").unlink()
    cleaned, summary = check_coco(coco, json_file, folder)
    assert summary.problems["image whose file is missing"] == 4
    assert summary.problems["annotation of an image that cannot be used"] == 8
    assert [image["id"] for image in cleaned["images"]] == [4, 5]
    assert "4 x image whose file is missing (0.png, ...)" in summary.describe()
    assert "missing (0.png, 1.png, 2.png, ...)" in summary.describe_in_full()


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


def test_nothing_usable_is_an_error(coco: Coco, write_coco: Writer):
    for entry in coco["annotations"]:
        entry["bbox"][2] = 0
    with pytest.raises(ValueError, match="annotations that can be used, found: 12 x box without"):
        _check(coco, write_coco)


def test_no_annotations_at_all_is_a_data_set_of_empty_images(coco: Coco, write_coco: Writer):
    coco["annotations"] = []
    assert _check(coco, write_coco)[1].num_empty_images == 6


def test_splits_must_have_the_same_classes(coco: Coco, write_coco: Writer):
    _, train = _check(coco, write_coco)
    check_classes(train, train)
    coco["categories"][0]["name"] = "other"
    _, val = _check(coco, write_coco)
    with pytest.raises(ValueError, match=r"same categories .*only in the first: \['late'\]"):
        check_classes(train, val)


def test_names_that_other_systems_write(coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    (folder / "deep").mkdir()
    (folder / "0.png").rename(folder / "deep" / "0.png")
    # One letter, and a letter with an accent behind it.
    (folder / "1.png").rename(folder / "\u00fc.png")
    coco["images"][0]["file_name"] = "deep\\0.png"
    coco["images"][1]["file_name"] = "u\u0308.png"
    cleaned, summary = check_coco(coco, json_file, folder)
    assert [image["file_name"] for image in cleaned["images"][:2]] == ["deep/0.png", "\u00fc.png"]
    assert summary.problems == {"file name that is written otherwise on disk": 2}
    assert summary.num_images == 6


def test_files_are_opened_on_demand(coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    (folder / "0.png").write_bytes(b"damaged")
    Image.new("RGB", (48, 32)).save(folder / "1.png")
    Image.new("RGB", (9, 9)).save(folder / "2.png")
    assert check_coco(coco, json_file, folder)[1].suspicions == {}
    _, summary = check_coco(coco, json_file, folder, open_files=True)
    assert summary.num_images == 6
    ending = ": left out of training, its objects count as missed in evaluation"
    assert summary.suspicions == {
        f"image that cannot be read{ending}": 1,
        f"image that the JSON turns on its side{ending}": 1,
        f"image of another size than the JSON says{ending}": 1,
    }


def test_a_folder_near_by_is_named(coco: Coco, write_coco: Writer, tmp_path: Path):
    json_file, folder = write_coco(coco)
    for image in coco["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    with pytest.raises(FileNotFoundError, match=f"none is there.* start from: {tmp_path} would do"):
        check_coco(coco, json_file, folder)

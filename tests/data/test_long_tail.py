"""Data of many classes: repeated images, weights of the federated loss, LVIS' own file names."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from piip_d2.data import (
    federated_class_weights,
    get_dataset_dicts,
    get_repeated_dataset_dicts,
    register_coco_json,
)
from piip_d2.data.lvis_names import named_by_url
from tests.conftest import TinyCoco

NAME = "long_tail"


@pytest.fixture
def rare_and_common() -> Any:
    """200 images of class 0, of which two also show class 1, and one shows class 2."""
    entries = [{"file_name": str(i), "annotations": [{"category_id": 0}]} for i in range(200)]
    entries[0]["annotations"] += [{"category_id": 1}] * 2
    entries[1]["annotations"] += [{"category_id": 1}, {"category_id": 2}]
    DatasetCatalog.register(NAME, lambda: copy.deepcopy(entries))
    MetadataCatalog.get(NAME).thing_classes = ["common", "rare", "rarest"]
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.mark.usefixtures("rare_and_common")
def test_rare_images_come_several_times() -> None:
    # Factors are the root of threshold / frequency: 2 for the first, 2.83 for the second.
    entries = get_repeated_dataset_dicts(NAME, 0.04)
    counts = Counter(entry["file_name"] for entry in entries)
    assert counts["0"] == 2
    assert counts["1"] in (2, 3)
    assert all(counts[str(number)] == 1 for number in range(2, 200))
    assert [e["file_name"] for e in entries] == [
        e["file_name"] for e in get_repeated_dataset_dicts(NAME, 0.04)
    ]


@pytest.mark.usefixtures("rare_and_common")
def test_parts_of_a_repetition_are_rounded_at_random() -> None:
    # The root of 1.5: 22 of 100 images come twice, about.
    entries = get_repeated_dataset_dicts(NAME, 1.0)
    assert len(entries) == 200 - 2 + 10 + 14
    DatasetCatalog.remove(NAME)
    halves = [{"file_name": str(i), "annotations": [{"category_id": i % 2}]} for i in range(400)]
    DatasetCatalog.register(NAME, lambda: halves)
    assert 450 < len(get_repeated_dataset_dicts(NAME, 0.75)) < 530


@pytest.mark.usefixtures("rare_and_common")
def test_threshold_0_repeats_nothing() -> None:
    assert get_repeated_dataset_dicts(NAME, 0.0) == get_dataset_dicts(NAME)
    with pytest.raises(ValueError, match="repeat_threshold must be between 0 and 1, got 2"):
        get_repeated_dataset_dicts(NAME, 2)


@pytest.mark.usefixtures("rare_and_common")
def test_weights_are_roots_of_numbers_of_images() -> None:
    weights = federated_class_weights(NAME, num_classes=3)()
    torch.testing.assert_close(weights, torch.tensor([200.0, 2.0, 1.0]).sqrt())
    plain = federated_class_weights([NAME], num_classes=3, power=1.0)()
    assert plain.tolist() == [200, 2, 1]


def test_weights_of_lvis_are_those_of_detectron2() -> None:
    weights = federated_class_weights("lvis_v1_train", num_classes=1203)()
    assert weights.shape == (1203,)
    first = MetadataCatalog.get("lvis_v1_train").class_image_count[0]
    assert (first["id"], weights[0].item()) == (1, pytest.approx(first["image_count"] ** 0.5))


def test_weights_without_the_data() -> None:
    assert federated_class_weights("elsewhere_train", num_classes=4)().tolist() == [1, 1, 1, 1]


def test_images_named_by_their_address(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    content = json.loads(Path(tiny_coco.json_file).read_text())
    folder = Path(tiny_coco.image_root).name
    for image in content["images"]:
        image["coco_url"] = f"http://images.org/{folder}/{image.pop('file_name')}"
        image["neg_category_ids"] = [3]
    for category in content["categories"]:
        category["frequency"] = "c"
    json_file = tmp_path / "lvis.json"
    json_file.write_text(json.dumps(content))
    summary = register_coco_json("lvis_by_url", json_file, Path(tiny_coco.image_root).parent)
    assert summary.num_images == tiny_coco.num_images
    assert all(Path(e["file_name"]).is_file() for e in get_dataset_dicts("lvis_by_url"))
    # What the evaluation reads has what is LVIS' own.
    cleaned = json.loads(Path(MetadataCatalog.get("lvis_by_url").json_file).read_text())
    assert cleaned["images"][0]["neg_category_ids"] == [3]
    assert cleaned["categories"][0]["frequency"] == "c"


@pytest.mark.parametrize("entry", [{"file_name": "a"}, {"coco_url": "a.png"}, {"id": 1}, "no"])
def test_other_images_keep_their_names(entry: Any) -> None:
    assert named_by_url(entry) is entry

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode, PolygonMasks
from PIL import Image
from pycocotools import mask as mask_api

from piip_d2.data.cropped_masks import CroppedMasks
from piip_d2.data.image_reading import UnusableImageError
from piip_d2.data.mapper import PIIPDatasetMapper

POLYGON = [[4.0, 4.0, 20.0, 4.0, 20.0, 16.0, 4.0, 16.0]]


@pytest.fixture
def entry(tmp_path: Path) -> dict[str, Any]:
    """An image whose left half is red and right half blue, with two boxes."""
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:, :20, 0] = 255
    pixels[:, 20:, 2] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return {
        "file_name": str(tmp_path / "a.png"),
        "image_id": 1,
        "width": 40,
        "height": 24,
        "annotations": [
            _object([4, 4, 16, 12], 0, POLYGON),
            _object([22, 2, 10, 10], 1, [[22.0, 2.0, 32.0, 2.0, 32.0, 12.0]]),
        ],
    }


def _object(box: list[float], category: int, segmentation: Any) -> dict[str, Any]:
    return {
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "iscrowd": 0,
        "segmentation": segmentation,
    }


def _rle() -> dict[str, Any]:
    return mask_api.merge(mask_api.frPyObjects(POLYGON, 24, 40))


def test_training_sample(entry: dict[str, Any]):
    before = copy.deepcopy(entry)
    mapper = PIIPDatasetMapper(True, augmentations=[T.Resize((48, 80))], use_instance_mask=True)
    sample = mapper(entry)
    assert entry == before
    assert sample["image"].shape == (3, 48, 80)
    # RGB: red first.
    assert sample["image"][:, 10, 10].tolist() == [255, 0, 0]
    assert sample["instances"].gt_boxes.tensor[0].tolist() == [8, 8, 40, 32]
    assert sample["instances"].gt_classes.tolist() == [0, 1]
    assert isinstance(sample["instances"].gt_masks, PolygonMasks)
    assert "annotations" not in sample


def test_bgr_and_no_masks(entry: dict[str, Any]):
    mapper = PIIPDatasetMapper(True, augmentations=[], image_format="BGR")
    sample = mapper(entry)
    assert sample["image"][:, 10, 10].tolist() == [0, 0, 255]
    assert not sample["instances"].has("gt_masks")


def test_evaluation_sample(entry: dict[str, Any]):
    sample = PIIPDatasetMapper(False, augmentations=[])(entry)
    assert "annotations" not in sample
    assert "instances" not in sample
    assert (sample["height"], sample["width"]) == (24, 40)


def test_whole_numbers_are_not_rounded(entry: dict[str, Any]):
    box, corners = [5, 5, 15, 11], [5, 5, 20, 5, 20, 16, 5, 16]
    entry["annotations"] = [_object(box, 0, [corners])]
    # From 40 x 24 to 3 / 4 of it, and back.
    steps = [T.Resize((18, 30)), T.Resize((24, 40))]
    instances = PIIPDatasetMapper(True, augmentations=steps, use_instance_mask=True)(entry)[
        "instances"
    ]
    assert instances.gt_boxes.tensor[0].tolist() == [5, 5, 20, 16]
    assert instances.gt_masks.polygons[0][0].tolist() == corners


def test_usable_through_lazy_config(entry: dict[str, Any]):
    config = L(PIIPDatasetMapper)(
        is_train=True,
        augmentations=[L(T.ResizeShortestEdge)(short_edge_length=[12, 12], max_size=100)],
        image_format="RGB",
        use_instance_mask=True,
        recompute_boxes=True,
        instance_mask_format="bitmask",
    )
    sample = instantiate(config)(entry)
    assert sample["image"].shape == (3, 12, 20)
    assert isinstance(sample["instances"].gt_masks, BitMasks)


def test_run_lengths_beside_polygons(entry: dict[str, Any]):
    entry["annotations"][0]["segmentation"] = _rle()
    mapper = PIIPDatasetMapper(True, augmentations=[], use_instance_mask=True)
    masks = mapper(entry)["instances"].gt_masks
    assert isinstance(masks, CroppedMasks)
    assert masks.tensor[0].sum() == 16 * 12
    assert 30 <= masks.tensor[1].sum() <= 70


@pytest.mark.parametrize("with_run_lengths", [False, True])
def test_crops(entry: dict[str, Any], with_run_lengths: bool):
    if with_run_lengths:
        entry["annotations"][0]["segmentation"] = _rle()
    crop = T.CropTransform(0, 0, 14, 24)
    mapper = PIIPDatasetMapper(
        True, augmentations=[crop], use_instance_mask=True, recompute_boxes=True
    )
    instances = mapper(entry)["instances"]
    # The second object is outside, half of the first inside.
    assert instances.gt_boxes.tensor.tolist() == [[4, 4, 14, 16]]
    if with_run_lengths:
        assert instances.gt_masks.tensor.sum() == 10 * 12
    else:
        # Polygons are cut, not drawn.
        assert isinstance(instances.gt_masks, PolygonMasks)
        assert instances.gt_masks.area().tolist() == [10 * 12]


def test_crowds_and_objects_without_area_are_left_out(entry: dict[str, Any]):
    entry["annotations"][0]["iscrowd"] = 1
    entry["annotations"].append(_object([5, 5, 0, 4], 0, POLYGON))
    instances = PIIPDatasetMapper(True, augmentations=[])(entry)["instances"]
    assert instances.gt_classes.tolist() == [1]


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_images_without_objects_have_empty_masks(entry: dict[str, Any], mask_format: str):
    entry["annotations"] = []
    mapper = PIIPDatasetMapper(
        True, augmentations=[], use_instance_mask=True, instance_mask_format=mask_format
    )
    instances = mapper(entry)["instances"]
    assert len(instances) == 0
    assert len(instances.gt_masks) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)


def test_objects_without_mask(entry: dict[str, Any]):
    del entry["annotations"][0]["segmentation"]
    mapper = PIIPDatasetMapper(True, augmentations=[], use_instance_mask=True)
    assert mapper(entry)["instances"].gt_classes.tolist() == [1]
    del entry["annotations"][1]["segmentation"]
    # Another image stands in for it.
    with pytest.raises(UnusableImageError, match=r"a\.png: use_instance_mask=True needs annot"):
        mapper(entry)


def test_semantic_maps_follow_the_image(entry: dict[str, Any], tmp_path: Path):
    labels = np.zeros((24, 40), np.uint8)
    labels[:, 20:] = 3
    Image.fromarray(labels).save(tmp_path / "labels.png")
    entry["sem_seg_file_name"] = str(tmp_path / "labels.png")
    sample = PIIPDatasetMapper(True, augmentations=[T.HFlipTransform(40)])(entry)
    assert sample["sem_seg"].dtype == torch.int64
    assert sample["sem_seg"][0].tolist() == [3] * 20 + [0] * 20
    assert "sem_seg" not in PIIPDatasetMapper(False, augmentations=[])(entry)


def test_a_size_that_differs_from_the_file(entry: dict[str, Any]):
    entry["width"], entry["height"] = 24, 40
    mapper = PIIPDatasetMapper(True, augmentations=[])
    with pytest.raises(UnusableImageError, match="they say 24x40 and the file has 40x24 pixels"):
        mapper(entry)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (2000, 5)])
def test_tiny_and_long_images(entry: dict[str, Any], size: tuple[int, int]):
    Image.new("L", size).save(entry["file_name"])
    entry.update(width=size[0], height=size[1], annotations=[])
    sample = PIIPDatasetMapper(True, augmentations=[T.RandomFlip()])(entry)
    assert sample["image"].shape == (3, size[1], size[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"instance_mask_format": "rle"}, "must be one of .* got 'rle'"),
        ({"recompute_boxes": True}, "recompute_boxes=True needs masks"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PIIPDatasetMapper(True, augmentations=[], **arguments)

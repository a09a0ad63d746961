from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_api

from piip_d2.data.augmentation import MultiScaleCrop
from piip_d2.data.mapper import PIIPDatasetMapper
from piip_d2.data.seeding import sample_randomness

# A tenth of the released numbers.
NUMBERS: dict[str, Any] = {
    "short_edge_lengths": list(range(48, 81, 4)),
    "max_size": 133,
    "zoom_short_edge_lengths": [40, 50, 60],
    "zoom_crop_range": [38, 60],
    "max_crop": 102,
}


def make(**changes: Any) -> MultiScaleCrop:
    return MultiScaleCrop(**{**NUMBERS, **changes})


def run(
    augmentation: T.Augmentation, height: int, width: int, seed: int
) -> tuple[np.ndarray, T.TransformList]:
    """The image and the steps of one draw; each pixel says where it comes from."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows / height, columns / width, np.ones_like(rows)], axis=2)
    augmented = T.AugInput(image.astype(np.float32))
    with sample_randomness(0, seed):
        transforms = augmentation(augmented)
    return augmented.image, transforms


def kinds(transforms: T.TransformList) -> list[str]:
    return [type(transform).__name__ for transform in transforms.transforms]


def test_half_of_the_images_are_zoomed_into() -> None:
    augmentation = make()
    counts = Counter(tuple(kinds(run(augmentation, 48, 64, seed)[1])) for seed in range(400))
    resize, crop = "ResizeTransform", "CropTransform"
    assert set(counts) == {(resize, crop), (resize, crop, resize, crop)}
    assert 160 <= counts[resize, crop] <= 240


@pytest.mark.parametrize(("probability", "steps"), [(0.0, 2), (1.0, 4)])
def test_zoom_can_be_switched(probability: float, steps: int) -> None:
    augmentation = make(zoom_probability=probability)
    assert {len(run(augmentation, 48, 64, seed)[1]) for seed in range(20)} == {steps}


def test_all_lengths_are_drawn_equally_often() -> None:
    augmentation = make()
    lasts, firsts = Counter[int](), Counter[int]()
    for seed in range(600):
        resizes = run(augmentation, 60, 60, seed)[1].transforms[::2]
        lasts[min(resizes[-1].new_h, resizes[-1].new_w)] += 1
        if len(resizes) == 2:
            firsts[min(resizes[0].new_h, resizes[0].new_w)] += 1
    assert set(lasts) == set(NUMBERS["short_edge_lengths"])
    assert set(firsts) == set(NUMBERS["zoom_short_edge_lengths"])
    for counts in (lasts, firsts):
        mean = counts.total() / len(counts)
        assert all(0.6 * mean <= count <= 1.4 * mean for count in counts.values())


def test_zoom_reaches_both_ends_of_its_range() -> None:
    augmentation = make(
        zoom_probability=1.0, zoom_short_edge_lengths=[60], zoom_crop_range=[57, 59]
    )
    crops = [run(augmentation, 60, 60, seed)[1].transforms[1] for seed in range(60)]
    assert {crop.h for crop in crops} == {crop.w for crop in crops} == {57, 58, 59}
    # Height and width, and the place, are drawn apart.
    assert len({(crop.h, crop.w) for crop in crops}) == 9
    assert len({(crop.x0, crop.y0) for crop in crops}) > 4


@pytest.mark.parametrize(("height", "width"), [(48, 64), (30, 300), (300, 30), (9, 9), (500, 400)])
def test_result_never_exceeds_its_limit(height: int, width: int) -> None:
    augmentation = make()
    for seed in range(40):
        image, transforms = run(augmentation, height, width, seed)
        assert max(image.shape[:2]) <= 102
        resizes = transforms.transforms[::2]
        assert all(max(resize.new_h, resize.new_w) <= 133 for resize in resizes)
        last_resize = resizes[-1]
        # The limit takes no more than it must.
        assert image.shape[:2] == (min(last_resize.new_h, 102), min(last_resize.new_w, 102))


def test_images_keep_their_shape_up_to_a_pixel() -> None:
    augmentation = make()
    for seed in range(60):
        for resize in run(augmentation, 48, 64, seed)[1].transforms[::2]:
            stretch = (resize.new_h / resize.h) / (resize.new_w / resize.w)
            assert stretch == pytest.approx(1.0, abs=1.5 / 40)


def test_boxes_point_at_the_pixels_they_belong_to() -> None:
    augmentation = make()
    for seed in range(40):
        image, transforms = run(augmentation, 48, 64, seed)
        points = np.array([[10.0, 20.0], [40.0, 30.0]])
        for (x, y), (column, row) in zip(
            points, transforms.apply_coords(points.copy()), strict=True
        ):
            if 1 <= row < image.shape[0] - 1 and 1 <= column < image.shape[1] - 1:
                assert image[int(row), int(column), 0] == pytest.approx(y / 48, abs=0.04)
                assert image[int(row), int(column), 1] == pytest.approx(x / 64, abs=0.04)


def test_equal_seeds_give_equal_images() -> None:
    first, second = (run(make(), 48, 64, 7)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert len({run(make(), 48, 64, seed)[0].tobytes() for seed in range(20)}) > 10


@pytest.fixture
def entry(tmp_path: Path) -> dict[str, Any]:
    """A black image with a white rectangle, of which there are a box and a mask."""
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[24:72, 32:96] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rectangle = [32.0, 24.0, 96.0, 24.0, 96.0, 72.0, 32.0, 72.0]
    return {
        "file_name": str(tmp_path / "a.png"),
        "image_id": 1,
        "width": 128,
        "height": 96,
        "annotations": [
            {
                "bbox": [32, 24, 64, 48],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 0,
                "iscrowd": 0,
                "segmentation": [rectangle],
            }
        ],
    }


@pytest.mark.parametrize("with_run_lengths", [False, True])
def test_masks_and_boxes_stay_on_their_object(
    entry: dict[str, Any], with_run_lengths: bool
) -> None:
    if with_run_lengths:
        polygons = entry["annotations"][0]["segmentation"]
        entry["annotations"][0]["segmentation"] = mask_api.merge(
            mask_api.frPyObjects(polygons, 96, 128)
        )
    config = L(PIIPDatasetMapper)(
        is_train=True,
        augmentations=[L(T.RandomFlip)(), L(MultiScaleCrop)(**NUMBERS)],
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    mapper = instantiate(config)
    for seed in range(30):
        with sample_randomness(0, seed):
            sample = mapper(entry)
        height, width = sample["image"].shape[1:]
        instances = sample["instances"]
        assert instances.image_size == (height, width)
        seen = sample["image"][0] > 127
        if len(instances) == 0:
            assert seen.float().mean() < 0.1
            continue
        mask = instances.gt_masks.tensor[0]
        assert mask.shape == seen.shape
        # They may differ along the edges alone.
        assert (mask ^ seen).sum() <= 1.5 * (height + width)
        drawn = instances.gt_masks.get_bounding_boxes().tensor[0]
        assert torch.allclose(instances.gt_boxes.tensor[0], drawn, atol=1.5)


def test_semantic_maps_follow_the_image(entry: dict[str, Any], tmp_path: Path) -> None:
    labels = np.zeros((96, 128), np.uint8)
    labels[24:72, 32:96] = 3
    Image.fromarray(labels).save(tmp_path / "labels.png")
    entry["sem_seg_file_name"] = str(tmp_path / "labels.png")
    mapper = PIIPDatasetMapper(True, augmentations=[make()])
    for seed in range(10):
        with sample_randomness(0, seed):
            sample = mapper(entry)
        assert set(sample["sem_seg"].unique().tolist()) <= {0, 3}
        wrong = (sample["sem_seg"] == 3) ^ (sample["image"][0] > 127)
        assert wrong.sum() <= 3 * sum(wrong.shape)


def test_samples_are_a_function_of_the_seed(entry: dict[str, Any]) -> None:
    mapper = PIIPDatasetMapper(True, augmentations=[make()], use_instance_mask=True)
    samples = []
    for _ in range(2):
        with sample_randomness(3, 5):
            samples.append(mapper(entry))
        # What others draw in between does not matter.
        np.random.uniform(size=11)
    assert torch.equal(samples[0]["image"], samples[1]["image"])
    boxes = [sample["instances"].gt_boxes.tensor for sample in samples]
    assert torch.equal(boxes[0], boxes[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"short_edge_lengths": []}, r"short_edge_lengths must be positive numbers .* got \[\]"),
        ({"zoom_short_edge_lengths": [0]}, "zoom_short_edge_lengths must be positive"),
        ({"zoom_crop_range": [60, 38]}, r"shortest and a longest side, got \[60, 38\]"),
        ({"zoom_crop_range": [38]}, r"shortest and a longest side, got \[38\]"),
        ({"max_crop": 0}, r"max_size and max_crop must be positive .* got \[133, 0\]"),
        ({"zoom_probability": 1.5}, r"zoom_probability must be in \[0, 1\], got 1.5"),
    ],
)
def test_arguments_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_log_says_what_it_does() -> None:
    assert "zoom_probability=0.5" in repr(make())
    assert "ResizeShortestEdge" in repr(make())

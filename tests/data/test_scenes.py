from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_api

from piip_d2.data.scenes import SceneOptions, class_names, render_scene

SMALL = SceneOptions(image_size=64, object_size=(12, 32))


def _decode(segmentation: object, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, list):
        return mask_api.decode(mask_api.merge(mask_api.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list):
        segmentation = mask_api.frPyObjects(segmentation, height, width)
    return mask_api.decode(segmentation)


def test_a_scene_depends_on_seed_and_index_alone():
    first = render_scene(SMALL, 5, 3)
    np.random.seed(99)
    render_scene(SMALL, 5, 2)
    again = render_scene(SMALL, 5, 3)
    assert np.array_equal(first.image, again.image)
    assert first.objects == again.objects
    assert not np.array_equal(first.image, render_scene(SMALL, 5, 4).image)
    assert not np.array_equal(first.image, render_scene(SMALL, 6, 3).image)


def test_the_defaults_are_those_of_the_benchmark():
    for index in range(12):
        scene = render_scene(SceneOptions(), 1, index)
        assert scene.image.shape == (256, 256, 3)
        assert scene.image.dtype == np.uint8
        assert 2 <= len(scene.objects) <= 6
        for found in scene.objects:
            assert 0 <= found.category < 4
            # A pixel more than the circle round the object, by rounding.
            assert max(found.bbox[2:]) <= 111
            assert not found.is_crowd


def test_masks_boxes_and_semantic_map_agree():
    for index in range(8):
        scene = render_scene(SceneOptions(), 2, index)
        assert scene.semantic_map is not None
        painted = 0
        for found in scene.objects:
            mask = _decode(found.segmentation, 256, 256).astype(bool)
            x, y, width, height = (int(value) for value in found.bbox)
            inside = scene.semantic_map[y : y + height, x : x + width] == found.category + 1
            overlap = (mask[y : y + height, x : x + width] & inside).sum()
            # A polygon may run half a pixel beside the outline.
            assert overlap > 0.9 * found.area
            assert mask.sum() < 1.1 * found.area + 10
            painted += found.area
        # Only what is visible is annotated: areas add up to what is not background.
        assert painted == (scene.semantic_map > 0).sum()


def test_later_objects_leave_the_earlier_ones_visible():
    crowded = SceneOptions(image_size=96, num_objects=(8, 8), object_size=(30, 60), min_visible=0.5)
    for index in range(10):
        for found in render_scene(crowded, 0, index).objects:
            # The slimmest shape of 30 px covers 150 px at the least, half of which must show.
            assert found.area >= 75


def test_both_forms_of_masks_occur():
    kinds = {
        (found.category, type(found.segmentation))
        for index in range(20)
        for found in render_scene(SceneOptions(), 0, index).objects
    }
    ring = class_names(4).index("ring")
    assert (ring, dict) in kinds
    assert (0, list) in kinds


@pytest.mark.parametrize("size", [(80, 48), (48, 80), (33, 57)])
def test_any_size(size: tuple[int, int]):
    scene = render_scene(replace(SMALL, image_size=size), 0, 0)
    assert scene.image.shape == (size[1], size[0], 3)
    for found in scene.objects:
        x, y, width, height = found.bbox
        assert x >= 0
        assert y >= 0
        assert x + width <= size[0]
        assert y + height <= size[1]


def test_crowds_are_one_annotation_with_uncompressed_run_lengths():
    options = SceneOptions(image_size=128, object_size=(10, 30), crowd_fraction=1.0)
    for index in range(5):
        crowds = [found for found in render_scene(options, 0, index).objects if found.is_crowd]
        assert len(crowds) == 1
        assert isinstance(crowds[0].segmentation["counts"], list)
        assert _decode(crowds[0].segmentation, 128, 128).sum() == crowds[0].area


def test_empty_images_and_images_without_noise_or_map():
    options = replace(SMALL, empty_fraction=1.0, noise=0, with_semantic_map=False)
    scene = render_scene(options, 0, 0)
    assert scene.objects == []
    assert scene.semantic_map is None
    half = replace(SMALL, empty_fraction=0.5)
    empty = sum(not render_scene(half, 0, index).objects for index in range(40))
    assert 10 <= empty <= 30


def test_noise_stays_within_its_bound():
    quiet, noisy = (render_scene(replace(SMALL, noise=noise), 0, 0).image for noise in (0, 20))
    change = np.abs(noisy.astype(int) - quiet.astype(int))
    assert change.mean() > 2
    assert change.max() <= 21


def test_more_classes_than_shapes():
    assert class_names(4) == ["disc", "rectangle", "triangle", "ring"]
    assert len(set(class_names(80))) == 80
    options = replace(SMALL, num_classes=80)
    found = {one.category for i in range(60) for one in render_scene(options, 0, i).objects}
    assert max(found) > 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 0}, "image_size must be positive, got 0"),
        ({"num_classes": 81}, "between 1 and 80, got 81"),
        ({"num_objects": (3, 2)}, "fewest <= most, got"),
        ({"object_size": (24, 300)}, r"shorter side of the image \(64\), got"),
        ({"noise": 200}, "between 0 and 127, got 200"),
        ({"crowd_fraction": 1.5}, r"crowd_fraction must lie in \[0, 1\], got 1.5"),
        ({"min_visible": -0.1}, r"min_visible must lie in \[0, 1\]"),
    ],
)
def test_options_are_checked(change: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_seed_and_index_are_checked():
    with pytest.raises(ValueError, match=r"seed must lie in \[0, 2\*\*32\), got -1"):
        render_scene(SMALL, -1, 0)
    with pytest.raises(ValueError, match="index must lie"):
        render_scene(SMALL, 0, 2**32)


def test_scenes_need_neither_torch_nor_detectron2():
    program = (
        "import sys; sys.modules.update(torch=None, detectron2=None, cv2=None, timm=None); "
        "from piip_d2.data import SceneOptions, render_scene, write_scenes; "
        "render_scene(SceneOptions(), 0, 0)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)

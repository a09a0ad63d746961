from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image

from piip_d2.data.mapper import PIIPDatasetMapper
from piip_d2.data.pixels import TorchAugInput, resize_with_torch
from piip_d2.data.scenes import SceneOptions, render_scene


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return render_scene(SceneOptions(image_size=(160, 120)), 0, 0).image


@pytest.mark.parametrize("size", [(120, 160), (60, 80), (75, 101), (240, 320), (333, 444)])
def test_pytorch_resizes_nearly_as_pillow(picture: np.ndarray, size: tuple[int, int]):
    exact = T.ResizeTransform(120, 160, *size).apply_image(picture)
    fast = resize_with_torch(picture, *size)
    assert fast.shape == exact.shape
    assert fast.dtype == np.uint8
    difference = np.abs(fast.astype(int) - exact)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.1


def test_flipped_and_read_only_images(picture: np.ndarray):
    expected = resize_with_torch(np.ascontiguousarray(picture[:, ::-1]), 60, 80)
    assert np.array_equal(resize_with_torch(picture[:, ::-1], 60, 80), expected)
    frozen = np.asarray(Image.fromarray(picture))
    assert np.array_equal(resize_with_torch(frozen, 60, 80), resize_with_torch(picture, 60, 80))


def test_only_bilinear_resizing_of_colours_differs(picture: np.ndarray):
    labels = picture[:, :, 0]
    steps = [
        T.ResizeTransform(120, 160, 60, 80, Image.NEAREST),
        T.ResizeTransform(60, 80, 90, 120),
        T.HFlipTransform(120),
    ]
    exact, fast = T.AugInput(picture, sem_seg=labels), TorchAugInput(picture, sem_seg=labels)
    for given in (exact, fast):
        assert len(T.AugmentationList(steps)(given).transforms) == 3
    assert np.array_equal(exact.sem_seg, fast.sem_seg)
    assert np.abs(exact.image.astype(int) - fast.image).max() <= 2
    nearest, unchanged = TorchAugInput(picture), T.AugInput(picture)
    for given in (nearest, unchanged):
        given.transform(steps[0])
    assert np.array_equal(nearest.image, unchanged.image)


def test_mapper_takes_the_one_that_is_named(picture: np.ndarray, tmp_path: Path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    entry = {"file_name": str(tmp_path / "a.png"), "width": 160, "height": 120}
    steps = [T.ResizeShortestEdge(75, 200)]
    images = {
        name: PIIPDatasetMapper(False, augmentations=steps, resize_with=name)(entry)["image"]
        for name in ("pillow", "torch")
    }
    expected = resize_with_torch(picture, 75, 100).transpose(2, 0, 1)
    assert np.array_equal(images["torch"].numpy(), expected)
    plain = T.ResizeTransform(120, 160, 75, 100).apply_image(picture).transpose(2, 0, 1)
    assert np.array_equal(images["pillow"].numpy(), plain)
    with pytest.raises(ValueError, match=r"resize_with must be one of .* got 'opencv'"):
        PIIPDatasetMapper(False, augmentations=[], resize_with="opencv")

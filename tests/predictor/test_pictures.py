"""Images of every kind in the one form that a detector takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from piip_d2.predictor import to_rgb

CONFIG = Path(__file__).parents[1] / "visualization" / "small_config.py"


def test_exif_turns_files_and_pillow_images_upright(tmp_path: Path) -> None:
    lying = np.zeros((20, 30, 3), np.uint8)
    lying[:, :10] = 255
    image = Image.fromarray(lying)
    exif = image.getexif()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    for turned in (to_rgb(path), to_rgb(Image.open(path))):
        assert turned.shape == (30, 20, 3)
        assert turned[:10].min() == 255 and turned[10:].max() == 0


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_deep_grey_images(suffix: str, tmp_path: Path) -> None:
    ramp = np.arange(0, 2**16, 2**8, dtype=np.uint16).reshape(16, 16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(ramp).save(path)
    expected = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    for image in (path, Image.open(path), ramp, ramp[:, :, None]):
        np.testing.assert_array_equal(to_rgb(image), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_become_rgb(mode: str, picture: np.ndarray) -> None:
    rgb = to_rgb(Image.fromarray(picture).convert(mode))
    assert rgb.shape == picture.shape and rgb.dtype == np.uint8


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("missing.png", ValueError, "missing.png: there is no such file"),
        (CONFIG, ValueError, "small_config.py: the image cannot be read"),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, r"got \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "at least one pixel"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "got int64"),
        (7, TypeError, "a path, a Pillow image or a numpy array, got int$"),
        (None, TypeError, "got NoneType; cv2.imread gives that for a file it cannot read"),
        (torch.zeros(3, 4, 4), TypeError, r"got Tensor; .*tensor.permute\(1, 2, 0\)"),
        (["a.jpg"], TypeError, "got list; several images go to predict_batch"),
    ],
)
def test_unusable_images(image: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_rgb(image)  # type: ignore[arg-type]


def test_unknown_channel_order(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be 'RGB' or 'BGR', got 'GBR'"):
        to_rgb(picture, "GBR")  # type: ignore[arg-type]

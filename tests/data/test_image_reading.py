from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from piip_d2.data.image_reading import UnusableImageError, image_size, read_image, to_8_bits

PIXELS = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3


def test_color_and_its_order(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    assert np.array_equal(read_image(path), PIXELS)
    assert np.array_equal(read_image(path, "BGR"), PIXELS[:, :, ::-1])
    assert read_image(path, "L").shape == (6, 4, 1)
    with pytest.raises(ValueError, match=r"image_format must be one of .* got 'HSV'"):
        read_image(path, "HSV")


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr"])
def test_every_color_model(tmp_path: Path, mode: str):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    grey = np.full((5, 7, 3), 255, np.uint8)
    grey[:, 3:] = 0
    Image.fromarray(grey).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (5, 7, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image[0, :, 1] > 127, [True] * 3 + [False] * 4)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint16, [0, 100, 255], [0, 100, 255]),
        (np.uint16, [0, 2048, 4095], [0, 128, 255]),
        (np.uint16, [0, 32768, 65535], [0, 128, 255]),
        (np.int32, [-5, 32768, 65535], [0, 128, 255]),
        (np.float32, [0.0, 0.5, 1.0], [0, 128, 255]),
        (np.float32, [np.nan, 100.0, np.inf], [0, 100, 0]),
    ],
)
def test_deep_greys_become_8_bits(dtype: type, values: list[float], expected: list[int]):
    assert to_8_bits(np.asarray(values, dtype)).tolist() == expected


def test_16_bit_file(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(np.asarray([[0, 30000], [60000, 65535]], np.uint16)).save(path)
    assert read_image(path)[:, :, 0].tolist() == [[0, 117], [234, 255]]


def test_exif_turns_the_image_upright(tmp_path: Path):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    assert np.array_equal(read_image(path), np.rot90(PIXELS, -1))
    assert image_size(path) == (6, 4)


@pytest.mark.parametrize("damage", ["text", "cut short", "empty", "missing"])
def test_damaged_files_are_named(tmp_path: Path, damage: str):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    if damage == "text":
        path.write_text("no image")
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(UnusableImageError, match=r"a\.png: (the image cannot be read|there is no)"):
        read_image(path)


def test_size_of_a_damaged_file(tmp_path: Path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(UnusableImageError, match="cannot be read"):
        image_size(tmp_path / "a.png")

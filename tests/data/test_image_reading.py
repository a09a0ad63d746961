from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from piip_d2.data import image_reading
from piip_d2.data.image_reading import UnusableImageError, image_size, read_image, to_8_bits
from piip_d2.data.scenes import SceneOptions, render_scene

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


JPEG_KINDS = {
    "plain": {},
    "no subsampling": {"subsampling": 0, "quality": 95},
    "half subsampling": {"subsampling": 1},
    "progressive": {"progressive": True},
    "poor": {"quality": 5},
    "restarts": {"restart_marker_rows": 1},
}


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.fromarray(
        render_scene(SceneOptions(image_size=(131, 77), object_size=(20, 60)), 0, 0).image
    )


@pytest.mark.parametrize("kind", JPEG_KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_have_the_pixels_that_pillow_gives_them(
    tmp_path: Path, photograph: Image.Image, kind: str, mode: str
):
    path = tmp_path / "a.jpg"
    photograph.convert(mode).save(path, **JPEG_KINDS[kind])
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(read_image(path), expected)
    assert np.array_equal(read_image(path, "BGR"), expected[:, :, ::-1])
    grey = np.asarray(Image.open(path).convert("L"))
    assert np.array_equal(read_image(path, "L")[:, :, 0], grey)


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_every_orientation_of_a_jpeg(tmp_path: Path, photograph: Image.Image, orientation: int):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[274] = orientation
    photograph.save(path, exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    found = read_image(path)
    assert np.array_equal(found, expected)
    assert image_size(path) == (found.shape[1], found.shape[0])


def test_ordinary_jpegs_do_not_go_through_pillow(
    tmp_path: Path, photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    photograph.save(tmp_path / "a.jpg")
    photograph.save(tmp_path / "a.png")

    def refuse(*arguments: object) -> None:
        raise AssertionError("Pillow decodes")

    monkeypatch.setattr(image_reading, "upright_pixels", refuse)
    assert read_image(tmp_path / "a.jpg").shape == (77, 131, 3)
    with pytest.raises(AssertionError, match="Pillow decodes"):
        read_image(tmp_path / "a.png")
    # Without OpenCV Pillow does it all.
    monkeypatch.setattr(image_reading, "available", lambda name: False)
    with pytest.raises(AssertionError, match="Pillow decodes"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_damaged_jpegs_are_judged_as_by_pillow(
    tmp_path: Path, photograph: Image.Image, share: float
):
    path = tmp_path / "a.jpg"
    photograph.save(path, quality=95)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnusableImageError, match=r"a\.jpg: the image cannot be read"):
        read_image(path)
    # Wrong in the middle, but whole: both guess.
    place = int(share * len(content))
    path.write_bytes(content[:place] + b"\x55" * 4 + content[place + 4 :])
    try:
        expected = np.asarray(Image.open(path).convert("RGB"))
    except OSError:
        with pytest.raises(UnusableImageError):
            read_image(path)
    else:
        assert np.array_equal(read_image(path), expected)

"""Inputs are found, numbered and never overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from piip_d2.visualization.image_files import (
    find_images,
    number_images,
    plan_drawings,
    save_picture,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.png", "sub/deep/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_files_folders_and_globs(folder: Path) -> None:
    def names(*patterns: str) -> list[str]:
        return [path.name for path in find_images([str(folder / each) for each in patterns])]

    assert names("notes.txt") == ["notes.txt"]
    assert names("") == ["a.JPG", "b.png"]
    assert names("*.png") == ["b.png"]
    assert names("**/*.png") == ["b.png", "c.png", "d.png"]
    assert names("sub", "b.png", "", "sub/../b.png") == ["c.png", "b.png", "a.JPG"]


def test_pattern_without_images(folder: Path) -> None:
    for pattern in ("nothing.png", "*.gif"):
        with pytest.raises(FileNotFoundError, match="means no image"):
            find_images([str(folder / "b.png"), str(folder / pattern)])


def test_names_with_brackets_are_files_first(tmp_path: Path) -> None:
    path = tmp_path / "x[1].png"
    path.touch()
    assert find_images([str(path)]) == [path]


def test_equal_stems_get_different_drawings() -> None:
    images = [Path(name) for name in ("in/x.jpg", "other/x.png", "in/x-2.jpg", "in/X.bmp")]
    drawings = plan_drawings(images, Path("out"))
    assert [path.name for path in drawings] == ["x.png", "x-2.png", "x-2-2.png", "X-3.png"]
    assert {path.parent for path in drawings} == {Path("out")}


def test_inputs_are_not_overwritten(tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    image.touch()
    for output in (tmp_path, image):
        with pytest.raises(ValueError, match="x.png would overwrite an input image"):
            plan_drawings([image], output)


def test_one_file_for_one_image(tmp_path: Path) -> None:
    assert plan_drawings([Path("a.jpg")], tmp_path / "o.jpg") == [tmp_path / "o.jpg"]
    with pytest.raises(ValueError, match="o.jpg is one file for 2 drawings"):
        plan_drawings([Path("a.jpg"), Path("b.jpg")], tmp_path / "o.jpg")
    (tmp_path / "folder.png").mkdir()
    drawing = plan_drawings([Path("a.jpg")], tmp_path / "folder.png")
    assert drawing == [tmp_path / "folder.png" / "a.png"]


def test_numbers_come_from_the_names_where_all_are_numbers() -> None:
    assert number_images([Path("000139.jpg"), Path("7.png")]) == [139, 7]
    assert number_images([Path("000139.jpg"), Path("x.png")]) == [1, 2]
    assert number_images([Path("a/7.jpg"), Path("b/07.jpg")]) == [1, 2]


def test_picture_is_saved_by_suffix(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for suffix, name in ((".png", "PNG"), (".JPG", "JPEG"), (".tif", "TIFF")):
        save_picture(picture, tmp_path / f"x{suffix}")
        with Image.open(tmp_path / f"x{suffix}") as saved:
            assert (saved.format, saved.size) == (name, (7, 5))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), picture)

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from piip_d2.data import tree_tiles
from piip_d2.data.tree_tiles import build_trees, tile_starts


def _png(width: int, height: int) -> bytes:
    y, x = np.mgrid[:height, :width]
    file = io.BytesIO()
    pixels = np.stack([x % 256, y % 256, x // 256], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def _xml(*boxes: tuple[int, int, int, int]) -> bytes:
    objects = "".join(
        f"<object><name>Tree</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    return f"<annotation>{objects}</annotation>".encode()


def test_the_last_tile_ends_at_the_border():
    assert tile_starts(400) == [0]
    assert tile_starts(1035) == [0, 400, 635]
    # 49 pixels are left out.
    assert tile_starts(1249) == [0, 400, 800]
    assert tile_starts(150) == [0]


def test_boxes_go_to_the_tiles_that_show_most_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # In an image of 700 x 400: tiles at 0 and 300.
    boxes = [(10, 20, 30, 50), (310, 100, 390, 200), (390, 0, 405, 10), (395, 0, 415, 10)]
    train, val, plot = (
        "2019_YELL_2_528000_4978000_image_crop2",
        "2019_YELL_2_541000_4977000_image_crop",
        "OSBS_029",
    )
    files = {tree_tiles.LICENSE_MEMBER: b"the licence"}
    for name, width, found in (
        (train, 700, boxes),
        (val, 400, [(0, 0, 9, 9)]),
        (plot, 400, [(5, 5, 9, 9), (1, 1, 3, 3)]),
    ):
        files[f"deepforest/data/{name}.png"] = _png(width, 400)
        files[f"deepforest/data/{name}.xml"] = _xml(*found)
    monkeypatch.setattr(tree_tiles, "read_wheel", lambda wheel, members, search: files)
    build_trees(tmp_path, tmp_path)

    coco = json.loads((tmp_path / "annotations/train.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [
        f"{train}_0_0.png",
        f"{train}_300_0.png",
    ]
    tiles = {1: [], 2: []}
    for annotation in coco["annotations"]:
        tiles[annotation["image_id"]].append(annotation["bbox"])
    # The third box shows 10 of 15 columns in the first tile, the fourth 5 of 20.
    assert tiles[1] == [[10, 20, 20, 30], [310, 100, 80, 100], [390, 0, 10, 10]]
    assert tiles[2] == [[10, 100, 80, 100], [90, 0, 15, 10], [95, 0, 20, 10]]
    pixels = np.asarray(Image.open(tmp_path / "train" / f"{train}_300_0.png"))
    assert pixels.shape == (400, 400, 3)
    assert tuple(pixels[7, 5]) == (305 % 256, 7, 1)
    assert len(json.loads((tmp_path / "annotations/val.json").read_text())["annotations"]) == 3
    sources = (tmp_path / "SOURCES.txt").read_text()
    assert "MIT" in sources
    assert sources.endswith("the licence")


@pytest.mark.slow
def test_real_trees(tmp_path: Path):
    build_trees(tmp_path, tmp_path)
    for split, num_images, num_boxes in (("train", 34, 582), ("val", 10, 372)):
        coco = json.loads((tmp_path / f"annotations/{split}.json").read_text())
        assert len(coco["images"]) == num_images
        assert len(coco["annotations"]) == num_boxes
        assert len(list((tmp_path / split).iterdir())) == num_images

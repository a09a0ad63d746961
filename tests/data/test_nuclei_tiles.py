from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from piip_d2.data import nuclei_tiles
from piip_d2.data.nuclei_tiles import build_nuclei


def _tiff(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint16)).save(file, "tiff")
    return file.getvalue()


def test_quadrants_share_a_nucleus_between_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    labels = np.zeros((512, 512))
    labels[250:262, 10:20] = 5
    labels[300:310, 400:420] = 9
    # Two rows and three pixels of it lie in the last quadrant: a rim, not a nucleus.
    labels[240:258, 253:259] = 7
    files = {
        nuclei_tiles.IMAGE_MEMBER: _tiff(100 + labels * 20),
        nuclei_tiles.MASK_MEMBER: _tiff(labels),
        nuclei_tiles.LICENSE_MEMBER: b"the licence",
    }
    monkeypatch.setattr(nuclei_tiles, "read_wheel", lambda wheel, members, search: files)
    build_nuclei(tmp_path, tmp_path)
    train, val = (
        json.loads((tmp_path / f"annotations/{split}.json").read_text())
        for split in ("train", "val")
    )
    assert [image["file_name"] for image in train["images"]] == [
        "nuclei_0_0.png", "nuclei_256_0.png", "nuclei_0_256.png",
    ]  # fmt: skip
    boxes = [(entry["image_id"], *entry["bbox"]) for entry in train["annotations"]]
    assert boxes == [
        (1, 10, 250, 10, 6),
        (1, 253, 240, 3, 16),
        (2, 0, 240, 3, 16),
        (3, 10, 0, 10, 6),
    ]
    (only,) = val["annotations"]
    assert only["bbox"] == [144, 44, 20, 10]
    assert mask_api.decode(only["segmentation"]).sum() == only["area"] == 200
    image = np.asarray(Image.open(tmp_path / "val/nuclei_256_256.png"))
    assert image.dtype == np.uint8
    assert (image.min(), image.max()) == (0, 255)
    assert "BSD" in (tmp_path / "SOURCES.txt").read_text()


@pytest.mark.slow
def test_real_nuclei(tmp_path: Path):
    build_nuclei(tmp_path, tmp_path)
    for split, num_images, num_masks in (("train", 3, 108), ("val", 1, 28)):
        coco = json.loads((tmp_path / f"annotations/{split}.json").read_text())
        assert (len(coco["images"]), len(coco["annotations"])) == (num_images, num_masks)

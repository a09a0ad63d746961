"""Small data sets in COCO's format for the tests of loaders and checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

Coco = dict[str, Any]
# Writes a COCO dictionary and one grey image per entry, and returns the JSON and the folder.
Writer = Callable[[Coco], tuple[Path, Path]]


@pytest.fixture
def coco() -> Coco:
    """Six images, three wide and three high, each with two boxes; masks in the first three."""
    images, annotations = [], []
    for number in range(6):
        width, height = (48, 32) if number % 2 == 0 else (32, 48)
        images.append(
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        )
        for offset in (2, 14):
            annotation: Coco = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 7 if offset == 2 else 3,
                "bbox": [offset, offset, 10, 8],
                "area": 80,
                "iscrowd": 0,
            }
            if number < 3:
                corners = [offset, offset, offset + 10, offset, offset + 10, offset + 8]
                annotation["segmentation"] = [corners]
            annotations.append(annotation)
    categories = [{"id": 7, "name": "late"}, {"id": 3, "name": "early"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def write_coco(tmp_path: Path) -> Writer:
    """A function that writes a JSON and its images below the folder of the test."""

    def write(content: Coco) -> tuple[Path, Path]:
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for number, image in enumerate(content.get("images", [])):
            pixels = np.full((image["height"], image["width"], 3), 40 * number, np.uint8)
            Image.fromarray(pixels).save(folder / image["file_name"])
        json_file = tmp_path / "some.json"
        json_file.write_text(json.dumps(content))
        return json_file, folder

    return write


@pytest.fixture(autouse=True)
def _own_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets what a test registered, and gives it a root of its own."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)

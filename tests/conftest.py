"""What all tests share: isolation from the machine, seeds, devices and a small data set."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

# Rows: width and height of an image, then its objects as (category id, box, with RLE).
# The ids have a gap on purpose, one image is empty, and no two have the same shape.
_TINY_IMAGES: tuple[tuple[tuple[int, int], list[tuple[int, tuple[int, int, int, int], bool]]], ...]
_TINY_IMAGES = (
    ((96, 64), [(1, (8, 8, 30, 40), False), (3, (50, 20, 32, 28), True)]),
    ((64, 96), [(3, (10, 30, 44, 24), False)]),
    ((80, 80), [(1, (4, 4, 20, 20), True), (1, (40, 40, 30, 24), False)]),
    ((120, 72), []),
)
_COLOURS = {1: (200, 60, 40), 3: (40, 90, 210)}


@dataclasses.dataclass(frozen=True)
class TinyCoco:
    """A data set in COCO's format on disk."""

    json_file: str
    image_root: str
    num_images: int
    class_names: tuple[str, ...]


def pytest_configure(config: pytest.Config) -> None:
    """Keeps data sets out of the checkout, and windows and user settings out of the tests."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    # Set before anything imports detectron2, which reads the variable on import.
    if "DETECTRON2_DATASETS" not in os.environ:
        folder = tempfile.mkdtemp(prefix="piip_d2_datasets_")
        os.environ["DETECTRON2_DATASETS"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(autouse=True)
def _seed_and_threads() -> Iterator[None]:
    """Starts every test from the same random state; a test's number of threads ends with it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """Undoes what a test's ``setup_logger`` did, so that ``caplog`` sees the next one's messages.

    A handler left behind would write to the captured output of a test that has ended.
    """
    loggers = [logging.getLogger(name) for name in ("fvcore", "detectron2", "piip_d2")]
    handlers = [list(logger.handlers) for logger in loggers]
    yield
    changed = [logger.handlers != before for logger, before in zip(loggers, handlers, strict=True)]
    for logger, before in zip(loggers, handlers, strict=True):
        logger.handlers[:] = before
        logger.propagate = True
    if any(changed):
        # It remembers which handlers it has added.
        sys.modules["detectron2.utils.logger"].setup_logger.cache_clear()


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Runs a test on the CPU and, where there is one, on a CUDA device."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory: pytest.TempPathFactory) -> TinyCoco:
    """Four rendered images with ellipses of two classes, as polygons and as RLE."""
    root = tmp_path_factory.mktemp("tiny_coco")
    image_root = root / "images"
    image_root.mkdir()
    generator = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, ((width, height), objects) in enumerate(_TINY_IMAGES, start=1):
        noise = generator.integers(90, 130, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        for category_id, box, with_rle in objects:
            outline = _ellipse(box)
            ImageDraw.Draw(picture).polygon(outline, fill=_COLOURS[category_id])
            annotation: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "iscrowd": 0,
            }
            annotation |= {"category_id": category_id, "bbox": list(box)}
            annotations.append(annotation | _segmentation(outline, width, height, with_rle))
        name = f"{image_id:03d}.png"
        picture.save(image_root / name)
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
    categories = [{"id": 1, "name": "red"}, {"id": 3, "name": "blue"}]
    json_file = root / "annotations.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    json_file.write_text(json.dumps(content))
    return TinyCoco(str(json_file), str(image_root), len(images), ("red", "blue"))


def _ellipse(box: tuple[int, int, int, int]) -> list[tuple[float, float]]:
    left, top, width, height = box
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x = left + width / 2 * (1 + np.cos(angles))
    y = top + height / 2 * (1 + np.sin(angles))
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _segmentation(
    outline: list[tuple[float, float]], width: int, height: int, with_rle: bool
) -> dict[str, Any]:
    polygon = [coordinate for point in outline for coordinate in point]
    rle = coco_mask.merge(coco_mask.frPyObjects([polygon], height, width))
    area = float(coco_mask.area(rle))
    if with_rle:
        return {"area": area, "segmentation": rle | {"counts": rle["counts"].decode()}}
    return {"area": area, "segmentation": [polygon]}

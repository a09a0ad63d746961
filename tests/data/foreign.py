"""A data set as other people's tools leave them, with everything that may go wrong in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from piip_d2.data.mask_outlines import encode_rle, uncompressed_rle

WIDTH, HEIGHT = 96, 64
MISSING = "тест/пропал.png"
# Ids begin at 0 and have gaps; the list is in no order.
CATEGORIES = [{"id": 40, "name": "собака"}, {"id": 0, "name": "Käfer"}, {"id": 7, "name": "cat"}]
_ORIENTATION_TAG = 274


def write_foreign(folder: Path) -> tuple[Path, Path, Path]:
    """Writes images of all kinds and two JSONs.

    Args:
        folder: Where to write; made where it is not there.

    Returns:
        The JSONs for training and for validation, and the folder of the images.
    """
    images = folder / "images"
    generator = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    jsons = []
    for split, names in {"train": _write_images(images, generator, "a"), "val": None}.items():
        if names is None:
            names = _write_images(images, generator, "b")[:4]
        content = _coco([*names, MISSING] if split == "train" else names)
        path = folder / "annotations" / f"{split}.json"
        path.write_text(json.dumps(content, ensure_ascii=split == "val"), encoding="utf-8")
        jsons.append(path)
    return jsons[0], jsons[1], images


def _write_images(root: Path, generator: np.random.Generator, prefix: str) -> list[str]:
    """Writes one image of each kind; all are of the same upright size."""
    pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    deep = pixels[:, :, 0].astype(np.uint16) * 16
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = 6
    pictures: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        f"{prefix}/rgb ü.png": (Image.fromarray(pixels), {}),
        f"{prefix}/grey.png": (Image.fromarray(pixels[:, :, 0]), {}),
        f"{prefix}/deep/16 bit.png": (Image.fromarray(deep), {}),
        f"{prefix}/deep/cmyk.jpg": (Image.fromarray(pixels).convert("CMYK"), {}),
        f"{prefix}/палитра.png": (Image.fromarray(pixels).convert("P"), {}),
        f"{prefix}/turned.jpg": (turned, {"exif": exif}),
        f"{prefix}/without objects.jpg": (Image.fromarray(pixels), {}),
        f"{prefix}/transparent.png": (Image.fromarray(pixels).convert("RGBA"), {}),
    }
    for name, (picture, options) in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / name, **options)
    return list(pictures)


def _coco(names: list[str]) -> dict[str, Any]:
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for number, name in enumerate(names)
    ]
    annotations: list[dict[str, Any]] = []
    for image in images:
        if "without" in image["file_name"]:
            continue
        for entry in _objects():
            annotations.append({"id": len(annotations), "image_id": image["id"], **entry})
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def _objects() -> list[dict[str, Any]]:
    """Six objects with a mask of each kind, without one, and a crowd; some keys are missing."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:40, 20:50] = True
    mask[20:30, 30:40] = False
    square = [8, 8, 40, 8, 40, 40, 8, 40]
    return [
        {"category_id": 0, "bbox": [8, 8, 32, 32], "segmentation": [square]},
        {"category_id": 7, "bbox": [20, 10, 30, 30], "segmentation": uncompressed_rle(mask)},
        {"category_id": 40, "bbox": [20, 10, 30, 30], "segmentation": encode_rle(mask)},
        {"category_id": 7, "bbox": [50, 30, 40, 30]},
        {"category_id": 40, "bbox": [60, 2, 20.5, 20.5], "segmentation": [], "area": 420.25},
        {
            "category_id": 0,
            "bbox": [0, 0, 30, 20],
            "iscrowd": 1,
            "area": 600,
            "segmentation": {"counts": [0, HEIGHT * 30, HEIGHT * (WIDTH - 30)],
                             "size": [HEIGHT, WIDTH]},
        },
    ]  # fmt: skip

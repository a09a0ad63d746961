"""The ``nuclei`` data set: one microscope image with instance masks, in four quadrants.

All quadrants come from one image, so that a result on ``val`` says that the code works, not that
a model generalises.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .mask_outlines import encode_rle, mask_box
from .wheels import Wheel, read_wheel

__all__ = ["NUCLEI_WHEEL", "build_nuclei"]

NUCLEI_WHEEL = Wheel(
    requirement="stardist==0.9.2",
    file_name="stardist-0.9.2-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    sha256="2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023",
    megabytes=3.1,
)
TILE_SIZE = 256
# Fewer pixels than this are the cut-off rim of a nucleus.
MIN_PIXELS = 10
IMAGE_MEMBER = "stardist/data/images/img2d.tif"
MASK_MEMBER = "stardist/data/images/mask2d.tif"
LICENSE_MEMBER = "stardist-0.9.2.dist-info/licenses/LICENSE.txt"
# Upper left corners (x, y) of the quadrants.
QUADRANTS = {"train": [(0, 0), (256, 0), (0, 256)], "val": [(256, 256)]}
SOURCES = """\
Data set: nuclei (instance masks of cell nuclei; one class)

Every image in this folder is a quadrant of {size} x {size} pixels of one fluorescence microscope
image from the 2018 Data Science Bowl (Caicedo et al., Nucleus segmentation across imaging
experiments: the 2018 Data Science Bowl, Nature Methods 16, 2019), brightened to 8 bits.
The name of a tile ends in x and y of its upper left corner.
Image and masks are distributed in the Python package StarDist 0.9.2
(https://github.com/stardist/stardist), file
{wheel},
SHA-256 {sha256}, under the BSD licence of that package, which follows.

{license}"""


def build_nuclei(folder: Path, search: Path) -> None:
    """Writes quadrants, COCO JSONs and the text on their source into a folder.

    Args:
        folder: Where to write.
        search: Where a copy of the wheel may lie already.
    """
    files = read_wheel(NUCLEI_WHEEL, [IMAGE_MEMBER, MASK_MEMBER, LICENSE_MEMBER], search)
    image = _to_8_bits(_read_array(files[IMAGE_MEMBER]))
    labels = _read_array(files[MASK_MEMBER])
    (folder / "annotations").mkdir()
    for split, corners in QUADRANTS.items():
        (folder / split).mkdir()
        coco: dict[str, Any] = {
            "info": {"description": "Nuclei in a microscope image; see SOURCES.txt"},
            "licenses": [
                {
                    "id": 1,
                    "name": "BSD-3-Clause",
                    "url": "https://opensource.org/license/bsd-3-clause",
                }
            ],
            "categories": [{"id": 1, "name": "nucleus"}],
            "images": [],
            "annotations": [],
        }
        for x, y in corners:
            window = slice(y, y + TILE_SIZE), slice(x, x + TILE_SIZE)
            file_name = f"nuclei_{x}_{y}.png"
            Image.fromarray(image[window]).save(folder / split / file_name)
            _append(coco, labels[window], file_name)
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(coco))
    sources = SOURCES.format(
        size=TILE_SIZE,
        wheel=NUCLEI_WHEEL.file_name,
        sha256=NUCLEI_WHEEL.sha256,
        license=files[LICENSE_MEMBER].decode("utf-8"),
    )
    (folder / "SOURCES.txt").write_text(sources)


def _read_array(tiff: bytes) -> npt.NDArray[np.int64]:
    with Image.open(io.BytesIO(tiff)) as image:
        return np.asarray(image).astype(np.int64)


def _to_8_bits(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    lowest, highest = int(pixels.min()), max(int(pixels.max()), int(pixels.min()) + 1)
    # Whole numbers only, so that rounding is the same everywhere.
    return ((pixels - lowest) * 255 // (highest - lowest)).astype(np.uint8)


def _append(coco: dict[str, Any], labels: npt.NDArray[np.int64], file_name: str) -> None:
    image_id = len(coco["images"]) + 1
    height, width = labels.shape
    coco["images"].append(
        {"id": image_id, "file_name": file_name, "width": width, "height": height, "license": 1}
    )
    for label in np.unique(labels[labels > 0]):
        mask = labels == label
        if int(mask.sum()) < MIN_PIXELS:
            continue
        coco["annotations"].append(
            {
                "id": len(coco["annotations"]) + 1,
                "image_id": image_id,
                "category_id": 1,
                "bbox": mask_box(mask),
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": encode_rle(mask),
            }
        )

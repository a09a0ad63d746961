"""How large the objects of a data set are beside the maps and tokens of a pyramid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import BoxMode
from tabulate import tabulate

__all__ = ["ObjectSizes", "PyramidGrid", "describe_sizes", "measure_objects"]

FloatArray = npt.NDArray[np.float64]

# From this share on, too many objects are too small for a detector to be blamed.
_MANY = 0.25


@dataclass(frozen=True)
class ObjectSizes:
    """Sizes of the objects of a data set, crowds left out.

    Args:
        num_images: Images, with objects or without.
        num_empty_images: Those without.
        sides: (objects,), the square root of each box's area, in pixels of its file.
        image_sizes: (objects, 2), height and width of each object's image.
    """

    num_images: int
    num_empty_images: int
    sides: FloatArray
    image_sizes: FloatArray

    def __len__(self) -> int:
        """Returns the number of objects."""
        return len(self.sides)

    def scaled(self, grid: PyramidGrid) -> FloatArray:
        """Returns (objects,), the sides in pixels of the images as the detector gets them."""
        factors: dict[tuple[float, float], float] = {}
        for height, width in np.unique(self.image_sizes, axis=0).tolist():
            factors[height, width] = grid.enlargement(int(height), int(width))
        scale = [factors[height, width] for height, width in self.image_sizes.tolist()]
        return self.sides * np.asarray(scale, dtype=np.float64)


@dataclass(frozen=True)
class PyramidGrid:
    """What a detector sees an image on.

    Args:
        strides: Pixels of the detector's image from one cell to the next, by name of each map.
        tokens: For each branch, its resolution and the same for one of its tokens. A branch of a
            smaller resolution sees a smaller image, in which a token covers more.
        short_side: Length of the short side of an image, where the long one allows it; 0 for
            images that keep their size.
        long_side: Longest that the long side may become.
    """

    strides: Mapping[str, float]
    tokens: tuple[tuple[int, float], ...]
    short_side: int = 0
    long_side: int = 0

    def enlargement(self, height: int, width: int) -> float:
        """Returns how much longer the sides of an image are when the detector gets it."""
        if not self.short_side:
            return 1.0
        resized = ResizeShortestEdge.get_output_shape(
            height, width, self.short_side, self.long_side
        )
        return max(resized) / max(height, width)


def measure_objects(records: Iterable[Mapping[str, Any]]) -> ObjectSizes:
    """Measures the objects of entries in Detectron2's format."""
    num_images = num_empty = 0
    areas: list[float] = []
    image_sizes: list[tuple[int, int]] = []
    for record in records:
        boxes = [
            BoxMode.convert(entry["bbox"], entry["bbox_mode"], BoxMode.XYWH_ABS)
            for entry in record.get("annotations", ())
            if not entry.get("iscrowd", 0)
        ]
        num_images += 1
        num_empty += not boxes
        areas += [float(box[2]) * float(box[3]) for box in boxes]
        image_sizes += [(record["height"], record["width"])] * len(boxes)
    sides = np.sqrt(np.maximum(np.asarray(areas, dtype=np.float64), 0.0))
    return ObjectSizes(
        num_images, num_empty, sides, np.asarray(image_sizes, np.float64).reshape(-1, 2)
    )


def describe_sizes(splits: Mapping[str, ObjectSizes], grid: PyramidGrid) -> str:
    """Writes what to say about the sizes of objects beside a pyramid.

    Args:
        splits: Objects by the name of their split, those to train on first.
        grid: What to compare them with.

    Returns:
        Lines of text.
    """
    scale = (
        f"at a short side of {grid.short_side} pixels and a long one of at most {grid.long_side}"
        if grid.short_side
        else "of their own size"
    )
    intro = f"Object sizes (square root of the box's area) in images {scale}, as in evaluation:"
    trained = next(iter(splits.values()))
    return "\n".join([intro, _table(splits, grid), *_token_sentences(trained, grid)])


def _table(splits: Mapping[str, ObjectSizes], grid: PyramidGrid) -> str:
    """Returns a table of how many objects lie between the strides of the maps."""
    names = sorted(grid.strides, key=lambda name: grid.strides[name])
    scaled = {split: sizes.scaled(grid) for split, sizes in splits.items()}
    edges = [0.0, *(grid.strides[name] for name in names), np.inf]
    rows = []
    for index, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        if index == 0:
            size, meaning = f"below {high:g}", f"smaller than a cell of {names[0]}, the finest map"
        else:
            size = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
            meaning = f"at least a cell of {names[index - 1]} (stride {low:g})"
        row = [size, meaning]
        for sides in scaled.values():
            count = int(np.sum((sides >= low) & (sides < high)))
            row.append(f"{count} ({_share(count, len(sides))})")
        rows.append(row)
    header = ["object size [pixels]", "beside the pyramid", *splits]
    aligned = ("left", "left", *("right" for _ in splits))
    return tabulate(rows, headers=header, tablefmt="github", colalign=aligned)


def _token_sentences(sizes: ObjectSizes, grid: PyramidGrid) -> list[str]:
    sides = sizes.scaled(grid)
    sentences = []
    for resolution, covered in sorted(set(grid.tokens), reverse=True):
        smaller = int(np.sum(sides < covered))
        sentences.append(
            f"A token of the branch at {resolution} pixels covers {covered:.3g} x {covered:.3g} "
            f"pixels of such an image: {_share(smaller, len(sizes))} of the objects are smaller."
        )
    finest = min(grid.strides.values(), default=0.0)
    too_small = int(np.sum(sides < finest))
    if len(sizes) and too_small > _MANY * len(sizes):
        sentences.append(
            f"Mind that {_share(too_small, len(sizes))} of the objects are smaller than a cell of "
            "the finest map and will hardly be found: raise the resolutions, or cut the images "
            "into tiles."
        )
    return sentences


def _share(count: int, total: int) -> str:
    if not total:
        return "-"
    share = 100.0 * count / total
    # A few objects among many are not none.
    return f"{share:.0f} %" if share >= 1 or not count else "< 1 %"

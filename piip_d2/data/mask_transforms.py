"""Masks through augmentation, without a bitmap of the whole image for each step of it.

Polygons stay polygons, also through crops. Run lengths are unpacked, and what augmentation leaves
of each object is taken from them at once, within the object's own box.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pycocotools.mask as mask_api
from detectron2.data import transforms as T
from PIL import Image

from .cropped_masks import CroppedMasks

__all__ = ["clip_polygon", "crop_masks", "draw_masks", "transform_polygons"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
RunLengths = dict[str, Any]
# Rows and columns of an image.
Region = tuple[slice, slice]
# One object: its polygons, or its run lengths at the size of the file.
Mask = list[FloatArray] | RunLengths

# What changes colours alone.
_COLOR_TRANSFORMS = (T.NoOpTransform, T.BlendTransform, T.ColorTransform, T.PILColorTransform)
_OUTSIDE = -1


class _Origin(NamedTuple):
    """The row and the column of the file that each row and column of the result comes from."""

    rows: IntArray
    columns: IntArray


def transform_polygons(
    objects: Sequence[Sequence[FloatArray]], transforms: T.TransformList
) -> list[list[FloatArray]]:
    """Returns the polygons of objects after augmentation; crops cut them at their border.

    Args:
        objects: For each object its polygons, (n, 2) each; they are not changed.
        transforms: What was done to the image.

    Returns:
        The same in the pixels of the result, without the polygons of which nothing is left.
    """
    owners = [number for number, polygons in enumerate(objects) for _ in polygons]
    outlines = [np.array(outline) for polygons in objects for outline in polygons]
    for transform in transforms.transforms:
        if isinstance(transform, T.CropTransform):
            shifted = _apply_coords(transform, outlines)
            clipped = [clip_polygon(points, transform.w, transform.h) for points in shifted]
            owners = [n for n, points in zip(owners, clipped, strict=True) if len(points)]
            outlines = [points for points in clipped if len(points)]
        elif type(transform).apply_polygons is T.Transform.apply_polygons:
            outlines = _apply_coords(transform, outlines)
        else:
            # A transform with a way of its own may give more polygons than it got.
            groups = [transform.apply_polygons([points]) for points in outlines]
            owners = [n for n, group in zip(owners, groups, strict=True) for _ in group]
            outlines = [points for group in groups for points in group]
    kept: list[list[FloatArray]] = [[] for _ in objects]
    for owner, points in zip(owners, outlines, strict=True):
        kept[owner].append(points)
    return kept


def clip_polygon(points: FloatArray, width: float, height: float) -> FloatArray:
    """Cuts off what lies outside of a window (Sutherland and Hodgman, 1974).

    Where the window parts a polygon, its pieces stay joined by lines along the border, which have
    no area.

    Args:
        points: (n, 2), the corners x, y in order.
        width: The window reaches from 0 to this many pixels.
        height: The same for y.

    Returns:
        (m, 2); none where no area is left.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    if low[0] >= width or low[1] >= height or high[0] <= 0 or high[1] <= 0:
        return points[:0]
    for axis, bound, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        depth = sign * (points[:, axis] - bound)
        inside = depth >= 0
        if inside.all():
            continue
        following, depth_after = np.roll(points, -1, axis=0), np.roll(depth, -1)
        crosses = inside != np.roll(inside, -1)
        share = np.divide(depth, depth - depth_after, out=np.zeros_like(depth), where=crosses)
        cuts = points + share[:, None] * (following - points)
        cuts[:, axis] = bound
        # Each corner that is inside, then the place where its edge crosses the border.
        candidates = np.stack([points, cuts], axis=1).reshape(-1, 2)
        points = candidates[np.stack([inside, crosses], axis=1).reshape(-1)]
    return points if _doubled_area(points) > 0 else points[:0]


def draw_masks(
    masks: Sequence[Mask],
    transforms: T.TransformList,
    file_size: tuple[int, int],
    image_size: tuple[int, int],
) -> tuple[BoolArray, BoolArray]:
    """Draws the masks of objects after augmentation.

    Args:
        masks: One for each object.
        transforms: What was done to the image.
        file_size: Height and width of the file.
        image_size: Height and width of the result.

    Returns:
        The masks (objects, height, width), and (objects,) whether anything of each is left.
    """
    # Pages that nothing is drawn on are never touched.
    drawn = np.zeros((len(masks), *image_size), dtype=bool)
    regions = _draw(drawn, masks, transforms, file_size)
    is_left = [canvas[region].any() for canvas, region in zip(drawn, regions, strict=True)]
    return drawn, np.asarray(is_left, dtype=bool)


def crop_masks(
    masks: Sequence[Mask],
    transforms: T.TransformList,
    file_size: tuple[int, int],
    image_size: tuple[int, int],
) -> tuple[CroppedMasks, BoolArray]:
    """Draws the masks of objects after augmentation, and keeps the part with each object.

    Args:
        masks: One for each object.
        transforms: What was done to the image.
        file_size: Height and width of the file.
        image_size: Height and width of the result.

    Returns:
        The masks, and (objects,) whether anything of each is left.
    """
    drawn = np.zeros((len(masks), *image_size), dtype=bool)
    regions = _draw(drawn, masks, transforms, file_size)
    crops = [
        CroppedMasks.crop(canvas, rows, columns)
        for canvas, (rows, columns) in zip(drawn, regions, strict=True)
    ]
    is_left = np.asarray([bool(crop.pixels.any()) for crop in crops], dtype=bool)
    return CroppedMasks(crops, image_size), is_left


def _apply_coords(transform: T.Transform, outlines: list[FloatArray]) -> list[FloatArray]:
    """Moves the corners of all polygons at once."""
    if not outlines:
        return outlines
    moved = transform.apply_coords(np.concatenate(outlines))
    ends = np.cumsum([len(points) for points in outlines])
    return np.split(moved, ends[:-1])


def _doubled_area(points: FloatArray) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def _draw(
    drawn: BoolArray,
    masks: Sequence[Mask],
    transforms: T.TransformList,
    file_size: tuple[int, int],
) -> Iterator[Region]:
    """Draws one mask after the other, and yields where anything of it can be."""
    origin = _origin(transforms, *file_size)
    outlined = [mask if isinstance(mask, list) else [] for mask in masks]
    outlines = transform_polygons(outlined, transforms)
    for number, (canvas, mask) in enumerate(zip(drawn, masks, strict=True)):
        if isinstance(mask, list):
            yield _draw_polygons(canvas, outlines[number])
        elif origin is None:
            canvas[:] = _step_by_step(mask_api.decode(mask), transforms)
            yield slice(0, canvas.shape[0]), slice(0, canvas.shape[1])
        else:
            yield _draw_run_lengths(canvas, mask, origin)


def _origin(transforms: T.TransformList, height: int, width: int) -> _Origin | None:
    """Follows rows and columns through augmentation; None where they do not stay straight."""
    rows, columns = (np.arange(size, dtype=np.int32) for size in (height, width))
    for transform in transforms.transforms:
        if isinstance(transform, T.CropTransform):
            rows = rows[transform.y0 : transform.y0 + transform.h]
            columns = columns[transform.x0 : transform.x0 + transform.w]
        elif isinstance(transform, T.HFlipTransform):
            columns = columns[::-1]
        elif isinstance(transform, T.VFlipTransform):
            rows = rows[::-1]
        elif isinstance(transform, T.ResizeTransform):
            rows, columns = _nearest(rows, transform.new_h), _nearest(columns, transform.new_w)
        elif isinstance(transform, T.PadTransform):
            rows = np.pad(rows, (transform.y0, transform.y1), constant_values=_OUTSIDE)
            columns = np.pad(columns, (transform.x0, transform.x1), constant_values=_OUTSIDE)
        elif not isinstance(transform, _COLOR_TRANSFORMS):
            return None
    return _Origin(rows, columns)


def _nearest(places: IntArray, size: int) -> IntArray:
    """Stretches a line as Pillow does it without mixing pixels, with its rounding."""
    line = Image.fromarray(np.ascontiguousarray(places)[None])
    return np.asarray(line.resize((size, 1), Image.Resampling.NEAREST))[0]


def _step_by_step(mask: BoolArray, transforms: T.TransformList) -> BoolArray:
    for transform in transforms.transforms:
        if isinstance(transform, T.PadTransform):
            # Its value for padding is one of semantic maps.
            sides = ((transform.y0, transform.y1), (transform.x0, transform.x1))
            mask = np.pad(mask, sides)
        else:
            mask = transform.apply_segmentation(mask)
    return mask


def _draw_run_lengths(canvas: BoolArray, mask: RunLengths, origin: _Origin) -> Region:
    left, top, width, height = (int(value) for value in mask_api.toBbox(mask))
    rows = _range_within(origin.rows, top, top + height)
    columns = _range_within(origin.columns, left, left + width)
    unpacked = mask_api.decode(mask)[origin.rows[rows]]
    canvas[rows, columns] = unpacked[:, origin.columns[columns]]
    return rows, columns


def _range_within(places: IntArray, start: int, stop: int) -> slice:
    """Finds the part of a line, ascending or descending, with places from start up to stop."""
    found = np.flatnonzero((places >= start) & (places < stop))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)


def _draw_polygons(canvas: BoolArray, polygons: list[FloatArray]) -> Region:
    if not polygons:
        return slice(0, 0), slice(0, 0)
    corners = np.concatenate(polygons)
    low, high = (
        np.clip(ends, 0, canvas.shape[::-1]).astype(int).tolist()
        for ends in (np.floor(corners.min(axis=0)) - 1, np.ceil(corners.max(axis=0)) + 1)
    )
    rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
    if canvas[rows, columns].size:
        # Not moved to the corner, where corners of polygons could be rounded otherwise.
        flat = [points.reshape(-1) for points in polygons]
        drawn = mask_api.decode(mask_api.merge(mask_api.frPyObjects(flat, high[1], high[0])))
        canvas[rows, columns] = drawn[low[1] :, low[0] :]
    return rows, columns

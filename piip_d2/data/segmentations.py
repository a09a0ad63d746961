"""COCO's segmentations: which of them can be used, and where they lie."""

from __future__ import annotations

import math
from typing import Any

import pycocotools.mask as mask_api

__all__ = ["Segmentation", "segmentation_bounds", "usable_segmentation"]

Entry = dict[str, Any]
Segmentation = list[list[float]] | dict[str, Any]


def usable_segmentation(segmentation: Any, image: Entry) -> Segmentation | None:
    """Returns the polygons that have three points, or the run lengths that fit the image.

    Args:
        segmentation: As in the JSON.
        image: With "width" and "height".

    Returns:
        What can be used of it; None for nothing.
    """
    if isinstance(segmentation, list):
        return [polygon for polygon in segmentation if _is_polygon(polygon)] or None
    size = [image["height"], image["width"]]
    if not isinstance(segmentation, dict) or list(segmentation.get("size", [])) != size:
        return None
    # pycocotools fills what wrong run lengths leave out with whatever lay in memory.
    fits = _sum_of_run_lengths(segmentation.get("counts")) == size[0] * size[1]
    return segmentation if fits else None


def segmentation_bounds(segmentation: Segmentation) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of a usable segmentation, in pixels."""
    if isinstance(segmentation, list):
        columns = [value for polygon in segmentation for value in polygon[0::2]]
        rows = [value for polygon in segmentation for value in polygon[1::2]]
        return min(columns), min(rows), max(columns), max(rows)
    encoded = segmentation
    if isinstance(encoded["counts"], list):
        encoded = mask_api.frPyObjects(encoded, *encoded["size"])
    left, top, width, height = (float(value) for value in mask_api.toBbox(encoded))
    return left, top, left + width, top + height


def _sum_of_run_lengths(counts: Any) -> int:
    """Returns how many pixels run lengths cover, plain or packed into a string; -1 if damaged."""
    if isinstance(counts, list):
        return sum(counts) if all(isinstance(n, int) and n >= 0 for n in counts) else -1
    if not isinstance(counts, str):
        return -1
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        # Five bits a character, lowest first; the sixth says that more follow.
        code = ord(character) - 48
        if not 0 <= code < 64:
            return -1
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        # From the fourth on, differences to the length before the last are stored.
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    return sum(lengths) if shift == 0 and min(lengths, default=0) >= 0 else -1


def _is_polygon(polygon: Any) -> bool:
    return (
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(isinstance(value, int | float) and math.isfinite(value) for value in polygon)
    )

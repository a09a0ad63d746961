"""Binary masks as COCO segmentations: an outline where one suffices, else run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as mask_api

__all__ = ["encode_rle", "mask_box", "mask_to_segmentation", "uncompressed_rle"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Corner = tuple[int, int]


def mask_to_segmentation(
    mask: BoolArray, tolerance: float = 0.5
) -> list[list[float]] | dict[str, Any]:
    """Returns a COCO polygon for a mask in one piece without holes, else a compressed RLE.

    Args:
        mask: (height, width), with at least one pixel set.
        tolerance: How far, in pixels, the polygon may run beside the outline of the mask.

    Returns:
        One list of x, y, x, y, ... inside a list; or the RLE with "size" and "counts".
    """
    loops = _boundary_loops(mask)
    if len(loops) != 1:
        return encode_rle(mask)
    # Through the middles of pixel edges, a slanted side is nearly straight; through the corners
    # it would be a staircase.
    polygon = _simplify(_edge_midpoints(loops[0]), tolerance)
    if len(polygon) < 3:
        return encode_rle(mask)
    return [[round(float(value), 2) for value in polygon.reshape(-1)]]


def encode_rle(mask: BoolArray) -> dict[str, Any]:
    """Returns a compressed COCO RLE that can be written as JSON."""
    encoded = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def uncompressed_rle(mask: BoolArray) -> dict[str, Any]:
    """Returns run lengths as plain numbers, the form in which COCO keeps crowds."""
    pixels = mask.reshape(-1, order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()
    # The first count is that of zeros, even where there are none.
    return {"size": list(mask.shape), "counts": [0, *counts] if pixels[0] else counts}


def mask_box(mask: BoolArray) -> list[float]:
    """Returns [x, y, width, height] of the pixels that are set; there must be one."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [float(left), float(top), float(columns[-1] + 1 - left), float(rows[-1] + 1 - top)]


def _boundary_loops(mask: BoolArray) -> list[list[Corner]]:
    """Returns the closed lines between set and unset pixels, as corners (x, y), inside at right."""
    left, top, width, height = (int(value) for value in mask_box(mask))
    # A rim of unset pixels closes outlines that run along the border, and lets np.roll wrap.
    padded = np.pad(mask[top : top + height, left : left + width], 1)
    leaving: dict[Corner, list[Corner]] = {}
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inside = padded & ~np.roll(padded, sign, axis=axis)
        for y, x in np.argwhere(inside).tolist():
            start, end = _pixel_edge(x + left - 1, y + top - 1, axis, sign)
            leaving.setdefault(start, []).append(end)
    loops = []
    while leaving:
        # The leftmost corner left over: no two pixels can touch there.
        start = previous = min(leaving)
        loop = [start]
        corner = _step(leaving, start, None)
        while corner != start:
            loop.append(corner)
            previous, corner = corner, _step(leaving, corner, previous)
        loops.append(loop)
    return loops


def _pixel_edge(x: int, y: int, axis: int, sign: int) -> tuple[Corner, Corner]:
    """Returns one edge of pixel (x, y), run through clockwise on the screen."""
    if axis == 0:
        return ((x, y), (x + 1, y)) if sign == 1 else ((x + 1, y + 1), (x, y + 1))
    return ((x, y + 1), (x, y)) if sign == 1 else ((x + 1, y), (x + 1, y + 1))


def _step(leaving: dict[Corner, list[Corner]], corner: Corner, previous: Corner | None) -> Corner:
    ends = leaving[corner]
    choice = 0
    if len(ends) > 1 and previous is not None:
        # Two pixels touch at this corner only: turning right keeps them apart.
        dx, dy = corner[0] - previous[0], corner[1] - previous[1]
        choice = ends.index((corner[0] - dy, corner[1] + dx))
    end = ends.pop(choice)
    if not ends:
        del leaving[corner]
    return end


def _edge_midpoints(loop: list[Corner]) -> FloatArray:
    corners = np.asarray(loop, dtype=np.float64)
    return 0.5 * (corners + np.roll(corners, -1, axis=0))


def _simplify(points: FloatArray, tolerance: float) -> FloatArray:
    """Thins out a closed line (Douglas and Peucker): no point left out is further off than that."""
    # A closed line has no ends: begin with two points that are far apart.
    offsets = points - points[0]
    opposite = int(np.argmax((offsets * offsets).sum(axis=1)))
    closed = np.concatenate([points, points[:1]])
    keep = np.zeros(len(closed), dtype=bool)
    keep[[0, opposite]] = True
    pending = [(0, opposite), (opposite, len(closed) - 1)]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        distances = _distances_to_chord(closed[first + 1 : last], closed[first], closed[last])
        worst = int(np.argmax(distances))
        if distances[worst] > tolerance:
            keep[first + 1 + worst] = True
            pending += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return points[keep[:-1]]


def _distances_to_chord(points: FloatArray, start: FloatArray, end: FloatArray) -> FloatArray:
    chord = end - start
    length = np.sqrt(chord[0] * chord[0] + chord[1] * chord[1])
    offsets = points - start
    if length == 0.0:
        return np.sqrt(offsets[:, 0] ** 2 + offsets[:, 1] ** 2)
    return np.abs(offsets[:, 0] * chord[1] - offsets[:, 1] * chord[0]) / length

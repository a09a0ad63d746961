"""Where labels of boxes stand, so that they hide neither each other nor edges of other boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .point_labels import covered_area

__all__ = ["LabelPlace", "place_labels"]

# What counts how much for each pixel: text on text cannot be read, text on an edge can. The edge
# of a label's own box counts nothing.
_ON_LABEL, _ON_EDGE = 10.0, 3.0
# For each label's height of distance, in areas of the label: one that is near needs no joint.
_FAR = 0.25
# Edges are taken to be so thick, as a share of a label's height.
_EDGE = 0.15
# Distances that are tried, in heights of a label.
_DISTANCES = (0.0, 1.2, 2.4, 3.6, 4.8, 6.0)


@dataclass(frozen=True)
class LabelPlace:
    """Where a label stands.

    Args:
        corner: Its left upper corner, in pixels of the image.
        joint: From the label to its box, (x, y) each; None where they touch.
    """

    corner: tuple[float, float]
    joint: tuple[tuple[float, float], tuple[float, float]] | None


def place_labels(
    boxes: Sequence[np.ndarray], sizes: Sequence[tuple[float, float]], extent: tuple[float, float]
) -> list[LabelPlace]:
    """Places labels one after the other.

    Args:
        boxes: Left, top, right and bottom of all boxes in pixels; the first ones have labels.
        sizes: Width and height of the labels.
        extent: Width and height of the image, which labels stay in.

    Returns:
        The place of each label: at its box where that is free, farther away otherwise.
    """
    placed: list[LabelPlace] = []
    taken: list[np.ndarray] = []
    for number, (width, height) in enumerate(sizes):
        edges = [_edges(box, _EDGE * height) for index, box in enumerate(boxes) if index != number]
        others = np.concatenate(edges) if edges else np.empty((0, 4))
        left, top, right, bottom = (float(value) for value in boxes[number])
        best, least = np.zeros(4), math.inf
        for x, y, distance in _candidates(left, top, right, bottom, width, height):
            corner = np.array([min(x, extent[0] - width - 1), min(y, extent[1] - height - 1)])
            corner = corner.clip(1)
            tried = np.concatenate([corner, corner + (width, height)])
            cost = (
                _ON_LABEL * covered_area(tried, np.reshape(taken, (-1, 4)))
                + _ON_EDGE * covered_area(tried, others)
                + _FAR * distance * width * height
            )
            if cost < least:
                best, least = tried, cost
        taken.append(best)
        placed.append(LabelPlace((float(best[0]), float(best[1])), _joint(best, boxes[number])))
    return placed


def _candidates(
    left: float, top: float, right: float, bottom: float, width: float, height: float
) -> list[tuple[float, float, float]]:
    """Left upper corners with their distance in heights; of equal ones the first is preferred."""
    places = []
    for distance in _DISTANCES:
        away = distance * height
        for x in (left, right - width, left - away, right - width + away):
            # Above the box first, since within it a label would hide a small object.
            places.append((x, top - height - away, distance))
            places.append((x, bottom + away, distance))
        for y in (top, bottom - height):
            places.append((right + away, y, distance + 0.5))
            places.append((left - width - away, y, distance + 0.5))
    places += [(left, top, 0.3), (left, bottom - height, 0.3)]
    return sorted(places, key=lambda place: place[2])


def _edges(box: np.ndarray, thickness: float) -> np.ndarray:
    """The four edges of a box as boxes, (4, 4)."""
    left, top, right, bottom = box
    sides = ((left, top, right, top), (left, bottom, right, bottom),
             (left, top, left, bottom), (right, top, right, bottom))  # fmt: skip
    half = thickness / 2
    return np.array(sides, dtype=float) + (-half, -half, half, half)


def _joint(
    label: np.ndarray, box: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The shortest line between a label and the edge of its box, where they do not touch."""
    # On each axis the points where two intervals are nearest to each other.
    ends = [_nearest(label[axis::2], box[axis::2]) for axis in (0, 1)]
    (from_x, to_x), (from_y, to_y) = ends
    height = float(label[3] - label[1])
    if math.hypot(from_x - to_x, from_y - to_y) < _EDGE * height:
        return None
    return (from_x, from_y), (to_x, to_y)


def _nearest(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    if first[1] < second[0]:
        return float(first[1]), float(second[0])
    if second[1] < first[0]:
        return float(first[0]), float(second[1])
    middle = (max(first[0], second[0]) + min(first[1], second[1])) / 2
    return float(middle), float(middle)

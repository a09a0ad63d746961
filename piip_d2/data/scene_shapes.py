"""Shapes of rendered scenes, as signed distances sampled at pixel centres.

A distance is negative inside. Unions and differences of shapes are the minimum and maximum of
distances, which is all that the less simple shapes below need. Sines and cosines are rounded, so
that the last bit of a maths library never decides about a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["SHAPE_NAMES", "cosine_and_sine", "shape_distance"]

FloatArray = npt.NDArray[np.float64]


def cosine_and_sine(degrees: float) -> tuple[float, float]:
    """Returns cosine and sine of an angle, equal on every machine."""
    radians = math.radians(degrees)
    return round(math.cos(radians), 9), round(math.sin(radians), 9)


def shape_distance(
    name: str, u: FloatArray, v: FloatArray, radius: float, proportion: float
) -> FloatArray:
    """Returns signed distances in pixels, negative inside the shape.

    Args:
        name: One of ``SHAPE_NAMES``.
        u: First coordinate of every pixel centre, relative to the shape's own centre and axes.
        v: Second coordinate, likewise.
        radius: Radius of the circle that the shape stands in.
        proportion: Number in [0, 1) that varies the shape (how slim, how thick, how pointed).

    Returns:
        Array shaped as ``u`` and ``v``.
    """
    if name not in _DISTANCES:
        raise ValueError(f"a shape must be one of {list(SHAPE_NAMES)}, got {name!r}")
    return _DISTANCES[name](u, v, radius, proportion)


def _disc(u: FloatArray, v: FloatArray, radius: float, proportion: float) -> FloatArray:
    return np.sqrt(u * u + v * v) - radius


def _rectangle(u: FloatArray, v: FloatArray, radius: float, proportion: float) -> FloatArray:
    return _box(u, v, radius, 0.45 + 0.55 * proportion)


def _triangle(u: FloatArray, v: FloatArray, radius: float, proportion: float) -> FloatArray:
    half_base = 50.0 + 20.0 * proportion
    return _corners(u, v, radius, (0.0, 180.0 - half_base, 180.0 + half_base))


def _ring(u: FloatArray, v: FloatArray, radius: float, proportion: float) -> FloatArray:
    inner = radius * (0.45 + 0.2 * proportion)
    return np.abs(np.sqrt(u * u + v * v) - 0.5 * (radius + inner)) - 0.5 * (radius - inner)


def _cross(u: FloatArray, v: FloatArray, radius: float, proportion: float) -> FloatArray:
    # Two boxes, one turned by a right angle.
    slimness = 0.25 + 0.15 * proportion
    return np.minimum(_box(u, v, radius, slimness), _box(v, u, radius, slimness))


def _star(u: FloatArray, v: FloatArray, radius: float, proportion: float) -> FloatArray:
    return np.minimum(
        _corners(u, v, radius, (0.0, 120.0, 240.0)), _corners(u, v, radius, (60.0, 180.0, 300.0))
    )


def _ellipse(u: FloatArray, v: FloatArray, radius: float, proportion: float) -> FloatArray:
    minor = radius * (0.4 + 0.25 * proportion)
    # Exact on the outline, which is where a distance matters here.
    return (np.sqrt((u / radius) ** 2 + (v / minor) ** 2) - 1.0) * minor


def _crescent(u: FloatArray, v: FloatArray, radius: float, proportion: float) -> FloatArray:
    bite = _disc(u - radius * (0.5 + 0.3 * proportion), v, 0.85 * radius, proportion)
    return np.maximum(_disc(u, v, radius, proportion), -bite)


def _box(u: FloatArray, v: FloatArray, radius: float, aspect: float) -> FloatArray:
    """Returns distances to a box of half diagonal ``radius`` with height / width = ``aspect``."""
    half_width = radius / math.sqrt(1.0 + aspect * aspect)
    return np.maximum(np.abs(u) - half_width, np.abs(v) - aspect * half_width)


def _corners(u: FloatArray, v: FloatArray, radius: float, angles: tuple[float, ...]) -> FloatArray:
    """Returns distances to a convex polygon with corners on the circle, in order of angle."""
    points = [cosine_and_sine(angle) for angle in angles]
    distance = np.full(u.shape, -np.inf)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        edge = math.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
        # Corners run by growing angle, so that this normal points outwards.
        normal_x, normal_y = (by - ay) / edge, (ax - bx) / edge
        side = (u - radius * ax) * normal_x + (v - radius * ay) * normal_y
        distance = np.maximum(distance, side)
    return distance


_DISTANCES: dict[str, Callable[[FloatArray, FloatArray, float, float], FloatArray]] = {
    "disc": _disc,
    "rectangle": _rectangle,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
    "ellipse": _ellipse,
    "crescent": _crescent,
}

SHAPE_NAMES: tuple[str, ...] = tuple(_DISTANCES)

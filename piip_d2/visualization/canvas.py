"""What of the drawing needs OpenCV, which is optional: Detectron2's ``Visualizer`` imports it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from detectron2.utils.visualizer import GenericMask, Visualizer
from matplotlib.patheffects import withStroke

from .label_places import place_labels
from .outline import Outline

__all__ = ["draw_on_canvas"]

# Matplotlib refuses pictures beyond 65535 px a side and takes 16 bytes a pixel below it.
_LONGEST_DRAWN_SIDE = 4096

# In points.
_SMALLEST_FONT = 8.0
_THINNEST_WITH_HALO = 1.8


def draw_on_canvas(
    image: np.ndarray, outlines: Sequence[Outline], *, scale: float, with_halo: bool
) -> np.ndarray:
    """Draws objects; see `piip_d2.visualization.drawing.draw_outlines`."""
    scale = min(scale, _LONGEST_DRAWN_SIDE / max(image.shape[:2]))
    # Lines of boxes scale with the font; at full size they would hide small objects.
    visualizer = Visualizer(image, scale=scale, font_size_scale=0.8)
    for outline in outlines:
        if outline.mask is not None:
            _draw_mask(visualizer, outline.mask, outline.color)
    for outline in outlines:
        style = "--" if outline.dashed else "-"
        visualizer.draw_box(outline.box, alpha=0.9, edge_color=outline.color, line_style=style)
        if with_halo:
            drawn = visualizer.output.ax.patches[-1]
            drawn.set_linewidth(max(drawn.get_linewidth(), _THINNEST_WITH_HALO))
            halo = withStroke(linewidth=drawn.get_linewidth() + 1.5, foreground="black")
            drawn.set_path_effects([halo])
    _draw_labels(visualizer, outlines)
    return visualizer.output.get_image()


def _area(outline: Outline) -> float:
    left, top, right, bottom = outline.box
    return float((right - left) * (bottom - top))


def _draw_mask(visualizer: Visualizer, mask: np.ndarray, color: tuple[float, float, float]) -> None:
    # overlay_instances would fill the hole of a ring; draw_binary_mask leaves it open.
    visualizer.draw_binary_mask(mask, color, alpha=0.4, area_threshold=0)
    for outline in GenericMask(mask, *mask.shape).polygons:
        visualizer.draw_polygon(outline.reshape(-1, 2), color, alpha=0.0)


def _draw_labels(visualizer: Visualizer, outlines: Sequence[Outline]) -> None:
    """Writes the labels of objects; those away from their boxes are joined with them by a line."""
    output = visualizer.output
    # In points of the drawing: readable on thumbnails, growing slowly on big pictures.
    area = output.height * output.width
    font_size = max(_SMALLEST_FONT, output.scale * math.sqrt(area) / 130)
    # At 100 dots an inch a point is 1.39 pixels; a line is about 1.3 times as high as the font
    # size, background included, and a letter 0.65 times as wide.
    line_height = 1.39 * 1.3 * font_size / output.scale
    letter_width = 1.39 * 0.65 * font_size / output.scale
    # Names of big objects go first, so that those of small ones lie on top.
    labelled = sorted((each for each in outlines if each.label), key=_area, reverse=True)
    others = [each for each in outlines if not each.label]
    places = place_labels(
        [outline.box for outline in (*labelled, *others)],
        [(letter_width * len(outline.label), line_height) for outline in labelled],
        (output.width, output.height),
    )
    for outline, place in zip(labelled, places, strict=True):
        if place.joint:
            (from_x, from_y), (to_x, to_y) = place.joint
            visualizer.draw_line([from_x, to_x], [from_y, to_y], outline.color, linewidth=1)
            drawn = output.ax.lines[-1]
            width = drawn.get_linewidth() + 1.5
            drawn.set_path_effects([withStroke(linewidth=width, foreground="black")])
    for outline, place in zip(labelled, places, strict=True):
        visualizer.draw_text(
            outline.label,
            place.corner,
            color=outline.color,
            horizontal_alignment="left",
            font_size=font_size / output.scale,
        )

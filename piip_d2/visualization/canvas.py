"""What of the drawing needs OpenCV, which is optional: Detectron2's ``Visualizer`` imports it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from detectron2.utils.visualizer import GenericMask, Visualizer
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from .outline import Outline
from .point_labels import shared_area

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
    # Names of big objects go first, so that those of small ones lie on top.
    taken: list[Bbox] = []
    for outline in sorted(outlines, key=_area, reverse=True):
        if outline.label:
            _draw_label(visualizer, outline, taken)
    return visualizer.output.get_image()


def _area(outline: Outline) -> float:
    left, top, right, bottom = outline.box
    return float((right - left) * (bottom - top))


def _draw_mask(visualizer: Visualizer, mask: np.ndarray, color: tuple[float, float, float]) -> None:
    # overlay_instances would fill the hole of a ring; draw_binary_mask leaves it open.
    visualizer.draw_binary_mask(mask, color, alpha=0.4, area_threshold=0)
    for outline in GenericMask(mask, *mask.shape).polygons:
        visualizer.draw_polygon(outline.reshape(-1, 2), color, alpha=0.0)


def _draw_label(visualizer: Visualizer, outline: Outline, taken: list[Bbox]) -> None:
    """Writes the label of an object where it hides none of those written before."""
    height, width, scale = (
        visualizer.output.height,
        visualizer.output.width,
        visualizer.output.scale,
    )
    # In points of the drawing: readable on thumbnails, growing slowly on big pictures.
    font_size = max(_SMALLEST_FONT, scale * math.sqrt(height * width) / 130)
    # At 100 dots an inch a point is 1.39 pixels; a line is about 1.3 times as high as the font
    # size, background included, and a letter 0.65 times as wide.
    line_height = 1.39 * 1.3 * font_size / scale
    line_width = 1.39 * 0.65 * font_size / scale * len(outline.label)
    left, top, right, bottom = outline.box
    # Above the box first, since it would hide a small object.
    wanted = [
        (left, top - line_height),
        (right - line_width, top - line_height),
        (left, bottom),
        (right - line_width, bottom),
        (left, top),
        (left, bottom - line_height),
    ]
    places = []
    for x, y in wanted:
        inner_x = max(min(x, width - line_width), 1)
        inner_y = max(min(y, height - line_height), 1)
        places.append(Bbox.from_bounds(inner_x, inner_y, line_width, line_height))
    # Of places that are equally free the first is taken.
    place = min(places, key=lambda place: sum(shared_area(place, other) for other in taken))
    taken.append(place)
    visualizer.draw_text(
        outline.label,
        (place.x0, place.y0),
        color=outline.color,
        horizontal_alignment="left",
        font_size=font_size / scale,
    )

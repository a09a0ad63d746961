"""Boxes, masks, labels and scores on an image, by Detectron2's ``Visualizer``."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from detectron2.data.detection_utils import (
    annotations_to_instances,
    transform_instance_annotations,
)
from detectron2.data.transforms import TransformList
from detectron2.structures import Instances
from matplotlib.patheffects import withStroke

from piip_d2 import _optional

if TYPE_CHECKING:
    # It imports OpenCV, which is optional.
    from detectron2.utils.visualizer import Visualizer

# Bright colours that stay apart on foliage, on skin and on grey; the first four also for people
# with a red-green weakness. Later classes take hues a golden section apart.
_PALETTE = ("#ffb000", "#00d5ff", "#ff4fa3", "#f4ff61", "#b48cff", "#7dff5a", "#ff6b3d", "#5a8bff")
_GOLDEN_SECTION = 0.618034

# Matplotlib refuses pictures beyond 65535 px a side and takes 16 bytes a pixel below it.
_LONGEST_DRAWN_SIDE = 4096

# In points.
_SMALLEST_FONT = 8.0
_THINNEST_WITH_HALO = 1.8

# Left, top, right and bottom of a label, in pixels of the image.
_Place = tuple[float, float, float, float]


@dataclass(frozen=True)
class Outline:
    """An object as it is drawn.

    Args:
        box: Left, top, right and bottom in pixels of the image.
        color: RGB in [0, 1].
        label: What is written beside it; "" for nothing.
        mask: Of shape ``(H, W)``, true on the object; None to draw its box alone.
        dashed: Whether the box is dashed.
    """

    box: np.ndarray
    color: tuple[float, float, float]
    label: str = ""
    mask: np.ndarray | None = None
    dashed: bool = False


def class_color(index: int) -> tuple[float, float, float]:
    """The colour, RGB in [0, 1], in which objects of one class are always drawn."""
    if index < len(_PALETTE):
        digits = _PALETTE[index].lstrip("#")
        red, green, blue = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
        return red, green, blue
    return colorsys.hsv_to_rgb(index * _GOLDEN_SECTION % 1.0, 0.65, 1.0)


def class_name(index: int, class_names: Sequence[str]) -> str:
    """The name of a class, or its number where no name is known."""
    return class_names[index] if index < len(class_names) else f"class {index}"


def draw_predictions(
    image: np.ndarray,
    instances: Instances,
    class_names: Sequence[str] = (),
    threshold: float = 0.5,
    *,
    scale: float = 1.0,
    with_labels: bool = True,
) -> np.ndarray:
    """Draws what a detector found.

    Args:
        image: Picture of shape ``(H, W, 3)``, RGB in [0, 255].
        instances: The detector's answer for it, in pixels of ``image``.
        class_names: Names by class index; classes without one are drawn as "class 3".
        threshold: Objects with a lower score are left out.
        scale: Size of the drawing relative to ``image``.
        with_labels: Whether to write name and score beside each object. With a single class the
            score stands alone.

    Returns:
        The drawing, ``(H * scale, W * scale, 3)``, RGB in uint8; pictures with a side beyond 4096
        pixels come out reduced to it.
    """
    shown = instances[instances.scores >= threshold].to("cpu")
    classes: list[int] = shown.pred_classes.tolist()
    labels = [""] * len(shown)
    if with_labels:
        scores = [f"{score:.0%}" for score in shown.scores.tolist()]
        if len(class_names) == 1:
            labels = scores
        else:
            labels = [
                f"{class_name(index, class_names)} {score}"
                for index, score in zip(classes, scores, strict=True)
            ]
    masks = shown.pred_masks.numpy() if shown.has("pred_masks") else None
    boxes = shown.pred_boxes.tensor.numpy()
    return draw_outlines(image, _by_class(boxes, masks, classes, labels), scale=scale)


def draw_ground_truth(
    image: np.ndarray,
    annotations: Sequence[dict[str, Any]],
    class_names: Sequence[str] = (),
    *,
    scale: float = 1.0,
    with_labels: bool = True,
) -> np.ndarray:
    """Draws the annotations of an image; crowd regions are left out.

    Args:
        image: Picture of shape ``(H, W, 3)``, RGB in [0, 255].
        annotations: The "annotations" of a record in Detectron2's dataset format.
        class_names: Names by class index.
        scale: Size of the drawing relative to ``image``.
        with_labels: Whether to write the class beside each object.

    Returns:
        The drawing, as from `draw_predictions`.
    """
    truth = ground_truth_instances(annotations, image.shape[:2])
    classes: list[int] = truth.gt_classes.tolist()
    labels = [class_name(index, class_names) if with_labels else "" for index in classes]
    masks = truth.gt_masks.tensor.numpy() if truth.has("gt_masks") else None
    boxes = truth.gt_boxes.tensor.numpy()
    return draw_outlines(image, _by_class(boxes, masks, classes, labels), scale=scale)


def ground_truth_instances(
    annotations: Sequence[dict[str, Any]], image_size: tuple[int, int]
) -> Instances:
    """Turns annotations in Detectron2's dataset format into ``gt_*`` fields, without crowds."""
    objects = [
        transform_instance_annotations(dict(annotation), TransformList([]), image_size)
        for annotation in annotations
        if not annotation.get("iscrowd", 0)
    ]
    if not all("segmentation" in entry for entry in objects):
        for entry in objects:
            entry.pop("segmentation", None)
    return annotations_to_instances(objects, image_size, mask_format="bitmask")


def draw_outlines(
    image: np.ndarray,
    outlines: Sequence[Outline],
    *,
    scale: float = 1.0,
    with_halo: bool = False,
) -> np.ndarray:
    """Draws objects in given colours.

    Args:
        image: Picture of shape ``(H, W, 3)``, RGB in [0, 255].
        outlines: What to draw; boxes of later ones lie on top, and names of small ones.
        scale: Size of the drawing relative to ``image``.
        with_halo: Whether boxes have dark edges, so that they show on any background.

    Returns:
        The drawing, as from `draw_predictions`.
    """
    _optional.require("cv2", "drawing boxes and masks with Detectron2's Visualizer")
    # Here, since this module imports OpenCV, which is optional; curves need none.
    from detectron2.utils.visualizer import Visualizer

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
    taken: list[_Place] = []
    for outline in sorted(outlines, key=_area, reverse=True):
        if outline.label:
            _draw_label(visualizer, outline, taken)
    return visualizer.output.get_image()


def _by_class(
    boxes: np.ndarray, masks: np.ndarray | None, classes: Sequence[int], labels: Sequence[str]
) -> list[Outline]:
    """Outlines in the colours of their classes."""
    return [
        Outline(box, class_color(index), label, None if masks is None else masks[number])
        for number, (box, index, label) in enumerate(zip(boxes, classes, labels, strict=True))
    ]


def _area(outline: Outline) -> float:
    left, top, right, bottom = outline.box
    return float((right - left) * (bottom - top))


def _draw_mask(visualizer: Visualizer, mask: np.ndarray, color: tuple[float, float, float]) -> None:
    # Here for the same reason as in `_draw`.
    from detectron2.utils.visualizer import GenericMask

    # overlay_instances would fill the hole of a ring; draw_binary_mask leaves it open.
    visualizer.draw_binary_mask(mask, color, alpha=0.4, area_threshold=0)
    for outline in GenericMask(mask, *mask.shape).polygons:
        visualizer.draw_polygon(outline.reshape(-1, 2), color, alpha=0.0)


def _draw_label(visualizer: Visualizer, outline: Outline, taken: list[_Place]) -> None:
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
        places.append((inner_x, inner_y, inner_x + line_width, inner_y + line_height))
    # Of places that are equally free the first is taken.
    place = min(places, key=lambda place: sum(_shared_area(place, other) for other in taken))
    taken.append(place)
    visualizer.draw_text(
        outline.label,
        place[:2],
        color=outline.color,
        horizontal_alignment="left",
        font_size=font_size / scale,
    )


def _shared_area(first: _Place, second: _Place) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)

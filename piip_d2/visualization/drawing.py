"""Boxes, masks, labels and scores on an image, by Detectron2's ``Visualizer``."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from detectron2.data.detection_utils import (
    annotations_to_instances,
    transform_instance_annotations,
)
from detectron2.data.transforms import TransformList
from detectron2.structures import Instances

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
    labels = None
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
    return _draw(image, shown.pred_boxes.tensor.numpy(), masks, classes, labels, scale)


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
    labels = [class_name(index, class_names) for index in classes] if with_labels else None
    masks = truth.gt_masks.tensor.numpy() if truth.has("gt_masks") else None
    return _draw(image, truth.gt_boxes.tensor.numpy(), masks, classes, labels, scale)


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


def _draw(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray | None,
    classes: Sequence[int],
    labels: Sequence[str] | None,
    scale: float,
) -> np.ndarray:
    _optional.require("cv2", "drawing boxes and masks with Detectron2's Visualizer")
    # Here, since this module imports OpenCV, which is optional; curves need none.
    from detectron2.utils.visualizer import Visualizer

    scale = min(scale, _LONGEST_DRAWN_SIDE / max(image.shape[:2]))
    # Lines of boxes scale with the font; at full size they would hide small objects.
    visualizer = Visualizer(image, scale=scale, font_size_scale=0.8)
    colors = [class_color(index) for index in classes]
    if masks is not None:
        for mask, color in zip(masks, colors, strict=True):
            _draw_mask(visualizer, mask, color)
    for box, color in zip(boxes, colors, strict=True):
        visualizer.draw_box(box, alpha=0.9, edge_color=color)
    if labels is not None:
        # Names of big objects go first, so that those of small ones lie on top.
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        for index in np.argsort(-areas):
            _draw_label(visualizer, labels[index], boxes[index], colors[index])
    return visualizer.output.get_image()


def _draw_mask(visualizer: Visualizer, mask: np.ndarray, color: tuple[float, float, float]) -> None:
    # Here for the same reason as in `_draw`.
    from detectron2.utils.visualizer import GenericMask

    # overlay_instances would fill the hole of a ring; draw_binary_mask leaves it open.
    visualizer.draw_binary_mask(mask, color, alpha=0.4, area_threshold=0)
    for outline in GenericMask(mask, *mask.shape).polygons:
        visualizer.draw_polygon(outline.reshape(-1, 2), color, alpha=0.0)


def _draw_label(
    visualizer: Visualizer, label: str, box: np.ndarray, color: tuple[float, float, float]
) -> None:
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
    line_width = 1.39 * 0.65 * font_size / scale * len(label)
    # Above the box where there is room, since it would hide a small object.
    top = box[1] - line_height if box[1] >= line_height else box[1]
    visualizer.draw_text(
        label,
        (max(min(box[0], width - line_width), 1), max(min(top, height - line_height), 1)),
        color=color,
        horizontal_alignment="left",
        font_size=font_size / scale,
    )

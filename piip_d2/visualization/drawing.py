"""Boxes, masks, labels and scores on an image, by Detectron2's ``Visualizer``."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data.detection_utils import (
    annotations_to_instances,
    transform_instance_annotations,
)
from detectron2.data.transforms import TransformList
from detectron2.structures import Instances

from piip_d2 import _optional

from .outline import Outline

# Bright colours that stay apart on foliage, on skin and on grey; the first four also for people
# with a red-green weakness. Later classes take hues a golden section apart.
_PALETTE = ("#ffb000", "#00d5ff", "#ff4fa3", "#f4ff61", "#b48cff", "#7dff5a", "#ff6b3d", "#5a8bff")
_GOLDEN_SECTION = 0.618034


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
    purpose = "drawing boxes and masks with Detectron2's Visualizer"
    _optional.require("cv2", purpose)
    canvas = _optional.require("piip_d2.visualization.canvas", purpose)
    drawing: np.ndarray = canvas.draw_on_canvas(image, outlines, scale=scale, with_halo=with_halo)
    return drawing


def _by_class(
    boxes: np.ndarray, masks: np.ndarray | None, classes: Sequence[int], labels: Sequence[str]
) -> list[Outline]:
    """Outlines in the colours of their classes."""
    return [
        Outline(box, class_color(index), label, None if masks is None else masks[number])
        for number, (box, index, label) in enumerate(zip(boxes, classes, labels, strict=True))
    ]

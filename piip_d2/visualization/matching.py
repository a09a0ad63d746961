"""Which predictions find which objects, by the rules of COCO's evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from detectron2.structures import BoxMode, Instances
from pycocotools import mask as coco_mask

__all__ = ["Matches", "Mistake", "match_objects"]

# Why a prediction is false; what is looked for first comes first.
Mistake = Literal[
    "found twice", "other class", "badly placed", "other class, badly placed", "nothing there"
]

# What is said where masks are to be matched and there are none.
NO_PREDICTED_MASKS = (
    "masks can be matched only where a detector predicts them, and this one gives boxes alone; "
    "match boxes"
)
NO_MASKS_OF_OBJECTS = "masks can be matched only where every object has one"

# Below this overlap a prediction has nothing to do with an object.
_LEAST_OVERLAP = 0.1


@dataclass(frozen=True)
class Matches:
    """What became of the predictions and objects of one image.

    Args:
        found_by: For each object the index of the prediction that finds it, or -1 for a miss.
        finds: For each prediction the index of its object, or -1.
        is_ignored: For each prediction whether it lies on a crowd region and so does not count.
        mistakes: For each prediction that is false why it is; None for the others.
    """

    found_by: np.ndarray
    finds: np.ndarray
    is_ignored: np.ndarray
    mistakes: Sequence[Mistake | None]

    @property
    def num_found(self) -> int:
        """Number of objects that are found."""
        return int((self.found_by >= 0).sum())

    @property
    def num_missed(self) -> int:
        """Number of objects that are not."""
        return int((self.found_by < 0).sum())

    @property
    def num_false(self) -> int:
        """Number of false positives."""
        return sum(mistake is not None for mistake in self.mistakes)


def match_objects(
    predictions: Instances,
    annotations: Sequence[dict[str, Any]],
    *,
    threshold: float = 0.0,
    iou: float = 0.5,
    masks: bool = False,
) -> Matches:
    """Matches predictions with objects as COCO's evaluation does.

    Predictions choose in the order of their scores: each takes the free object of its class that
    it overlaps most, if their IoU is at least ``iou``. What finds no object, but overlaps a crowd
    region of its class by that share of its own area, does not count.

    Args:
        predictions: What a detector found, with boxes (and masks) in pixels of the image.
        annotations: The "annotations" of a record in Detectron2's dataset format.
        threshold: Predictions with a lower score are ignored.
        iou: Least overlap of a prediction with the object that it finds.
        masks: Whether masks overlap instead of boxes.

    Returns:
        The matches. Objects are the annotations without crowd regions, in their order.

    Raises:
        ValueError: If ``iou`` is not in (0, 1], or masks are wanted and there are none.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou must be greater than 0 and at most 1, got {iou}")
    objects = [entry for entry in annotations if not entry.get("iscrowd", 0)]
    crowds = [entry for entry in annotations if entry.get("iscrowd", 0)]
    found = predictions.to("cpu")
    classes, scores = found.pred_classes.numpy(), found.scores.numpy()
    shapes = _predicted_shapes(found, masks)
    overlaps = _overlaps(shapes, objects, predictions.image_size, masks, is_crowd=False)
    on_crowds = _overlaps(shapes, crowds, predictions.image_size, masks, is_crowd=True)
    same_class = classes[:, None] == _classes(objects)[None]

    is_ignored = scores < threshold
    finds = np.full(len(scores), -1)
    found_by = np.full(len(objects), -1)
    on_crowds = np.where(classes[:, None] == _classes(crowds)[None], on_crowds, 0.0)
    for index in np.argsort(-scores, kind="stable"):
        if is_ignored[index]:
            continue
        free = np.where(same_class[index] & (found_by < 0), overlaps[index], 0.0)
        # With a bound of 1, rounding must not decide.
        if free.size and free.max() >= min(iou, 1 - 1e-10):
            # Of equal overlaps COCO takes the last.
            finds[index] = len(free) - 1 - int(free[::-1].argmax())
            found_by[finds[index]] = index
        elif on_crowds[index].max(initial=0.0) >= iou:
            is_ignored[index] = True
    mistakes = [
        None
        if is_ignored[index] or finds[index] >= 0
        else _mistake(overlaps[index], same_class[index], iou)
        for index in range(len(scores))
    ]
    return Matches(found_by, finds, is_ignored, mistakes)


def _mistake(overlaps: np.ndarray, same_class: np.ndarray, iou: float) -> Mistake:
    # An object of the same class with enough overlap was taken by a higher score.
    of_class = np.where(same_class, overlaps, 0.0).max(initial=0.0)
    if of_class >= iou:
        return "found twice"
    if overlaps.max(initial=0.0) >= iou:
        return "other class"
    if of_class >= _LEAST_OVERLAP:
        return "badly placed"
    is_near = overlaps.max(initial=0.0) >= _LEAST_OVERLAP
    return "other class, badly placed" if is_near else "nothing there"


def _classes(annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    return np.array([entry["category_id"] for entry in annotations], dtype=np.int64)


def _overlaps(
    shapes: Any,
    annotations: Sequence[dict[str, Any]],
    image_size: tuple[int, int],
    masks: bool,
    *,
    is_crowd: bool,
) -> np.ndarray:
    """IoU of predictions with annotations; with crowds, over the predictions' own area."""
    if not len(shapes) or not annotations:
        return np.zeros((len(shapes), len(annotations)))
    truth: Any = (
        [_run_lengths(entry, image_size) for entry in annotations]
        if masks
        else np.array([_box(entry) for entry in annotations], dtype=np.float64)
    )
    overlaps: np.ndarray = coco_mask.iou(shapes, truth, [is_crowd] * len(annotations))
    return overlaps


def _predicted_shapes(predictions: Instances, masks: bool) -> Any:
    """Boxes as (N, 4) in COCO's (x, y, width, height), or masks as run lengths."""
    if masks:
        if not predictions.has("pred_masks"):
            raise ValueError(NO_PREDICTED_MASKS)
        return [
            coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            for mask in predictions.pred_masks.numpy()
        ]
    boxes = predictions.pred_boxes.tensor.numpy().astype(np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _box(entry: dict[str, Any]) -> list[float]:
    mode = BoxMode(entry.get("bbox_mode", BoxMode.XYWH_ABS))
    box: list[float] = BoxMode.convert(list(entry["bbox"]), mode, BoxMode.XYWH_ABS)
    return box


def _run_lengths(entry: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
    outline = entry.get("segmentation")
    if not outline:
        raise ValueError(f"{NO_MASKS_OF_OBJECTS}; match boxes")
    if isinstance(outline, list):
        return dict(coco_mask.merge(coco_mask.frPyObjects(outline, *image_size)))
    if isinstance(outline["counts"], list):
        return dict(coco_mask.frPyObjects(outline, *image_size))
    return dict(outline)

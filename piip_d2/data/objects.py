"""The objects of an image as a Detectron2 model takes them, after augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks

from .cropped_masks import CroppedMasks
from .mask_transforms import Mask, crop_masks, draw_masks, transform_polygons

__all__ = ["make_instances"]

FloatArray = npt.NDArray[np.float64]
Object = dict[str, Any]

# Boxes must be higher and wider, in pixels; as in Detectron2.
_MIN_SIDE = 1e-5
_CORNERS = BoxMode.XYXY_ABS


def make_instances(
    objects: Sequence[Object],
    transforms: T.TransformList,
    *,
    file_size: tuple[int, int],
    image_size: tuple[int, int],
    mask_format: str | None,
    keypoint_hflip_indices: npt.NDArray[np.int64] | None = None,
) -> Instances:
    """Applies augmentation to boxes, masks and keypoints, and leaves out what is nothing any more.

    Args:
        objects: In Detectron2's format; all with keypoints or none. They are not changed.
        transforms: What was done to the image.
        file_size: Height and width of the file.
        image_size: Height and width of the result.
        mask_format: "polygon" or "bitmask", or None for no masks. With "polygon", one mask by run
            lengths makes ``CroppedMasks`` of all, since run lengths have no polygon.
        keypoint_hflip_indices: As in Detectron2's mapper.

    Returns:
        ``gt_boxes``, ``gt_classes``, and where they are wanted ``gt_masks`` and ``gt_keypoints``.
    """
    boxes = _transform_boxes(objects, transforms, image_size)
    sides = boxes[:, 2:] - boxes[:, :2]
    is_kept: npt.NDArray[np.bool_] = np.all(sides > _MIN_SIDE, axis=1)
    instances = Instances(image_size)
    if mask_format is not None:
        masks, has_mask = _transform_masks(objects, transforms, file_size, image_size, mask_format)
        is_kept &= has_mask
        instances.gt_masks = masks if is_kept.all() else masks[torch.from_numpy(is_kept)]
    kept = [entry for entry, is_there in zip(objects, is_kept, strict=True) if is_there]
    instances.gt_boxes = Boxes(torch.from_numpy(boxes[is_kept]))
    classes = [int(entry["category_id"]) for entry in kept]
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    if kept and "keypoints" in kept[0]:
        points = [
            detection_utils.transform_keypoint_annotations(
                entry["keypoints"], transforms, image_size, keypoint_hflip_indices
            )
            for entry in kept
        ]
        instances.gt_keypoints = Keypoints(np.stack(points))
    return instances


def _transform_boxes(
    objects: Sequence[Object], transforms: T.TransformList, image_size: tuple[int, int]
) -> FloatArray:
    """Returns (n, 4) corners x, y, x, y within the image."""
    if not objects:
        return np.zeros((0, 4))
    corners = [
        # In Detectron2's precision, which is that of its boxes.
        BoxMode.convert(np.asarray([entry["bbox"]], np.float32), entry["bbox_mode"], _CORNERS)
        for entry in objects
    ]
    boxes = transforms.apply_box(np.concatenate(corners).astype(np.float64))
    height, width = image_size
    clipped: FloatArray = boxes.clip(min=0, max=[width, height, width, height])
    return clipped


def _transform_masks(
    objects: Sequence[Object],
    transforms: T.TransformList,
    file_size: tuple[int, int],
    image_size: tuple[int, int],
    mask_format: str,
) -> tuple[PolygonMasks | BitMasks | CroppedMasks, npt.NDArray[np.bool_]]:
    """Returns the masks, and which of them have something left."""
    masks = [_as_arrays(entry["segmentation"]) for entry in objects]
    polygons = [mask for mask in masks if isinstance(mask, list)]
    if mask_format == "polygon" and len(polygons) == len(masks):
        outlines = transform_polygons(polygons, transforms)
        flat = [[points.reshape(-1) for points in outline] for outline in outlines]
        return PolygonMasks(flat), np.asarray([bool(outline) for outline in outlines], dtype=bool)
    if mask_format == "polygon":
        return crop_masks(masks, transforms, file_size, image_size)
    drawn, is_left = draw_masks(masks, transforms, file_size, image_size)
    return BitMasks(torch.from_numpy(drawn)), is_left


def _as_arrays(segmentation: Any) -> Mask:
    if isinstance(segmentation, dict):
        return segmentation
    # Whole numbers would lose their fraction at every step.
    return [np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]

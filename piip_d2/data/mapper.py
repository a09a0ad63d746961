"""From an entry of a data set to what a Detectron2 model takes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_api
import torch
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, PolygonMasks

from piip_d2._optional import available

from .image_reading import UnusableImageError, read_image

__all__ = ["PIIPDatasetMapper"]

MASK_FORMATS = ("polygon", "bitmask")


class PIIPDatasetMapper(DatasetMapper):
    """Detectron2's mapper for images and annotations as they are found.

    It reads images of any depth and colour model, says in a sentence what is wrong with one that
    cannot be used (``UnusableImageError``), and takes polygons and run lengths side by side.

    Args:
        is_train: Whether annotations are wanted.
        augmentations: Detectron2 augmentations, in order.
        image_format: "RGB" (PIIP's pre-trained weights) or "BGR".
        use_instance_mask: Whether to prepare masks.
        instance_mask_format: "polygon" or "bitmask". With "polygon", an image that has a mask
            given by run lengths gets bit masks, since those have no polygon.
        recompute_boxes: Whether boxes are drawn round the masks after augmentation; wanted with
            crops and rotations.
        use_keypoint: Whether to prepare keypoints.
        keypoint_hflip_indices: As in Detectron2's mapper.
    """

    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str = "RGB",
        use_instance_mask: bool = False,
        instance_mask_format: str = "polygon",
        recompute_boxes: bool = False,
        use_keypoint: bool = False,
        keypoint_hflip_indices: Sequence[int] | None = None,
    ) -> None:
        if instance_mask_format not in MASK_FORMATS:
            raise ValueError(
                f"instance_mask_format must be one of {MASK_FORMATS}, got {instance_mask_format!r}"
            )
        if recompute_boxes and not use_instance_mask:
            raise ValueError("recompute_boxes=True needs masks: set use_instance_mask=True too")
        super().__init__(
            is_train,
            augmentations=list(augmentations),
            image_format=image_format,
            use_instance_mask=use_instance_mask,
            use_keypoint=use_keypoint,
            instance_mask_format=instance_mask_format,
            keypoint_hflip_indices=(
                None if keypoint_hflip_indices is None else np.asarray(keypoint_hflip_indices)
            ),
            recompute_boxes=recompute_boxes,
        )

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Returns the entry with "image" (C, H, W), and "instances" where training needs them.

        Args:
            dataset_dict: An entry in Detectron2's format; it is not changed.

        Returns:
            A copy of the entry; "sem_seg" (H, W) too where training has a semantic map.
        """
        # Transforms write into annotations, and callers keep their entries.
        sample = copy.deepcopy(dataset_dict)
        image = read_image(sample["file_name"], self.image_format)
        try:
            detection_utils.check_image_size(sample, image)
        except detection_utils.SizeMismatchError as error:
            raise UnusableImageError(
                f"{sample['file_name']}: the annotations must be made for the upright image, but "
                f"they say {sample['width']}x{sample['height']} and the file has "
                f"{image.shape[1]}x{image.shape[0]} pixels (width x height)"
            ) from error
        semantic_file = sample.pop("sem_seg_file_name", None)
        semantic = read_image(semantic_file, "L")[:, :, 0] if semantic_file else None

        augmented = T.AugInput(image, sem_seg=semantic)
        transforms = self.augmentations(augmented)
        sample["image"] = torch.as_tensor(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
        # Evaluation compares with the JSON, at the size of the file.
        if not self.is_train:
            sample.pop("annotations", None)
            return sample
        if augmented.sem_seg is not None:
            sample["sem_seg"] = torch.as_tensor(augmented.sem_seg.astype("long"))
        if "annotations" in sample:
            self._transform_annotations(sample, transforms, augmented.image.shape[:2])
        return sample

    def _transform_annotations(
        self,
        dataset_dict: dict[str, Any],
        transforms: T.TransformList,
        image_shape: tuple[int, int],
    ) -> None:
        wanted = {"segmentation": self.use_instance_mask, "keypoints": self.use_keypoint}
        objects = [
            {key: value for key, value in entry.items() if wanted.get(key, True)}
            for entry in dataset_dict.pop("annotations")
            if not entry.get("iscrowd", 0)
        ]
        if self.use_instance_mask:
            objects = _with_masks(objects, dataset_dict["file_name"])
            if _crops_without_shapely(transforms):
                objects = [
                    _with_run_lengths(entry, dataset_dict["height"], dataset_dict["width"])
                    for entry in objects
                ]
        objects = [_with_floats(entry) for entry in objects]
        # Run lengths have no polygon: one of them makes bit masks of all masks of the image.
        has_run_lengths = any(isinstance(entry.get("segmentation"), dict) for entry in objects)
        mask_format = "bitmask" if has_run_lengths else self.instance_mask_format
        objects = [
            detection_utils.transform_instance_annotations(
                entry,
                transforms,
                image_shape,
                keypoint_hflip_indices=self.keypoint_hflip_indices,
            )
            for entry in objects
        ]
        instances = detection_utils.annotations_to_instances(objects, image_shape, mask_format)
        # Heads ask for the field without looking whether there are objects.
        if self.use_instance_mask and not objects:
            instances.gt_masks = _no_masks(image_shape, mask_format)
        if self.recompute_boxes:
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = detection_utils.filter_empty_instances(instances)


def _with_masks(objects: list[dict[str, Any]], file_name: str) -> list[dict[str, Any]]:
    """Returns the objects that have a mask; there must be one where there are objects."""
    masked = [entry for entry in objects if "segmentation" in entry]
    # Such an image is no image without objects: it would teach that these are background.
    if objects and not masked:
        raise UnusableImageError(
            f"{file_name}: use_instance_mask=True needs annotations with masks, but none of the "
            f"{len(objects)} objects has one. Train a detector without mask head on these data, "
            "or set dataloader.train.mapper.use_instance_mask=False"
        )
    return masked


def _with_floats(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns the object with coordinates that transforms need not round."""
    # Detectron2 keeps the type of the numbers: whole ones would lose their fraction at every step.
    exact = {**entry, "bbox": [float(value) for value in entry["bbox"]]}
    polygons = entry.get("segmentation")
    if isinstance(polygons, list):
        exact["segmentation"] = [[float(value) for value in polygon] for polygon in polygons]
    return exact


def _no_masks(image_shape: tuple[int, int], mask_format: str) -> PolygonMasks | BitMasks:
    if mask_format == "polygon":
        return PolygonMasks([])
    return BitMasks(torch.zeros(0, *image_shape, dtype=torch.bool))


def _crops_without_shapely(transforms: T.TransformList) -> bool:
    """Tells whether polygons would have to be cut, for which fvcore needs an optional package."""
    crops = any(isinstance(transform, T.CropTransform) for transform in transforms.transforms)
    return crops and not available("shapely")


def _with_run_lengths(entry: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    if isinstance(entry["segmentation"], dict):
        return entry
    polygons = mask_api.frPyObjects(entry["segmentation"], height, width)
    return {**entry, "segmentation": mask_api.merge(polygons)}

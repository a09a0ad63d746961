"""From an entry of a data set to what a Detectron2 model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T

from .image_reading import UnusableImageError, read_image
from .objects import make_instances
from .pixels import RESIZERS, TorchAugInput

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
            given by run lengths gets bit masks of each object's part of the image, since run
            lengths have no polygon.
        recompute_boxes: Whether boxes are drawn round the masks after augmentation; wanted with
            crops and rotations.
        use_keypoint: Whether to prepare keypoints.
        keypoint_hflip_indices: As in Detectron2's mapper.
        resize_with: "pillow", or "torch", which takes a third of the time. Its pixels differ by 1
            or 2 of 255, few of them: see docs/DATA_LOADING.md.
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
        resize_with: str = "pillow",
    ) -> None:
        if instance_mask_format not in MASK_FORMATS:
            raise ValueError(
                f"instance_mask_format must be one of {MASK_FORMATS}, got {instance_mask_format!r}"
            )
        if resize_with not in RESIZERS:
            raise ValueError(f"resize_with must be one of {RESIZERS}, got {resize_with!r}")
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
        self.resize_with = resize_with

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Returns the entry with "image" (C, H, W), and "instances" where training needs them.

        Args:
            dataset_dict: An entry in Detectron2's format; it is not changed.

        Returns:
            A copy of the entry; "sem_seg" (H, W) too where training has a semantic map.
        """
        # Of annotations only what is wanted is taken, into arrays of its own.
        sample = {key: value for key, value in dataset_dict.items() if key != "annotations"}
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

        aug_input = TorchAugInput if self.resize_with == "torch" else T.AugInput
        augmented = aug_input(image, sem_seg=semantic)
        transforms = self.augmentations(augmented)
        sample["image"] = torch.as_tensor(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
        # Evaluation compares with the JSON, at the size of the file.
        if not self.is_train:
            return sample
        if augmented.sem_seg is not None:
            sample["sem_seg"] = torch.as_tensor(augmented.sem_seg.astype("long"))
        if "annotations" in dataset_dict:
            objects = self._wanted_objects(dataset_dict)
            instances = make_instances(
                objects,
                transforms,
                file_size=image.shape[:2],
                image_size=augmented.image.shape[:2],
                mask_format=self.instance_mask_format if self.use_instance_mask else None,
                keypoint_hflip_indices=self.keypoint_hflip_indices,
            )
            if self.recompute_boxes:
                instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
            sample["instances"] = instances
        return sample

    def _wanted_objects(self, dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = {"segmentation": self.use_instance_mask, "keypoints": self.use_keypoint}
        objects = [
            {key: value for key, value in entry.items() if wanted.get(key, True)}
            for entry in dataset_dict["annotations"]
            if not entry.get("iscrowd", 0)
        ]
        if self.use_instance_mask:
            return _with_masks(objects, dataset_dict["file_name"])
        return objects


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

"""The objects of a batch, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.structures import Instances
from torch import Tensor

from piip_d2.modeling.dino.boxes import to_center_and_size


@dataclass(frozen=True)
class Targets:
    """The objects of all images of a batch, one after the other.

    Args:
        labels: (N,), classes.
        boxes: (N, 4), centre and size relative to the image without its padding.
        images: (N,), the number of the image of each object.
        places: (N,), the number of each object in its image.
        counts: How many objects there are in each image.
    """

    labels: Tensor
    boxes: Tensor
    images: Tensor
    places: Tensor
    counts: tuple[int, ...]

    def to(self, device: torch.device) -> Targets:
        """Returns the same objects on another device."""
        return Targets(
            labels=self.labels.to(device, non_blocking=True),
            boxes=self.boxes.to(device, non_blocking=True),
            images=self.images.to(device, non_blocking=True),
            places=self.places.to(device, non_blocking=True),
            counts=self.counts,
        )

    def padded(self) -> tuple[Tensor, Tensor]:
        """Labels (B, M) and boxes (B, M, 4); M is the largest count, the rest is zeros."""
        shape = (len(self.counts), max(self.counts, default=0))
        labels, boxes = self.labels.new_zeros(shape), self.boxes.new_zeros(*shape, 4)
        labels[self.images, self.places] = self.labels
        boxes[self.images, self.places] = self.boxes
        return labels, boxes


def join_targets(instances: Sequence[Instances]) -> Targets:
    """Joins what Detectron2's mappers give for training.

    Args:
        instances: Per image, ``gt_classes`` and ``gt_boxes`` in pixels of the image as it comes
            into the network.

    Returns:
        The objects, on the device of the instances.
    """
    device = instances[0].gt_classes.device
    counts = tuple(len(x) for x in instances)
    # Divided last, as in the released code: the other way round, boxes differ in their last bits.
    boxes = [
        to_center_and_size(x.gt_boxes.tensor.float()) / _scale(x.image_size).to(device)
        for x in instances
    ]
    return Targets(
        labels=torch.cat([x.gt_classes for x in instances]),
        boxes=torch.cat(boxes),
        images=torch.repeat_interleave(
            torch.arange(len(counts)), torch.tensor(counts), output_size=sum(counts)
        ).to(device),
        places=torch.cat([torch.arange(count) for count in counts]).to(device),
        counts=counts,
    )


def _scale(image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    return torch.tensor([width, height, width, height], dtype=torch.float32)

"""A step of DINO on images and objects that do not matter."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from piip_d2.modeling import DINO
from piip_d2.modeling.dino import (
    DenoisingQueries,
    HungarianMatcher,
    Targets,
    TransformerOutput,
)


def dino_losses(
    model: DINO, images: Tensor, image_size: tuple[int, int], num_objects: int
) -> Tensor:
    """Runs the forward pass of a training step.

    Which query is assigned to which object does not matter for memory, and needs numbers: here it
    is the first to the first.

    Args:
        model: The detector.
        images: (B, 3, H, W), normalised and padded.
        image_size: Height and width of all images without their padding, in pixels.
        num_objects: Objects in every image.

    Returns:
        The sum of all losses.
    """
    noisy = None if model.denoising is None else _noisy_queries(model, images, num_objects)
    output = _run(model, images, image_size, noisy)
    targets = _targets(images, num_objects)
    # Shares its settings with the criterion, which stays as it is.
    criterion = copy.copy(model.criterion)
    criterion.matcher = _FirstToFirst()
    return torch.stack(list(criterion(output, targets, noisy).values())).sum()


def dino_detections(model: DINO, images: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Runs the forward pass of detection.

    Args:
        model: The detector.
        images: As in :func:`dino_losses`.
        image_size: As there.

    Returns:
        Scores of all queries; their choice is small.
    """
    return _run(model, images, image_size, None).decoder.logits[-1].sigmoid()


class _FirstToFirst(HungarianMatcher):
    """Computes the costs as ever, but does not look at them."""

    def start(self, logits: Tensor, boxes: Tensor, targets: Targets) -> Any:
        super().start(logits, boxes, targets)
        pairs = sum(min(count, logits.shape[2]) for count in targets.counts)
        return _Pairs(targets.labels.new_zeros(len(logits), pairs))


class _Pairs:
    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers

    def result(self) -> tuple[Tensor, Tensor]:
        return self._numbers, self._numbers


def _run(
    model: DINO, images: Tensor, image_size: tuple[int, int], noisy: DenoisingQueries | None
) -> TransformerOutput:
    maps = list(model.backbone(images).values())
    padded, sizes = (images.shape[2], images.shape[3]), [image_size] * len(images)
    output: TransformerOutput = model.transformer(maps, sizes, padded, noisy)
    return output


def _noisy_queries(model: DINO, images: Tensor, num_objects: int) -> DenoisingQueries:
    assert model.denoising is not None
    num_groups = max(1, model.denoising.num_queries // num_objects)
    labels = images.new_zeros(len(images), 2 * num_groups * num_objects, dtype=torch.long)
    content = model.denoising.label_enc(labels)
    box_logits = images.new_zeros(*labels.shape, 4)
    return DenoisingQueries(content, box_logits, num_groups, num_objects)


def _targets(images: Tensor, num_objects: int) -> Targets:
    labels = images.new_zeros(len(images) * num_objects, dtype=torch.long)
    boxes = images.new_full((len(labels), 4), 0.5)
    places = torch.arange(num_objects, device=images.device).repeat(len(images))
    numbers = torch.arange(len(images), device=images.device).repeat_interleave(
        num_objects, output_size=len(labels)
    )
    return Targets(labels, boxes, numbers, places, (num_objects,) * len(images))

"""The forward pass of DINO's training on images and objects that do not matter."""

from __future__ import annotations

import torch
from torch import Tensor

from piip_d2.modeling import DINO
from piip_d2.modeling.dino import DenoisingQueries, TransformerOutput

# Objects in every image. With any other number there are about as many noisy queries.
_NUM_OBJECTS = 10


def run_forward(model: DINO, images: Tensor, image_size: tuple[int, int]) -> TransformerOutput:
    """Runs all of a training step that comes before the losses.

    Args:
        model: The detector.
        images: (B, 3, H, W), normalised and padded.
        image_size: Height and width of all images without their padding, in pixels.

    Returns:
        The predictions, also for about as many noisy queries as there are with real objects.
    """
    noisy = None
    if model.denoising is not None:
        num_groups = max(1, model.denoising.num_queries // _NUM_OBJECTS)
        labels = images.new_zeros(len(images), 2 * num_groups * _NUM_OBJECTS, dtype=torch.long)
        content = model.denoising.label_enc(labels)
        box_logits = images.new_zeros(*labels.shape, 4)
        noisy = DenoisingQueries(content, box_logits, num_groups, _NUM_OBJECTS)
    maps = list(model.backbone(images).values())
    padded, sizes = (images.shape[2], images.shape[3]), [image_size] * len(images)
    output: TransformerOutput = model.transformer(maps, sizes, padded, noisy)
    return output

"""A mask head for every stage of a cascade, https://arxiv.org/abs/1906.09756, section 5."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor, nn


class MaskHeadEnsemble(nn.ModuleList):
    """Predicts masks as the mean of what several heads predict.

    In training every head is called for itself, with the regions of its stage.

    Args:
        heads: Mask heads as Detectron2 has them, first stage first.
    """

    def forward(self, features: Tensor, instances: Sequence[Instances]) -> Sequence[Instances]:
        """Gives instances the mean of all heads' masks.

        Args:
            features: What is cut out of the maps for all instances, (R, C, H, W).
            instances: Detections of each image with ``pred_classes``, R in all.

        Returns:
            The same instances with ``pred_masks``: probabilities, (R', 1, 2H, 2W) in each image.
        """
        of_heads = []
        for head in self:
            # A head writes the probabilities of the predicted class into the instances.
            head(features, instances)
            of_heads.append([of_image.pred_masks for of_image in instances])
        for of_image, masks in zip(instances, zip(*of_heads, strict=True), strict=True):
            of_image.pred_masks = torch.stack(masks).mean(dim=0)
        return instances


def join_mask_heads(
    heads: nn.Module | Sequence[nn.Module] | None, num_stages: int
) -> nn.Module | None:
    """Makes one module of the mask heads that a cascade is given.

    Args:
        heads: One head, a sequence of one, or one head per stage; or None.
        num_stages: Number of stages of the cascade.

    Returns:
        What a cascade has as its mask head.

    Raises:
        ValueError: If there are more heads than one, but not as many as stages.
    """
    if not isinstance(heads, Sequence | nn.ModuleList):
        return heads
    if len(heads) not in (1, num_stages):
        raise ValueError(
            f"mask_head must be one head or one for each of {num_stages} stages, got {len(heads)}"
        )
    return heads[0] if len(heads) == 1 else MaskHeadEnsemble(heads)

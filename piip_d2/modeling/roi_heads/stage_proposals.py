"""What the stages of a cascade learn from: their samples, classes and masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.structures import Instances, pairwise_iou
from torch import Tensor


def make_samplers(heads: ROIHeads, matchers: Sequence[Matcher]) -> list[ROIHeads]:
    """Makes Detectron2's sampling of proposals with the thresholds of every stage.

    Args:
        heads: How many proposals are drawn of each image, and how many classes there are.
        matchers: One per stage.

    Returns:
        One per stage, for their ``label_and_sample_proposals``; they have no parameters.
    """
    return [
        ROIHeads(
            num_classes=heads.num_classes,
            batch_size_per_image=heads.batch_size_per_image,
            positive_fraction=heads.positive_fraction,
            proposal_matcher=matcher,
            proposal_append_gt=heads.proposal_append_gt,
        )
        for matcher in matchers
    ]


def draw_again(
    sampler: ROIHeads, proposals: list[Instances], targets: list[Instances]
) -> list[Instances]:
    """Adds the objects to the boxes that a stage has made, draws from both and labels them.

    Args:
        sampler: Of the next stage.
        proposals: Per image, with ``proposal_boxes`` alone.
        targets: Objects of each image.

    Returns:
        Proposals of each image with the fields of the objects that they are assigned to.
    """
    for of_image in proposals:
        # The sampler wants them beside those of the objects, and never looks at them.
        of_image.objectness_logits = of_image.proposal_boxes.tensor.new_zeros(len(of_image))
    return sampler.label_and_sample_proposals(proposals, targets)


@torch.no_grad()
def assign_masks(
    matcher: Matcher, proposals: Sequence[Instances], targets: Sequence[Instances]
) -> None:
    """Gives proposals the masks of the objects that they are assigned to, as ``gt_masks``.

    Args:
        matcher: Of the stage, which has assigned their classes and boxes.
        proposals: Per image; changed in place. Those of images without objects get none.
        targets: Objects of each image.
    """
    for of_image, objects in zip(proposals, targets, strict=True):
        if len(objects):
            matches, _ = matcher(pairwise_iou(objects.gt_boxes, of_image.proposal_boxes))
            of_image.gt_masks = objects.gt_masks[matches]


def is_ground_truth(proposals: Instances, num_classes: int) -> Tensor:
    """Tells which proposals are the very box of the object that they are assigned to, (R,)."""
    if not proposals.has("gt_boxes"):
        return torch.zeros_like(proposals.gt_classes, dtype=torch.bool)
    # Detectron2 adds objects to the proposals as copies: they are equal to the bit, if anything is.
    is_same = (proposals.proposal_boxes.tensor == proposals.gt_boxes.tensor).all(dim=1)
    return is_same & (proposals.gt_classes < num_classes)

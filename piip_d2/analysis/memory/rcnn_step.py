"""A step of Mask R-CNN or Cascade R-CNN in which nothing depends on numbers.

Detectron2's own modules do all the work on maps and regions. What it chooses by their numbers
(which anchors and proposals to learn from, what overlaps too much) is replaced by as much as it may
choose at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from piip_d2.analysis.detectors import stages_of


def rcnn_losses(model: GeneralizedRCNN, images: Tensor, num_objects: int) -> Tensor:
    """Runs the forward pass of a training step.

    Args:
        model: The detector.
        images: (B, 3, H, W), normalised and padded.
        num_objects: Objects in every image.

    Returns:
        The sum of all losses.
    """
    features = model.backbone(images)
    losses = [_rpn_losses(model.proposal_generator, features, num_objects)]
    heads: Any = model.roi_heads
    foreground = int(heads.batch_size_per_image * heads.positive_fraction)
    box_maps = [features[name] for name in heads.box_in_features]
    box_heads, predictors = stages_of(heads.box_head), stages_of(heads.box_predictor)
    for box_head, predictor in zip(box_heads, predictors, strict=True):
        regions = _pool(heads.box_pooler, box_maps, heads.batch_size_per_image)
        logits, deltas = predictor(box_head(regions))
        losses.append(_box_losses(logits, deltas, foreground * len(images)))
    for mask_head in _mask_heads(heads):
        maps = [features[name] for name in heads.mask_in_features]
        logits = mask_head.layers(_pool(heads.mask_pooler, maps, foreground))
        rows = torch.zeros(len(logits), dtype=torch.long)
        of_class = logits[rows, rows % logits.shape[1]]
        wanted = torch.zeros_like(of_class, dtype=torch.float32)
        losses.append(F.binary_cross_entropy_with_logits(of_class, wanted))
    return torch.stack(losses).sum()


def rcnn_detections(
    model: GeneralizedRCNN, images: Tensor, image_size: tuple[int, int]
) -> list[Tensor]:
    """Runs the forward pass of detection, to the masks over the images.

    Args:
        model: The detector.
        images: As in :func:`rcnn_losses`.
        image_size: Height and width of all images without their padding, in pixels.

    Returns:
        What is left of it.
    """
    features = model.backbone(images)
    rpn: Any = model.proposal_generator
    _propose(rpn, features)
    heads: Any = model.roi_heads
    box_maps = [features[name] for name in heads.box_in_features]
    box_heads, predictors = stages_of(heads.box_head), stages_of(heads.box_predictor)
    for box_head, predictor in zip(box_heads, predictors, strict=True):
        logits, deltas = predictor(
            box_head(_pool(heads.box_pooler, box_maps, rpn.post_nms_topk[False]))
        )
        probabilities = F.softmax(logits.float(), dim=1)
        # The boxes of all classes, clipped and then copied where they are good enough.
        boxes = deltas.float() * 1.0
        del logits, deltas
    results = [probabilities, boxes]
    detections = predictors[-1].test_topk_per_image
    masks = []
    for mask_head in _mask_heads(heads):
        maps = [features[name] for name in heads.mask_in_features]
        logits = mask_head.layers(_pool(heads.mask_pooler, maps, detections))
        masks.append(logits[:, :1].sigmoid())
        del logits
    del features
    if masks:
        size = (len(images) * detections, *image_size)
        results.append(torch.zeros(size, dtype=torch.bool))
    return results


def _mask_heads(heads: Any) -> list[Any]:
    if not heads.mask_on:
        return []
    return stages_of(heads.mask_head)


def _propose(
    rpn: Any, features: dict[str, Tensor]
) -> tuple[list[Boxes], list[Tensor], list[Tensor]]:
    """Anchors, logits (B, R) and deltas (B, R, 4) of all levels, as Detectron2 arranges them."""
    maps = [features[name] for name in rpn.in_features]
    anchors = rpn.anchor_generator(maps)
    logits, deltas = rpn.rpn_head(maps)
    logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
    deltas = [
        x.unflatten(1, (-1, anchors[0].tensor.shape[1])).permute(0, 3, 4, 1, 2).flatten(1, -2)
        for x in deltas
    ]
    with torch.no_grad():
        rpn._decode_proposals(anchors, [x.detach() for x in deltas])
    return anchors, logits, deltas


def _rpn_losses(rpn: Any, features: dict[str, Tensor], num_objects: int) -> Tensor:
    anchors, logits, deltas = _propose(rpn, features)
    with torch.no_grad():
        joined = Boxes.cat(anchors)
        wanted = [_label_anchors(rpn, joined, num_objects) for _ in range(len(logits[0]))]
        torch.stack([rpn.box2box_transform.get_deltas(joined.tensor, x) for x in wanted])
    batch = rpn.batch_size_per_image * len(logits[0])
    sampled = torch.zeros(batch, dtype=torch.long)
    chosen = torch.cat(logits, dim=1).flatten()[sampled]
    positive = sampled[: int(batch * rpn.positive_fraction)]
    boxes = torch.cat(deltas, dim=1).flatten(0, 1)[positive]
    objectness = F.binary_cross_entropy_with_logits(
        chosen, torch.zeros_like(chosen, dtype=torch.float32)
    )
    return objectness + boxes.abs().sum()


def _label_anchors(rpn: Any, anchors: Boxes, num_objects: int) -> Tensor:
    """The box of the object that every anchor is compared to, (R, 4)."""
    objects = Boxes(anchors.tensor.new_zeros(num_objects, 4))
    overlaps = pairwise_iou(objects, anchors)
    best, matches = overlaps.max(dim=0)
    if rpn.anchor_matcher.allow_low_quality_matches:
        overlaps.eq(overlaps.amax(dim=1)[:, None])
    return objects.tensor[matches]


def _box_losses(logits: Tensor, deltas: Tensor, num_foreground: int) -> Tensor:
    labels = torch.zeros(len(logits), dtype=torch.long)
    chosen = deltas[labels[:num_foreground]]
    if deltas.shape[1] > 4:
        chosen = chosen.unflatten(1, (-1, 4))[labels[:num_foreground], labels[:num_foreground]]
    return F.cross_entropy(logits, labels) + chosen.abs().sum()


def _pool(pooler: Any, maps: Sequence[Tensor], num_regions: int) -> Tensor:
    """Cuts regions out of the maps: as many out of each level as out of any other."""
    total = len(maps[0]) * num_regions
    boxes = maps[0].new_zeros(total, 5, dtype=torch.float32)
    if len(maps) == 1:
        return pooler.level_poolers[0](maps[0], boxes)
    output = maps[0].new_zeros(total, maps[0].shape[1], *pooler.output_size)
    for level, (level_pooler, x) in enumerate(zip(pooler.level_poolers, maps, strict=True)):
        rows = torch.arange(level, total, len(maps))
        output.index_put_((rows,), level_pooler(x, boxes[rows]))
    return output

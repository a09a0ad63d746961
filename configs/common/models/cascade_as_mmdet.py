"""Cascades that train and test as mmdetection's do."""

from __future__ import annotations

import copy

from omegaconf import DictConfig, ListConfig

from piip_d2.checkpoint.detectors.sources import MMDET_DEVIATIONS
from piip_d2.modeling.roi_heads import BoundedBox2BoxTransform

from .cascade_stages import heads_of_cascade


def use_mmdet_behaviour(model: DictConfig, *, mask_heads: int | None = None) -> None:
    """Makes a cascade give the detections that mmdetection gives with the same weights.

    It also trains likewise, but for details of the RPN and for boxes that have shrunk to nothing,
    which Detectron2 leaves out of the next stage. A second call changes nothing but the number of
    mask heads.

    Args:
        model: Made by ``cascade_rcnn.py`` or ``cascade_mask_rcnn.py``; changed in place.
        mask_heads: As many as there are stages, as None too, for a mask head per stage, whose masks
            are averaged, as in mmdetection; 1 for a single one. Without meaning for a cascade
            without masks.

    Raises:
        ValueError: If the model is no cascade, or ``mask_heads`` is neither.
    """
    heads = heads_of_cascade(model)
    num_stages = len(heads.box_predictors)
    mask_heads = num_stages if mask_heads is None else mask_heads
    if mask_heads not in (1, num_stages):
        raise ValueError(f"mask_heads must be 1 or {num_stages}, one per stage, got {mask_heads}")
    rpn = model.proposal_generator
    rpn.post_nms_topk = [2000, 1000]
    rpn.smooth_l1_beta = 1 / 9
    for transform in (rpn.box2box_transform, *(x.box2box_transform for x in heads.box_predictors)):
        transform._target_ = BoundedBox2BoxTransform
    heads.score_average = "logits"
    heads.stage_loss_weights = [0.5**stage for stage in range(num_stages)]
    heads.scale_gradients = False
    heads.remove_ground_truth = True
    heads.resample_proposals = True
    for predictor in heads.box_predictors:
        predictor.smooth_l1_beta = 1.0
    for predictor, deviations in zip(heads.box_predictors, MMDET_DEVIATIONS, strict=False):
        predictor.box2box_transform.weights = [1 / x for x in deviations]
    if heads.get("mask_head") is not None:
        heads.mask_head = _copies(heads.mask_head, mask_heads)


def _copies(mask_head: DictConfig | ListConfig, number: int) -> DictConfig | list[DictConfig]:
    """Makes one head or a list of them from either."""
    heads = mask_head if isinstance(mask_head, ListConfig) else [mask_head]
    copies = [copy.deepcopy(heads[min(place, len(heads) - 1)]) for place in range(number)]
    for head in copies:
        # In a list they are one level deeper than a single head.
        head.num_classes = "${..num_classes}" if number == 1 else "${...num_classes}"
    return copies[0] if number == 1 else copies

"""Cascades that train and test as mmdetection's do."""

from __future__ import annotations

import copy

from omegaconf import DictConfig

from piip_d2.modeling.roi_heads import BoundedBox2BoxTransform


def use_mmdet_behaviour(model: DictConfig, *, mask_heads: int = 3) -> None:
    """Makes a cascade give the detections that mmdetection gives with the same weights.

    It also trains likewise, but for details of the RPN and for boxes that have shrunk to nothing,
    which Detectron2 leaves out of the next stage.

    Args:
        model: Made by ``cascade_rcnn.py`` or ``cascade_mask_rcnn.py``; changed in place.
        mask_heads: 3 for a mask head per stage, whose masks are averaged, as in mmdetection; 1 to
            keep one. Without meaning for a cascade without masks.

    Raises:
        ValueError: If ``mask_heads`` is neither.
    """
    if mask_heads not in (1, 3):
        raise ValueError(f"mask_heads must be 1 or 3, one per stage, got {mask_heads}")
    rpn, heads = model.proposal_generator, model.roi_heads
    rpn.post_nms_topk = [2000, 1000]
    rpn.smooth_l1_beta = 1 / 9
    for transform in (rpn.box2box_transform, *(x.box2box_transform for x in heads.box_predictors)):
        transform._target_ = BoundedBox2BoxTransform
    heads.score_average = "logits"
    heads.stage_loss_weights = [1.0, 0.5, 0.25]
    heads.scale_gradients = False
    heads.remove_ground_truth = True
    heads.resample_proposals = True
    for predictor in heads.box_predictors:
        predictor.smooth_l1_beta = 1.0
    # Detectron2 rounds these of the last stage, to 30 and 15.
    deviations = (0.033, 0.033, 0.067, 0.067)
    heads.box_predictors[-1].box2box_transform.weights = [1 / x for x in deviations]
    if "mask_head" in heads and mask_heads > 1:
        head = copy.deepcopy(heads.mask_head)
        # One level deeper than a single head.
        head.num_classes = "${...num_classes}"
        heads.mask_head = [copy.deepcopy(head) for _ in range(mask_heads)]

"""What the keys of Detectron2's older configs say about a cascade."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from torch import nn


def options_of_cascade(cfg: CfgNode) -> dict[str, Any]:
    """Reads what ``add_cascade_config`` has added; without it, the values are Detectron2's."""
    section = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    return {
        "score_average": section.get("SCORE_AVERAGE", "probs"),
        "stage_loss_weights": section.get("STAGE_LOSS_WEIGHTS") or None,
        "scale_gradients": section.get("SCALE_GRADIENTS", True),
        "remove_ground_truth": section.get("REMOVE_GROUND_TRUTH", False),
        "resample_proposals": section.get("RESAMPLE_PROPOSALS", False),
    }


def number_of_mask_heads(cfg: CfgNode) -> int:
    return cfg.MODEL.ROI_BOX_CASCADE_HEAD.get("NUM_MASK_HEADS", 1)


def as_for_all_classes(cfg: CfgNode) -> CfgNode:
    """Copies a config with one box for all classes, the only kind Detectron2's cascade takes."""
    agnostic = cfg.clone()
    agnostic.defrost()
    agnostic.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    return agnostic


def make_predictors(cfg: CfgNode, box_heads: Iterable[Any]) -> list[nn.Module]:
    """Makes the predictors of all stages, with boxes per class if the config has them so.

    Args:
        cfg: The whole config.
        box_heads: Of all stages, with their ``output_shape``.

    Returns:
        One per stage.
    """
    reg_weights = cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS
    return [
        FastRCNNOutputLayers(
            cfg, head.output_shape, box2box_transform=Box2BoxTransform(weights=weights)
        )
        for head, weights in zip(box_heads, reg_weights, strict=True)
    ]

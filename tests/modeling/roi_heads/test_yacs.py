"""Cascades from Detectron2's yacs keys."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_roi_heads
from torch import nn

from piip_d2.config import add_cascade_config
from piip_d2.modeling import ExtendedCascadeROIHeads


def yacs_config() -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "ExtendedCascadeROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignV2"
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.MASK_ON = True
    return cfg


def build(cfg: CfgNode) -> ExtendedCascadeROIHeads:
    shapes = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (2, 3)}
    heads = build_roi_heads(cfg, shapes)
    assert isinstance(heads, ExtendedCascadeROIHeads)
    return heads


@pytest.mark.parametrize("has_keys", [False, True])
def test_defaults_are_detectron2s(has_keys: bool) -> None:
    cfg = yacs_config()
    if has_keys:
        add_cascade_config(cfg)
    heads = build(cfg)
    assert heads.score_average == "probs" and heads.scale_gradients
    assert heads.stage_loss_weights == [1.0] * 3
    assert not (heads.remove_ground_truth or heads.resample_proposals)
    assert {x.bbox_pred.out_features for x in heads.box_predictor} == {4}
    assert not isinstance(heads.mask_head, nn.ModuleList)


def test_every_key_arrives() -> None:
    cfg = yacs_config()
    add_cascade_config(cfg)
    section = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    section.SCORE_AVERAGE = "logits"
    section.STAGE_LOSS_WEIGHTS = [1.0, 0.5, 0.25]
    section.SCALE_GRADIENTS = False
    section.REMOVE_GROUND_TRUTH = section.RESAMPLE_PROPOSALS = True
    section.NUM_MASK_HEADS = 3
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = False
    heads = build(cfg)
    assert heads.score_average == "logits" and not heads.scale_gradients
    assert heads.stage_loss_weights == [1.0, 0.5, 0.25]
    assert heads.remove_ground_truth and heads.resample_proposals
    first, _, last = heads.mask_head
    assert not torch.equal(first.predictor.weight, last.predictor.weight)
    assert [x.bbox_pred.out_features for x in heads.box_predictor] == [12] * 3
    assert [x.box2box_transform.weights for x in heads.box_predictor] == [
        (10.0, 10.0, 5.0, 5.0),
        (20.0, 20.0, 10.0, 10.0),
        (30.0, 30.0, 15.0, 15.0),
    ]

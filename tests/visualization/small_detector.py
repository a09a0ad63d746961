"""A Mask R-CNN that is small enough to run in milliseconds; its weights are random."""

from __future__ import annotations

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from omegaconf import DictConfig
from torch import Tensor, nn

CHANNELS = 8


class TwoLayers(Backbone):
    """Two convolutions to a map of stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 4, stride=4),
        )

    @property
    def size_divisibility(self) -> int:
        return 16

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"p4": self.layers(images)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"p4": ShapeSpec(channels=CHANNELS, stride=16)}


def small_mask_rcnn(num_classes: int) -> DictConfig:
    """The config of a Mask R-CNN that keeps detections of every score."""
    roi_shape = ShapeSpec(channels=CHANNELS, width=4, height=4)
    return L(GeneralizedRCNN)(
        backbone=L(TwoLayers)(),
        proposal_generator=L(RPN)(
            in_features=["p4"],
            head=L(StandardRPNHead)(in_channels=CHANNELS, num_anchors=3),
            anchor_generator=L(DefaultAnchorGenerator)(
                sizes=[[32]], aspect_ratios=[0.5, 1.0, 2.0], strides=[16]
            ),
            anchor_matcher=_matcher([0.3, 0.7], [0, -1, 1]),
            box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
            batch_size_per_image=16,
            positive_fraction=0.5,
            pre_nms_topk=[32, 32],
            post_nms_topk=[8, 8],
        ),
        roi_heads=L(StandardROIHeads)(
            num_classes=num_classes,
            batch_size_per_image=16,
            positive_fraction=0.25,
            proposal_matcher=_matcher([0.5], [0, 1]),
            box_in_features=["p4"],
            box_pooler=_pooler(),
            box_head=L(FastRCNNConvFCHead)(input_shape=roi_shape, conv_dims=[], fc_dims=[8]),
            box_predictor=L(FastRCNNOutputLayers)(
                input_shape=ShapeSpec(channels=8),
                box2box_transform=L(Box2BoxTransform)(weights=[10.0, 10.0, 5.0, 5.0]),
                num_classes="${..num_classes}",
                test_score_thresh=0.0,
                test_topk_per_image=6,
            ),
            mask_in_features=["p4"],
            mask_pooler=_pooler(),
            mask_head=L(MaskRCNNConvUpsampleHead)(
                input_shape=roi_shape, num_classes="${..num_classes}", conv_dims=[8]
            ),
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
        input_format="RGB",
    )


def _matcher(thresholds: list[float], labels: list[int]) -> DictConfig:
    return L(Matcher)(thresholds=thresholds, labels=labels)


def _pooler() -> DictConfig:
    return L(ROIPooler)(output_size=4, scales=[1 / 16], sampling_ratio=2, pooler_type="ROIAlignV2")

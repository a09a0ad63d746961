"""Networks that are exported within seconds."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch import GeneralizedRCNN
from torch import nn

from piip_d2.modeling import DINO, ChannelMapper, build_piip
from piip_d2.modeling.backbone import PIIPNetwork, ViTBranch, build_network
from piip_d2.modeling.dino import DINOCriterion, HungarianMatcher, build_dino_transformer
from tests.visualization import small_detector

LEVELS = ["res3", "res4"]


def small_network(**options: Any) -> PIIPNetwork:
    """Two branches that meet once, with windows and stretched positions, and no zero weights."""
    torch.manual_seed(0)
    network = build_network(small_branches(), **{**_options(), **options}).eval()
    _disturb(network)
    return network


def small_dino(num_queries: int = 12) -> DINO:
    """The same below a transformer of one layer each."""
    torch.manual_seed(0)
    detector = DINO(
        backbone=_backbone(16),
        transformer=build_dino_transformer(
            num_classes=3,
            num_levels=2,
            embed_dim=16,
            num_heads=2,
            feedforward_dim=24,
            num_encoder_layers=1,
            num_decoder_layers=1,
            num_queries=num_queries,
        ),
        criterion=DINOCriterion(HungarianMatcher()),
        denoising=None,
        num_classes=3,
        pixel_mean=[120.0] * 3,
        pixel_std=[60.0] * 3,
        topk_per_image=20,
    ).eval()
    _disturb(detector)
    return detector


def small_mask_rcnn() -> GeneralizedRCNN:
    """The same below heads for boxes and masks."""
    torch.manual_seed(0)
    detector: GeneralizedRCNN = instantiate(small_detector.small_mask_rcnn(num_classes=3))
    detector.backbone = _backbone(small_detector.CHANNELS)
    _disturb(detector)
    return detector.eval()


def _backbone(out_channels: int) -> ChannelMapper:
    piip = build_piip(
        small_branches(), **_options(), size_divisibility=32, interaction_drop_path_rate=0.0
    )
    assert isinstance(piip.output_shape()["res3"], ShapeSpec)
    return ChannelMapper(piip, LEVELS, out_channels, num_levels=2, num_groups=4)


def small_branches(low_width: int = 32) -> list[ViTBranch]:
    """Two of them; the width of the one of lower resolution can be chosen."""
    # The table of positions of one branch has to be stretched at 128 pixels, the other's not.
    return [
        ViTBranch(
            img_size=side,
            embed_dim=width,
            depth=1,
            num_heads=2,
            window_size=3,
            pretrain_img_size=64,
        )
        for side, width in ((128, 32), (64, low_width))
    ]


def _options() -> dict[str, Any]:
    return {"num_interactions": 1, "num_heads": 2, "num_points": 2, "out_features": LEVELS}


def _disturb(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)

"""DINO on PIIP, as released: four maps of strides 8 to 64, and 900 queries."""

from detectron2.config import LazyCall as L

from piip_d2.modeling.dino import (
    DINO,
    ChannelMapper,
    ContrastiveDenoising,
    DINOCriterion,
    HungarianMatcher,
    build_dino_transformer,
)

from .piip_fpn import backbone as _fpn

model = L(DINO)(
    backbone=L(ChannelMapper)(
        bottom_up=_fpn.bottom_up,
        in_features="${.bottom_up.out_features}",
        out_channels=256,
        # Five with res2 among the maps below.
        num_levels=4,
        num_groups=32,
        # True for weights of DINO's authors or of detrex.
        bias=False,
    ),
    transformer=L(build_dino_transformer)(
        num_classes="${..num_classes}",
        num_levels="${..backbone.num_levels}",
        embed_dim="${..backbone.out_channels}",
        num_heads=8,
        num_points=4,
        feedforward_dim=2048,
        num_encoder_layers=6,
        num_decoder_layers=6,
        num_queries=900,
        position_temperature=20.0,
        position_offset=0.0,
        # Recomputes activations in the backward pass, which saves memory; see docs/MEMORY.md.
        use_encoder_act_checkpoint=False,
        use_decoder_act_checkpoint=False,
    ),
    # In the place of this, null trains without noisy queries.
    denoising=L(ContrastiveDenoising)(
        num_classes="${..num_classes}",
        embed_dim="${..backbone.out_channels}",
        num_queries=100,
        label_noise=0.5,
        box_noise=1.0,
    ),
    criterion=L(DINOCriterion)(
        matcher=L(HungarianMatcher)(class_weight=2.0, bbox_weight=5.0, giou_weight=2.0),
        class_weight=1.0,
        bbox_weight=5.0,
        giou_weight=2.0,
        # Factors for the layers before the last, for the encoder and for noisy queries.
        aux_weight=1.0,
        encoder_weight=1.0,
        denoising_weight=1.0,
    ),
    num_classes=80,
    topk_per_image=300,
    test_score_thresh=0.0,
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
    input_format="RGB",
    vis_period=0,
)
model.backbone.bottom_up.out_features = ["res3", "res4", "res5"]

"""A PIIP of three small branches that trains from scratch on a CPU within minutes.

It runs every part of the large ones: windows, deformable interactions, merge, feature maps. What
differs is size, and a stem of convolutions with patches of 8 pixels, since small networks without
pre-training learn little from bare patches. All its sizes stand in this file.
"""

from __future__ import annotations

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from piip_d2.modeling.backbone import ConvStem, ViTBranch

from .piip_fpn import backbone

IMAGE_SIZE = 256
CHANNELS = 64


def quick_branch(img_size: int, embed_dim: int, num_heads: int) -> DictConfig:
    """A narrow ViT of four blocks, all of them windowed."""
    return L(ViTBranch)(
        img_size=img_size,
        embed_dim=embed_dim,
        depth=4,
        num_heads=num_heads,
        patch_embed=L(ConvStem)(embed_dim="${..embed_dim}", stride=8),
        pretrain_img_size="${.img_size}",
        window_size=8,
    )


def use_quick_piip(model: DictConfig, *, num_classes: int) -> None:
    """Puts the backbone into a Faster or Mask R-CNN and narrows the heads to its width."""
    model.backbone = backbone
    model.roi_heads.num_classes = num_classes
    model.proposal_generator.head.in_channels = CHANNELS
    model.roi_heads.batch_size_per_image = 128
    model.roi_heads.box_head.input_shape.channels = CHANNELS
    model.roi_heads.box_head.fc_dims = [256, 256]
    model.roi_heads.box_predictor.input_shape.channels = 256
    if "mask_head" in model.roi_heads:
        model.roi_heads.mask_head.input_shape.channels = CHANNELS
        model.roi_heads.mask_head.conv_dims = [CHANNELS] * 3


backbone.out_channels = CHANNELS
backbone.bottom_up.size_divisibility = 32
backbone.bottom_up.num_interactions = 2
backbone.bottom_up.num_heads = 8
backbone.bottom_up.interaction_drop_path_rate = 0.0
backbone.bottom_up.branches = [
    quick_branch(IMAGE_SIZE, embed_dim=64, num_heads=2),
    quick_branch(IMAGE_SIZE * 3 // 4, embed_dim=96, num_heads=3),
    quick_branch(IMAGE_SIZE // 2, embed_dim=128, num_heads=4),
]

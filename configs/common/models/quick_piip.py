"""A PIIP of three small branches that trains from scratch on a CPU within minutes.

It runs every part of the large ones: windows, deformable interactions, merge, feature maps. What
differs is size, and a stem of convolutions with cells of 8 pixels, since small networks without
pre-training learn little from bare patches. All its sizes stand in this file.
"""

from __future__ import annotations

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from piip_d2.modeling.backbone import ConvStem, TimmStem, ViTBranch

from .piip_fpn import backbone

IMAGE_SIZE = 256
CHANNELS = 64
HIDDEN = 256


def quick_branch(img_size: int) -> DictConfig:
    """A narrow ViT of three windowed blocks."""
    return L(ViTBranch)(
        img_size=img_size,
        embed_dim=CHANNELS,
        depth=3,
        num_heads=2,
        patch_embed=L(ConvStem)(embed_dim="${..embed_dim}", stride=8),
        pretrain_img_size="${.img_size}",
        window_size=8,
    )


def use_quick_piip(model: DictConfig, *, num_classes: int, pretrained_stems: bool = False) -> None:
    """Puts the backbone into an R-CNN and narrows the heads to its width.

    Args:
        model: Made by ``faster_rcnn.py``, ``mask_rcnn.py`` or their like of a cascade; changed in
            place.
        num_classes: Number of classes.
        pretrained_stems: Whether every branch describes its patches by textures that ImageNet has
            taught, and keeps them; ``train.init_checkpoint`` has to name their weights.
    """
    model.backbone = backbone
    if pretrained_stems:
        use_pretrained_stems(model)
    rpn, heads = model.proposal_generator, model.roi_heads
    rpn.head.in_channels = CHANNELS
    rpn.batch_size_per_image = 128
    rpn.pre_nms_topk = [600, 400]
    rpn.post_nms_topk = [300, 200]
    heads.num_classes = num_classes
    heads.batch_size_per_image = 32
    # A cascade has one of each per stage.
    for box_head in heads.box_heads if "box_heads" in heads else [heads.box_head]:
        box_head.input_shape.channels = CHANNELS
        box_head.fc_dims = [HIDDEN, HIDDEN]
    for predictor in heads.box_predictors if "box_predictors" in heads else [heads.box_predictor]:
        predictor.input_shape.channels = HIDDEN
    poolers = [heads.box_pooler]
    if "mask_head" in heads:
        heads.mask_head.input_shape.channels = CHANNELS
        heads.mask_head.conv_dims = [CHANNELS] * 3
        poolers.append(heads.mask_pooler)
    for pooler in poolers:
        # Objects of a third of the image belong to stride 16, as they do at full size.
        pooler.canonical_box_size = IMAGE_SIZE // 3
        pooler.sampling_ratio = 2


def use_pretrained_stems(model: DictConfig) -> None:
    """Makes every branch describe its patches by the first stages of EfficientNet-Lite0, frozen.

    Args:
        model: Has the backbone already; changed in place.
    """
    for branch in model.backbone.bottom_up.branches:
        branch.patch_embed = L(TimmStem)(embed_dim="${..embed_dim}", stride=8, frozen=True)


def expect_many_small_objects(model: DictConfig) -> None:
    """Halves the anchors and takes more regions, of which fewer may overlap, such as crowns."""
    model.proposal_generator.anchor_generator.sizes = [[16], [32], [64], [128], [256]]
    model.roi_heads.batch_size_per_image = 48
    model.roi_heads.box_predictor.test_nms_thresh = 0.4


backbone.out_channels = CHANNELS
backbone.bottom_up.size_divisibility = 64
backbone.bottom_up.num_interactions = 2
backbone.bottom_up.num_heads = 4
backbone.bottom_up.interaction_drop_path_rate = 0.0
backbone.bottom_up.branches = [
    quick_branch(IMAGE_SIZE),
    quick_branch(IMAGE_SIZE // 2),
    quick_branch(IMAGE_SIZE // 4),
]

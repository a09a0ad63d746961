"""The structure of PIIP-H6B at a thousandth of its size."""

from __future__ import annotations

from omegaconf import DictConfig

from .branches import branch
from .quick_piip import use_quick_piip

# Pixels of the larger image.
IMAGE_SIZE = 128


def use_quick_h6b(model: DictConfig, *, num_classes: int) -> None:
    """Puts a plain branch and one like InternViT-6B into a Mask R-CNN that chooses no regions.

    The second branch has RMSNorm, normed queries and keys, and global attention. Every anchor is a
    proposal, and the heads train on all of them: where they choose, runs whose scores round
    differently soon train on different regions, and can no longer be compared.

    Args:
        model: Made by ``mask_rcnn.py``; changed in place.
        num_classes: Number of classes.
    """
    use_quick_piip(model, num_classes=num_classes)
    model.backbone.bottom_up.branches = [
        branch("mae_huge", IMAGE_SIZE, embed_dim=64, depth=4, num_heads=4, drop_path_rate=0.1),
        branch(
            "intern_vit_6b",
            IMAGE_SIZE // 2,
            embed_dim=128,
            depth=6,
            num_heads=4,
            drop_path_rate=0.1,
        ),
    ]
    rpn = model.proposal_generator
    # Three of the five maps: 128 pixels have 252 anchors there.
    rpn.in_features = ["p4", "p5", "p6"]
    rpn.anchor_generator.sizes = [[32], [64], [128]]
    rpn.anchor_generator.strides = [16, 32, 64]
    rpn.post_nms_topk = [300, 200]
    rpn.nms_thresh = 1.0
    # More than any image has, of which a quarter may be foreground.
    model.roi_heads.batch_size_per_image = 2000

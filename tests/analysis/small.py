"""Small networks and detectors to count."""

from __future__ import annotations

from typing import Any

from torch import nn

from piip_d2.analysis.configs import build_without_numbers
from piip_d2.modeling.backbone import PIIPNetwork, ViTBranch, build_network

SIZES = (96, 48)
WIDTHS = (32, 64)
WINDOW = 4
CONFIG = "configs/quick/mask_rcnn_scenes.py"


def small_network(**options: Any) -> PIIPNetwork:
    """Two branches of two blocks at 96 and 48 pixels: grids of 6 x 6 and 3 x 3 cells.

    Args:
        **options: Arguments of ``build_network``.
    """
    branches = [
        ViTBranch(
            img_size=size,
            embed_dim=width,
            depth=2,
            num_heads=4,
            pretrain_img_size=32,
            window_size=[WINDOW, None],
        )
        for size, width in zip(SIZES, WIDTHS, strict=True)
    ]
    return build_network(branches, **{"num_interactions": 2, "num_heads": 4, **options})


def small_detector() -> nn.Module:
    """A small Mask R-CNN without numbers."""
    return build_without_numbers(CONFIG)

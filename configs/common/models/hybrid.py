"""Pyramids of ConvNeXts and ViTs, whose feature maps come from four depths."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from piip_d2.modeling.backbone.zoo import find_structure

from .branches import published


def set_networks(model: DictConfig, names: str, img_sizes: Sequence[int]) -> None:
    """Gives a detector with maps from four depths its branches.

    Args:
        model: Made by ``mask_rcnn_four_depths.py``; changed in place.
        names: Networks, largest resolution first, with a letter for the kind ("c" is ConvNeXt,
            "v" is ViT) and one for the size: "ct_vs_vb".
        img_sizes: Their resolutions in pixels.

    Raises:
        ValueError: If there are not as many sizes as branches, or there is no such pyramid.
    """
    piip = model.backbone.bottom_up
    piip.branches = published(f"piip_{names}", img_sizes)
    blocks = find_structure(f"piip_{names}").network_options["interaction_block_indexes"]
    piip.interaction_block_indexes = blocks

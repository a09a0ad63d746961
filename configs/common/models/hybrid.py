"""Pyramids of ConvNeXts and ViTs, whose feature maps come from four depths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from omegaconf import DictConfig

from .branches import branch, check_sizes, vit_base, vit_small, vit_tiny


def set_networks(model: DictConfig, names: str, img_sizes: Sequence[int]) -> None:
    """Gives a detector with maps from four depths its branches.

    Args:
        model: Made by ``mask_rcnn_four_depths.py``; changed in place.
        names: Networks, largest resolution first, with a letter for the kind ("c" is ConvNeXt,
            "v" is ViT) and one for the size: "ct_vs_vb".
        img_sizes: Their resolutions in pixels.

    Raises:
        ValueError: If there are not as many sizes as branches, or a name is unknown.
    """
    kinds = names.split("_")
    check_sizes(len(kinds), img_sizes)
    unknown = sorted(set(kinds) - set(_NETWORKS))
    if unknown:
        raise ValueError(f"networks must be some of {', '.join(_NETWORKS)}, got {unknown[0]!r}")
    piip = model.backbone.bottom_up
    piip.branches = [
        _NETWORKS[kind].make(img_size) for kind, img_size in zip(kinds, img_sizes, strict=True)
    ]
    piip.interaction_block_indexes = [list(_NETWORKS[kind].last_blocks) for kind in kinds]


class _Network(NamedTuple):
    make: Callable[[int], DictConfig]
    last_blocks: Sequence[int]  # before each interaction


# A ConvNeXt's down-sampling layers count as blocks. Interactions 0 and 1 end its first two stages,
# 10 its third and 11 its last.
_VIT_BLOCKS = range(12)
_SHALLOW_BLOCKS = (2, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20)
_DEEP_BLOCKS = (2, 6, 10, 13, 16, 19, 22, 25, 28, 31, 34, 38)

_NETWORKS = {
    "ct": _Network(partial(branch, "convnext_tiny", drop_path_rate=0.3), _SHALLOW_BLOCKS),
    "cs": _Network(partial(branch, "convnext_small", drop_path_rate=0.3), _DEEP_BLOCKS),
    "cb": _Network(partial(branch, "convnext_base", drop_path_rate=0.4), _DEEP_BLOCKS),
    "vt": _Network(partial(vit_tiny, window_size=14), _VIT_BLOCKS),
    "vs": _Network(partial(vit_small, window_size=14), _VIT_BLOCKS),
    "vb": _Network(partial(vit_base, window_size=14), _VIT_BLOCKS),
}

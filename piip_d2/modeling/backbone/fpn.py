"""A feature pyramid that keeps the padding its backbone asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import nn

from piip_d2.modeling.backbone.piip import PIIP


@BACKBONE_REGISTRY.register()
class PIIPFPN(FPN):
    """Detectron2's FPN, passing on the padding constraints of its bottom-up network.

    The original pads to its coarsest stride alone, which would change the image pyramid of a PIIP
    below it.

    Args:
        bottom_up: The backbone below.
        in_features: Names of its maps, finest first.
        out_channels: Channels of every output.
        norm: Norm of the convolutions, as Detectron2 names it.
        top_block: Adds coarser levels, for example ``LastLevelMaxPool()``.
        fuse_type: ``"sum"`` or ``"avg"``.
    """

    @configurable
    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
    ) -> None:
        super().__init__(bottom_up, list(in_features), out_channels, norm, top_block, fuse_type)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Builds a :class:`PIIP` below an FPN from Detectron2's FPN keys."""
        return {
            "bottom_up": PIIP(cfg, input_shape),
            "in_features": cfg.MODEL.FPN.IN_FEATURES or cfg.MODEL.PIIP.OUT_FEATURES,
            "out_channels": cfg.MODEL.FPN.OUT_CHANNELS,
            "norm": cfg.MODEL.FPN.NORM,
            "top_block": LastLevelMaxPool(),
            "fuse_type": cfg.MODEL.FPN.FUSE_TYPE,
        }

    @property
    def size_divisibility(self) -> int:
        """Images are padded to multiples of this many pixels, for both networks."""
        return math.lcm(super().size_divisibility, self.bottom_up.size_divisibility)

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What ``ImageList`` has to heed when it pads."""
        return {
            **self.bottom_up.padding_constraints,
            "size_divisibility": self.size_divisibility,
        }

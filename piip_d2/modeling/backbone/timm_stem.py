"""The first stages of a pre-trained network as a branch's patch embedding."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
from torch import Tensor, nn

from piip_d2.modeling.backbone.patch_embed import drop_rest


class TimmStem(nn.Module):
    """Patches described by the first stages of a convolutional network of timm.

    Early stages of a pre-trained network are good at textures, which small data sets do not teach.
    Its weights come with a checkpoint, see ``train.init_checkpoint``; until then they are random.

    Args:
        embed_dim: Channels of the map.
        network: timm's name of the network.
        stride: The network is cut behind the stage with this stride, in pixels.
        frozen: Keep weights and batch statistics as they are loaded.

    Raises:
        ValueError: If the network has no stage with this stride.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        network: str = "tf_efficientnet_lite0",
        stride: int = 8,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        strides = _strides(network)
        if stride not in strides:
            raise ValueError(f"{network} has stages of the strides {strides}, got stride {stride}")
        self.stride = stride
        self.frozen = frozen
        # "getter" leaves out what comes behind the wanted stage.
        stages: Any = timm.create_model(
            network,
            features_only=True,
            feature_cls="getter",
            out_indices=(strides.index(stride),),
        )
        (channels,) = stages.feature_info.channels()
        self.body: nn.Module = stages
        self.norm = nn.GroupNorm(math.gcd(channels, 8), channels)
        self.proj = nn.Conv2d(channels, embed_dim, 1)
        if frozen:
            self.body.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TimmStem:
        """Sets the mode, but for a frozen body, whose batch statistics must stay."""
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, h, w) to (B, H, W, C) with H = h // stride, W = w // stride."""
        (features,) = self.body(drop_rest(images, self.stride))
        return self.proj(self.norm(features)).permute(0, 2, 3, 1)


def _strides(network: str) -> list[int]:
    # Without memory for weights: only the description of the stages is wanted.
    with torch.device("meta"):
        stages: Any = timm.create_model(network, features_only=True)
    return list(stages.feature_info.reduction())

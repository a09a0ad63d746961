"""Uni-Perceiver's image encoder as a branch."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from piip_d2.modeling.backbone.vit import ViTBranch

# PyTorch's own default, which Uni-Perceiver was trained with.
_NORM_EPS = 1e-5


class UniPerceiverBranch(ViTBranch):
    """Uni-Perceiver's encoder for one image, without its final norm.

    Uni-Perceiver (https://arxiv.org/abs/2112.01522) takes pictures for films of one frame:
    patches get an embedding of their place and one of the first frame, and are normalised before
    the blocks.

    Args:
        embed_dim: Channels.
        drop_path_schedule: ``"linear"`` grows the rate from 0 on, ``"constant"`` gives every
            block the same.
        init_values: Initial LayerScale. With 0, blocks leave maps as they are until weights are
            loaded or learned.
        norm_eps: What the norms add to the variance.
        **options: Further arguments of :class:`ViTBranch`.

    Raises:
        ValueError: If a choice is unknown or ``window_size`` does not match ``depth``.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        drop_path_schedule: str = "linear",
        init_values: float | None = 0.0,
        norm_eps: float = _NORM_EPS,
        **options: Any,
    ) -> None:
        super().__init__(
            embed_dim=embed_dim,
            drop_path_schedule=drop_path_schedule,
            init_values=init_values,
            norm_eps=norm_eps,
            **options,
        )
        self.temporal_embed = nn.Parameter(torch.zeros(1, 1, embed_dim))
        trunc_normal_(self.temporal_embed, std=0.02)
        self.embed_norm = nn.LayerNorm(embed_dim, eps=norm_eps)

    def embed(self, images: Tensor) -> Tensor:
        """Turns images (B, 3, h, w) into normalised patches with position, (B, H, W, C)."""
        x = super().embed(images)
        return self.embed_norm(x + self.temporal_embed.to(x.dtype))

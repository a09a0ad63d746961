"""Plain vision transformers as branches: DeiT, DeiT III, AugReg, MAE, DINOv2, InternViT-6B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from piip_d2.modeling.backbone.patch_embed import PatchEmbed
from piip_d2.modeling.backbone.pos_embed import resize_pos_embed
from piip_d2.modeling.backbone.transformer_branch import TransformerBranch
from piip_d2.modeling.backbone.vit_block import build_vit_blocks


class ViTBranch(TransformerBranch):
    """Plain vision transformer without class token and final norm.

    ViT (https://arxiv.org/abs/2010.11929) with the LayerScale of DeiT III
    (https://arxiv.org/abs/2204.07118), each block attending globally or within windows. The
    position table is stretched bicubically over whatever grid comes.

    Args:
        img_size: Nominal image side in pixels, see :class:`Branch`.
        embed_dim: Channels.
        depth: Number of blocks.
        num_heads: Attention heads.
        patch_size: Side of a patch in pixels.
        pretrain_img_size: Image side in pixels of the pre-training; sizes the position table.
        window_size: Side of the attention windows in cells for all blocks, or one entry per
            block; None stands for global attention.
        drop_path_rate: Stochastic depth, in [0, 1).
        drop_path_schedule: ``"constant"`` gives every block the rate (DeiT as PIIP uses it),
            ``"linear"`` grows it from 0 to the rate.
        patch_embed: Module from images (B, 3, h, w) to (B, H, W, embed_dim) with an attribute
            ``stride``; by default a :class:`PatchEmbed` of ``patch_size``.
        use_act_checkpoint: Recompute each block's activations in the backward pass.
        **block_options: Further arguments of :func:`build_vit_block`: ``mlp_ratio``,
            ``qkv_bias``, ``window_padding``, ``init_values``, ``act``, ``norm``, ``norm_eps`` and
            ``qk_norm``.

    Raises:
        ValueError: If a choice is unknown or ``window_size`` does not match ``depth``.
    """

    def __init__(
        self,
        *,
        img_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        patch_size: int = 16,
        pretrain_img_size: int = 224,
        window_size: int | Sequence[int | None] | None = None,
        drop_path_rate: float = 0.0,
        drop_path_schedule: str = "constant",
        patch_embed: nn.Module | None = None,
        use_act_checkpoint: bool | str = False,
        **block_options: Any,
    ) -> None:
        super().__init__(
            img_size,
            embed_dim,
            patch_embed or PatchEmbed(embed_dim, patch_size=patch_size),
            build_vit_blocks(
                embed_dim,
                depth,
                num_heads,
                window_size=window_size,
                drop_path_rate=drop_path_rate,
                drop_path_schedule=drop_path_schedule,
                **block_options,
            ),
            use_act_checkpoint=use_act_checkpoint,
        )
        self.drop_path_schedule = drop_path_schedule
        self.pos_embed = nn.Parameter(
            torch.zeros(1, (pretrain_img_size // self.stride) ** 2, embed_dim)
        )
        self._init_weights()

    def embed(self, images: Tensor) -> Tensor:
        """Turns images (B, 3, h, w) into patches with position, (B, H, W, C)."""
        x = self.patch_embed(images)
        return x + resize_pos_embed(self.pos_embed, x.shape[1], x.shape[2]).to(x.dtype)

    def _init_weights(self) -> None:
        trunc_normal_(self.pos_embed, std=0.02)
        super()._init_weights()

"""BEiT as a branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from piip_d2.layers import RelativePositionAttention
from piip_d2.modeling.backbone.patch_embed import PatchEmbed
from piip_d2.modeling.backbone.transformer_branch import TransformerBranch
from piip_d2.modeling.backbone.vit_block import ViTBlock, per_block, per_block_drop_paths


class BEiTBranch(TransformerBranch):
    """BEiT without class token and final norm, its positions being those within a window.

    BEiT (https://arxiv.org/abs/2106.08254) and BEiTv2 (https://arxiv.org/abs/2208.06366): every
    block has a table of biases for relative positions, and there is no other position embedding.

    Args:
        img_size: Nominal image side in pixels, see :class:`Branch`.
        embed_dim: Channels.
        depth: Number of blocks.
        num_heads: Attention heads.
        window_size: Side of the attention windows in cells for all blocks, or one entry per
            block; sizes the tables of biases.
        use_windows: False makes all blocks attend globally, or one entry per block. A global
            block takes maps of ``window_size`` cells in height and width alone.
        patch_size: Side of a patch in pixels.
        qkv_bias: Whether query and value have a bias.
        drop_path_rate: Stochastic depth, in [0, 1).
        drop_path_schedule: ``"linear"`` grows the rate from 0 on, ``"constant"`` gives every
            block the same.
        patch_embed: Module from images (B, 3, h, w) to (B, H, W, embed_dim) with an attribute
            ``stride``; by default a :class:`PatchEmbed` of ``patch_size``.
        use_act_checkpoint: Recompute each block's activations in the backward pass.
        **block_options: Further arguments of :class:`ViTBlock`: ``mlp_ratio``, ``act``, ``norm``,
            ``norm_eps`` and ``init_values``.

    Raises:
        ValueError: If a choice is unknown, or ``window_size`` or ``use_windows`` does not match
            ``depth``.
    """

    def __init__(
        self,
        *,
        img_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        window_size: int | Sequence[int],
        use_windows: bool | Sequence[bool] = True,
        patch_size: int = 16,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        drop_path_schedule: str = "linear",
        patch_embed: nn.Module | None = None,
        use_act_checkpoint: bool | str = False,
        **block_options: Any,
    ) -> None:
        drop_paths = per_block_drop_paths(drop_path_rate, drop_path_schedule, depth)
        attentions = [
            RelativePositionAttention(
                embed_dim, num_heads, window_size=side, qkv_bias=qkv_bias, use_windows=windowed
            )
            for side, windowed in zip(
                per_block("window_size", window_size, depth),
                per_block("use_windows", use_windows, depth),
                strict=True,
            )
        ]
        super().__init__(
            img_size,
            embed_dim,
            patch_embed or PatchEmbed(embed_dim, patch_size=patch_size),
            [
                ViTBlock(embed_dim, attn, drop_path=drop_path, **block_options)
                for attn, drop_path in zip(attentions, drop_paths, strict=True)
            ],
            use_act_checkpoint=use_act_checkpoint,
        )
        self.drop_path_schedule = drop_path_schedule
        self._init_weights()

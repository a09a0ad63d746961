"""Vision transformers of the DeiT and DeiT III kind as branches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn

from piip_d2.layers import WindowAttention
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.patch_embed import PatchEmbed

_ACTIVATIONS: dict[str, Any] = {"gelu": nn.GELU, "gelu_tanh": partial(nn.GELU, approximate="tanh")}
_DROP_PATH_SCHEDULES = ("constant", "linear")


class ViTBranch(Branch):
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
        mlp_ratio: Hidden width of the MLP relative to ``embed_dim``.
        qkv_bias: Whether query, key and value have a bias.
        window_size: Side of the attention windows in cells for all blocks, or one entry per
            block; None stands for global attention.
        window_padding: See :class:`piip_d2.layers.WindowAttention`.
        drop_path_rate: Stochastic depth, in [0, 1).
        drop_path_schedule: ``"constant"`` gives every block the rate (DeiT as PIIP uses it),
            ``"linear"`` grows it from 0 to the rate.
        init_values: Initial LayerScale, or None for none.
        act: ``"gelu"`` or ``"gelu_tanh"``.
        patch_embed: Module from images (B, 3, h, w) to (B, H, W, embed_dim) with an attribute
            ``stride``; by default a :class:`PatchEmbed` of ``patch_size``.
        use_act_checkpoint: Recompute each block's activations in the backward pass.

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
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        window_size: int | Sequence[int | None] | None = None,
        window_padding: str = "before_qkv",
        drop_path_rate: float = 0.0,
        drop_path_schedule: str = "constant",
        init_values: float | None = 1.0,
        act: str = "gelu",
        patch_embed: nn.Module | None = None,
        use_act_checkpoint: bool = False,
    ) -> None:
        super().__init__(img_size, use_act_checkpoint=use_act_checkpoint)
        if act not in _ACTIVATIONS:
            raise ValueError(f"act must be one of {sorted(_ACTIVATIONS)}, got {act!r}")
        self.embed_dim = embed_dim
        self.patch_embed = patch_embed or PatchEmbed(embed_dim, patch_size=patch_size)
        self.stride = cast(int, self.patch_embed.stride)
        self.pos_embed = nn.Parameter(
            torch.zeros(1, (pretrain_img_size // self.stride) ** 2, embed_dim)
        )
        windows = _per_block_windows(window_size, depth)
        drop_paths = _per_block_drop_paths(drop_path_rate, drop_path_schedule, depth)
        self.blocks = nn.ModuleList(
            ViTBlock(
                embed_dim,
                WindowAttention(
                    embed_dim,
                    num_heads,
                    qkv_bias=qkv_bias,
                    window_size=window,
                    window_padding=window_padding,
                ),
                Mlp(embed_dim, int(embed_dim * mlp_ratio), act_layer=_ACTIVATIONS[act]),
                init_values=init_values,
                drop_path=drop_path,
            )
            for window, drop_path in zip(windows, drop_paths, strict=True)
        )
        self._init_weights()

    @property
    def block_list(self) -> Sequence[nn.Module]:
        """All blocks in the order they run in."""
        return list(self.blocks)

    def channels_after(self, block: int) -> int:
        """Channels of the map behind ``block``: the same for all."""
        return self.embed_dim

    def stride_after(self, block: int) -> int:
        """Image pixels per cell behind ``block``: the same for all."""
        return self.stride

    def embed(self, images: Tensor) -> Tensor:
        """Turns images (B, 3, h, w) into patches with position, (B, H, W, C)."""
        x = self.patch_embed(images)
        return x + self._resized_pos_embed(x.shape[1], x.shape[2]).to(x.dtype)

    def _resized_pos_embed(self, height: int, width: int) -> Tensor:
        side = int(self.pos_embed.shape[1] ** 0.5)
        table = self.pos_embed.unflatten(1, (side, side))
        if (height, width) == (side, side):
            return table
        # Bicubic interpolation in 16 bit would cost the table its lower digits.
        table = table.to(torch.promote_types(table.dtype, torch.float32)).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(height, width), mode="bicubic", align_corners=False)
        return table.permute(0, 2, 3, 1)

    def _init_weights(self) -> None:
        trunc_normal_(self.pos_embed, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class ViTBlock(nn.Module):
    """Pre-norm attention and MLP with LayerScale and stochastic depth, on maps.

    Args:
        embed_dim: Channels.
        attn: Attention from (B, H, W, C) to the same.
        mlp: MLP on the last dimension.
        init_values: Initial LayerScale, or None for none.
        drop_path: Probability of skipping a residual.
    """

    def __init__(
        self,
        embed_dim: int,
        attn: nn.Module,
        mlp: nn.Module,
        *,
        init_values: float | None,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attn = attn
        self.ls1 = _layer_scale(embed_dim, init_values)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = mlp
        self.ls2 = _layer_scale(embed_dim, init_values)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C)."""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


class LayerScale(nn.Module):
    """A learned factor per channel, CaiT (https://arxiv.org/abs/2103.17239).

    Args:
        embed_dim: Channels.
        init_values: Initial factor.
    """

    def __init__(self, embed_dim: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(init_values * torch.ones(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scales (..., C)."""
        return x * self.gamma


def _layer_scale(embed_dim: int, init_values: float | None) -> nn.Module:
    return nn.Identity() if init_values is None else LayerScale(embed_dim, init_values)


def _per_block_windows(
    window_size: int | Sequence[int | None] | None, depth: int
) -> Sequence[int | None]:
    if window_size is None or isinstance(window_size, int):
        return [window_size] * depth
    if len(window_size) != depth:
        raise ValueError(
            f"window_size must have one entry for each of the {depth} blocks, "
            f"got {len(window_size)}: {list(window_size)}"
        )
    return window_size


def _per_block_drop_paths(rate: float, schedule: str, depth: int) -> list[float]:
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop_path_rate must be in [0, 1), got {rate}")
    if schedule not in _DROP_PATH_SCHEDULES:
        raise ValueError(
            f"drop_path_schedule must be one of {_DROP_PATH_SCHEDULES}, got {schedule!r}"
        )
    if schedule == "constant" or depth == 1:
        return [rate] * depth
    return [rate * block / (depth - 1) for block in range(depth)]

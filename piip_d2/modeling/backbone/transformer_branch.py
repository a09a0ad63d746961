"""What the branches made of one row of transformer blocks have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from timm.layers import trunc_normal_
from torch import Tensor, nn

from piip_d2.modeling.backbone.branch import Branch


class TransformerBranch(Branch):
    """A patch embedding and blocks that all have the same width and grid.

    Args:
        img_size: Nominal image side in pixels, see :class:`Branch`.
        embed_dim: Channels of all maps.
        patch_embed: Module from images (B, 3, h, w) to (B, H, W, embed_dim) with an attribute
            ``stride``.
        blocks: Modules from (B, H, W, embed_dim) to the same.
        use_act_checkpoint: What is recomputed in the backward pass, see :class:`Branch`.

    Raises:
        ValueError: If the size is not positive.
    """

    def __init__(
        self,
        img_size: int,
        embed_dim: int,
        patch_embed: nn.Module,
        blocks: Iterable[nn.Module],
        *,
        use_act_checkpoint: bool | str = False,
    ) -> None:
        super().__init__(img_size, use_act_checkpoint=use_act_checkpoint)
        self.embed_dim = embed_dim
        self.patch_embed = patch_embed
        self.stride = cast(int, patch_embed.stride)
        self.blocks = nn.ModuleList(blocks)

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
        """Turns images (B, 3, h, w) into patches (B, H, W, C)."""
        return self.patch_embed(images)

    def _init_weights(self) -> None:
        """Draws the weights of the blocks; for a subclass to call when all of it stands."""
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

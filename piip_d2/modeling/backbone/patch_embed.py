"""From an image to the first map of a branch."""

from __future__ import annotations

import math

from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """One linear map per patch. Pixels beyond the last whole patch are dropped.

    ViT (https://arxiv.org/abs/2010.11929), section 3.1.

    Args:
        embed_dim: Channels of the map.
        patch_size: Side of a patch in pixels, the stride of the map.
        in_chans: Channels of the image.
    """

    def __init__(self, embed_dim: int, *, patch_size: int = 16, in_chans: int = 3) -> None:
        super().__init__()
        self.stride = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, in_chans, h, w) to (B, H, W, C) with H = h // stride, W = w // stride."""
        # The layout of maps within a branch: whatever is made of this one keeps it.
        return self.proj(images).permute(0, 2, 3, 1).contiguous()


class ConvStem(nn.Module):
    """A few strided convolutions in place of the single one of :class:`PatchEmbed`.

    "Early convolutions help transformers see better" (https://arxiv.org/abs/2106.14881): a
    network trained from scratch learns faster and bears larger learning rates.

    Args:
        embed_dim: Channels of the map.
        stride: Image pixels per cell of the map, a power of two from 2 on.
        in_chans: Channels of the image.

    Raises:
        ValueError: If the stride is no power of two.
    """

    def __init__(self, embed_dim: int, *, stride: int = 16, in_chans: int = 3) -> None:
        super().__init__()
        steps = int(math.log2(stride)) if stride > 1 else 0
        if 2**steps != stride or steps == 0:
            raise ValueError(f"stride must be a power of two from 2 on, got {stride}")
        self.stride = stride
        # The width doubles with every halving of the grid and ends at embed_dim.
        widths = [max(embed_dim // 2 ** (steps - step), 16) for step in range(1, steps + 1)]
        layers: list[nn.Module] = []
        for width_in, width_out in zip([in_chans, *widths[:-1]], widths, strict=True):
            layers += [
                nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(math.gcd(width_out, 8), width_out),
                nn.GELU(),
            ]
        self.body = nn.Sequential(*layers)
        self.proj = nn.Conv2d(widths[-1], embed_dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, in_chans, h, w) to (B, H, W, C) with H = h // stride, W = w // stride."""
        x = self.proj(self.body(drop_rest(images, self.stride)))
        return x.permute(0, 2, 3, 1).contiguous()


def drop_rest(images: Tensor, stride: int) -> Tensor:
    """Cuts off what is left below and right of the last whole cell of a grid.

    Padded convolutions would make one more row of it, which a patch embedding does not have.

    Args:
        images: (B, C, h, w).
        stride: Side of a cell in pixels.

    Returns:
        (B, C, h', w') with the largest multiples of ``stride`` up to h and w.
    """
    height, width = (size // stride * stride for size in images.shape[2:])
    return images[:, :, :height, :width]

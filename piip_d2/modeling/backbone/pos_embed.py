"""Learned position tables."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_pos_embed(table: Tensor, height: int, width: int) -> Tensor:
    """Stretches a position table bicubically over another grid.

    Args:
        table: (1, g * g, C), the rows of a g x g grid one after the other.
        height: Cells of the wanted grid from top to bottom.
        width: Cells from left to right.

    Returns:
        (1, height, width, C), in 32 bits at least where anything was stretched.
    """
    side = math.isqrt(table.shape[1])
    grid = table.unflatten(1, (side, side))
    # An exported program holds for all sizes, and stretching to the same grid changes nothing.
    if not torch.compiler.is_exporting() and (height, width) == (side, side):
        return grid
    # Bicubic interpolation in 16 bit would cost the table its lower digits.
    grid = grid.to(torch.promote_types(grid.dtype, torch.float32)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1)

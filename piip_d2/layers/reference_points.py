"""Where the queries of a deformable attention stand."""

from __future__ import annotations

import torch
from torch import Tensor


def make_reference_points(
    height: int, width: int, *, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Centres of the cells of a grid, row by row.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        device: Where the result is made.
        dtype: Its type; float32 at least, since 16 bit cannot tell neighbouring cells apart.

    Returns:
        (1, H * W, 1, 2) as (x, y) in (0, 1).
    """
    y = (torch.arange(height, device=device, dtype=dtype) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=dtype) + 0.5) / width
    grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
    return grid.reshape(1, height * width, 1, 2)

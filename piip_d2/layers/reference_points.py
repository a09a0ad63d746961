"""Where the queries of a deformable attention stand."""

from __future__ import annotations

import torch
from torch import Tensor

from piip_d2.ops.reference import cell_centers


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
    return cell_centers(height, width, device=device, dtype=dtype)

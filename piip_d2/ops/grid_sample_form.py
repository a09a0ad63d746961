"""Deformable attention by ``grid_sample``, for programs that run elsewhere than in PyTorch.

Other runtimes know no operators of ours, and gather rows by index slowly. ``GridSample`` is one of
ONNX from its version 16 on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

# Changed by lowered_to_grid_sample alone.
_is_lowered = False

# In units of grid_sample, where -1 and 1 are the edges of a map: far enough outside to read nothing
# from a map of one pixel, whose neighbours begin at -3.
_NOWHERE = -4.0


@contextmanager
def lowered_to_grid_sample() -> Iterator[None]:
    """Lets the deformable attention of a block be made of ``grid_sample``.

    For what is traced or exported within the block, with the same results up to rounding. All
    threads are concerned.

    Yields:
        Nothing.
    """
    global _is_lowered
    before, _is_lowered = _is_lowered, True
    try:
        yield
    finally:
        _is_lowered = before


def is_lowered() -> bool:
    """Tells whether a block of :func:`lowered_to_grid_sample` is at work."""
    return _is_lowered


def sum_samples_by_grid(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    pixels: Sequence[tuple[Tensor, Tensor]],
    weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples.

    Args:
        value: (B, S, M, D).
        spatial_shapes: (H, W) of every level.
        pixels: Per level x and y, (B, Q, M, P), in pixels from the centre of the first one.
        weights: (B, Q, M, L, P), whose type is that of the arithmetic.

    Returns:
        (B, Q, M * D) in the type of the value.
    """
    batch, _, heads, width = value.shape
    maps = value.to(weights.dtype).split([rows * columns for rows, columns in spatial_shapes], 1)
    levels = []
    for level, (rows, columns) in enumerate(spatial_shapes):
        level_map = maps[level].permute(0, 2, 3, 1).reshape(batch * heads, width, rows, columns)
        x, y = (coordinate.transpose(1, 2) for coordinate in pixels[level])
        # Infinite coordinates overflow in some runtimes, and what NaN reads is left open.
        counts = (x > -1) & (x < columns) & (y > -1) & (y < rows)
        # The centre of the first pixel lies half a pixel behind the edge, which is at -1.
        x, y = (2 * x + 1) / columns - 1, (2 * y + 1) / rows - 1
        grid = torch.where(counts[..., None], torch.stack((x, y), dim=-1), _NOWHERE)
        sampled = F.grid_sample(
            level_map,
            grid.flatten(0, 1),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        level_weights = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        levels.append((sampled * level_weights[:, None]).sum(dim=-1))  # (B * M, D, Q)
    output = torch.stack(levels).sum(dim=0) if len(levels) > 1 else levels[0]
    output = output.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)
    return output.to(value.dtype)

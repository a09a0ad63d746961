"""Which tokens of joined feature maps are padding, and where the others stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class FeatureLevels:
    """Sizes, padding and positions of the maps of a batch, finest first.

    Args:
        shapes: (H, W) of every level.
        padding_masks: Per level (B, H, W), True where a cell lies outside of its image.
        valid_ratios: (B, L, 2), the share of each map that its image covers, as (x, y).
    """

    shapes: list[tuple[int, int]]
    padding_masks: list[Tensor]
    valid_ratios: Tensor

    @property
    def padding(self) -> Tensor:
        """(B, S), the masks of all levels joined."""
        return torch.cat([mask.flatten(1) for mask in self.padding_masks], dim=1)

    def centers(self) -> list[Tensor]:
        """Centres of the cells of every level, (B, H * W, 2) as (x, y) relative to the images."""
        return [
            _grid(height, width, ratio)
            for (height, width), ratio in zip(self.shapes, self.valid_ratios.unbind(1), strict=True)
        ]


def describe_levels(
    shapes: Sequence[tuple[int, int]],
    image_sizes: Sequence[tuple[int, int]],
    padded_size: tuple[int, int],
    device: torch.device,
) -> FeatureLevels:
    """Finds out which cells of the maps belong to the images of a batch.

    Args:
        shapes: (H, W) of every level.
        image_sizes: (height, width) of every image without its padding, in pixels.
        padded_size: Height and width that all of them were padded to, on the right and below.
        device: Where the maps are.

    Returns:
        The description. A cell belongs to an image if the pixel that nearest-neighbour resizing
        takes for it does.
    """
    sizes = torch.tensor([tuple(size) for size in image_sizes], device=device)
    rows, columns = (_covered(sizes[:, axis], padded_size[axis]) for axis in (0, 1))
    masks, ratios = [], []
    for height, width in shapes:
        # An image is a rectangle, so its rows and columns can be resized apart.
        is_row = F.interpolate(rows, size=height).squeeze(1)
        is_column = F.interpolate(columns, size=width).squeeze(1)
        masks.append((is_row[:, :, None] * is_column[:, None, :]) == 0)
        ratios.append(torch.stack([is_column.mean(dim=1), is_row.mean(dim=1)], dim=-1))
    return FeatureLevels(list(shapes), masks, torch.stack(ratios, dim=1))


def _covered(lengths: Tensor, padded: int) -> Tensor:
    """(B, 1, padded), 1 where an image is and 0 where its padding is."""
    pixels = torch.arange(padded, device=lengths.device)
    return (pixels < lengths[:, None]).float().unsqueeze(1)


def _grid(height: int, width: int, ratio: Tensor) -> Tensor:
    y, x = torch.meshgrid(
        torch.arange(height, device=ratio.device) + 0.5,
        torch.arange(width, device=ratio.device) + 0.5,
        indexing="ij",
    )
    covered = ratio * ratio.new_tensor((width, height))
    return torch.stack([x, y], dim=-1).flatten(0, 1) / covered[:, None]

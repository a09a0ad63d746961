"""Bit masks that keep no more than the part of the image that each object lies in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from detectron2.layers import ROIAlign
from detectron2.structures import Boxes
from torch import Tensor

__all__ = ["CroppedMasks", "MaskCrop"]

# Between the last pixel set and the first one that is certainly not; sampling looks one further.
_RIM = 1


class MaskCrop(NamedTuple):
    """The part of a mask that holds all its pixels.

    Args:
        pixels: (height, width), bool.
        top: Row of the image where it begins.
        left: Column of the image where it begins.
    """

    pixels: Tensor
    top: int
    left: int


class CroppedMasks:
    """Masks of the objects of an image, to be used where Detectron2 has ``BitMasks``.

    Detectron2 copies a mask of the whole image for every box that it samples. Here they are kept
    on the host, as polygons are, and boxes of one object share its pixels.

    Args:
        crops: One for each object.
        image_size: Height and width of the image.
    """

    def __init__(self, crops: Sequence[MaskCrop], image_size: tuple[int, int]) -> None:
        self.crops = list(crops)
        self.image_size = image_size

    @staticmethod
    def crop(mask: npt.NDArray[np.bool_], rows: slice, columns: slice) -> MaskCrop:
        """Cuts out the part of a mask in which it is set.

        Args:
            mask: (height, width).
            rows: Rows outside of which nothing is set.
            columns: The same for columns.

        Returns:
            A copy of that part, with a rim of a pixel where there is room.
        """
        top, left = max(rows.start - _RIM, 0), max(columns.start - _RIM, 0)
        part = mask[top : rows.stop + _RIM, left : columns.stop + _RIM]
        return MaskCrop(torch.from_numpy(part.copy()), top, left)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, item: int | slice | Tensor) -> CroppedMasks:
        """Returns the masks at a place, in a range, or at indices or truth values (objects,)."""
        if isinstance(item, int):
            chosen = [self.crops[item]]
        elif isinstance(item, slice):
            chosen = self.crops[item]
        else:
            indices = item.nonzero().flatten() if item.dtype == torch.bool else item
            chosen = [self.crops[index] for index in indices.tolist()]
        return CroppedMasks(chosen, self.image_size)

    @staticmethod
    def cat(masks: Sequence[CroppedMasks]) -> CroppedMasks:
        """Joins masks of one image."""
        return CroppedMasks([crop for each in masks for crop in each.crops], masks[0].image_size)

    def to(self, *args: object, **kwargs: object) -> CroppedMasks:
        """Returns the masks as they are: they stay on the host."""
        return self

    def nonempty(self) -> Tensor:
        """Returns (objects,), whether a pixel is set."""
        return torch.tensor([bool(crop.pixels.any()) for crop in self.crops], dtype=torch.bool)

    def area(self) -> Tensor:
        """Returns (objects,), the numbers of pixels."""
        return torch.tensor([float(crop.pixels.sum()) for crop in self.crops])

    def get_bounding_boxes(self) -> Boxes:
        """Returns the boxes round the masks; zeros for empty ones."""
        corners = torch.zeros(len(self.crops), 4)
        for number, crop in enumerate(self.crops):
            rows, columns = (crop.pixels.any(dim=axis).nonzero() for axis in (1, 0))
            if len(rows):
                low = int(columns[0]) + crop.left, int(rows[0]) + crop.top
                high = int(columns[-1]) + crop.left + 1, int(rows[-1]) + crop.top + 1
                corners[number] = torch.tensor([*low, *high])
        return Boxes(corners)

    @property
    def tensor(self) -> Tensor:
        """Returns (objects, height, width), bool: the masks of the whole image."""
        drawn = torch.zeros(len(self.crops), *self.image_size, dtype=torch.bool)
        for mask, (pixels, top, left) in zip(drawn, self.crops, strict=True):
            mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return drawn

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Cuts a box out of each mask and scales it, as ``BitMasks`` does.

        Args:
            boxes: (objects, 4), the corners x, y, x, y of what to cut out of each mask.
            mask_size: Side of the result in pixels.

        Returns:
            (objects, mask_size, mask_size), bool, on the device of the boxes.
        """
        if len(boxes) != len(self):
            raise ValueError(f"there must be a box for each of {len(self)} masks, got {len(boxes)}")
        pooler = ROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        corners = boxes.detach().float().cpu()
        result = torch.zeros(len(self), mask_size, mask_size, dtype=torch.bool)
        places: dict[int, list[int]] = defaultdict(list)
        for number, crop in enumerate(self.crops):
            places[id(crop)].append(number)
        for numbers in places.values():
            pixels, top, left = self.crops[numbers[0]]
            shift = torch.tensor([left, top, left, top])
            shifted = torch.cat([torch.zeros(len(numbers), 1), corners[numbers] - shift], dim=1)
            pooled = pooler(pixels[None, None].float(), shifted)
            result[numbers] = pooled[:, 0] >= 0.5
        return result.to(boxes.device)

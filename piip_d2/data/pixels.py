"""Resizing of 8-bit images by PyTorch, for loaders that Pillow is too slow for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from detectron2.data import transforms as T
from PIL import Image

__all__ = ["RESIZERS", "TorchAugInput", "resize_with_torch"]

RESIZERS = ("pillow", "torch")

Pixels = npt.NDArray[np.uint8]


class TorchAugInput(T.AugInput):
    """An image for Detectron2's augmentations that PyTorch resizes where Pillow would.

    Bilinear resizing of colour images in 8 bits alone differs: both average over the same area, but
    weights are rounded to 22 bits by Pillow and to 16 at most by PyTorch.
    """

    def transform(self, tfm: T.Transform) -> None:
        """Applies a transform to the image, and to its boxes and map where it has them.

        Args:
            tfm: The transform.
        """
        if _resizes_colors(tfm, self.image):
            tfm = _TorchResize(tfm)
        super().transform(tfm)


class _TorchResize(T.Transform):
    """A transform with another way to resize the image.

    Args:
        original: Detectron2's.
    """

    def __init__(self, original: T.ResizeTransform) -> None:
        super().__init__()
        self.original = original

    def apply_image(self, img: Pixels) -> Pixels:
        return resize_with_torch(img, self.original.new_h, self.original.new_w)

    def apply_coords(self, coords: Any) -> Any:
        return self.original.apply_coords(coords)

    def apply_segmentation(self, segmentation: Pixels) -> Any:
        return self.original.apply_segmentation(segmentation)


def resize_with_torch(image: Pixels, height: int, width: int) -> Pixels:
    """Resizes an image bilinearly, averaging where it shrinks.

    Args:
        image: (h, w, channels), uint8.
        height: Wanted height in pixels.
        width: Wanted width in pixels.

    Returns:
        (height, width, channels), uint8, whose channels lie one behind the other in memory.
    """
    # Tensors have no steps backwards, as a flip leaves them, and want memory of their own, which
    # Pillow does not give away.
    is_usable = min(image.strides) >= 0 and image.flags.writeable
    owned = image if is_usable else np.array(image, order="C")
    batch = torch.from_numpy(owned).permute(2, 0, 1)[None]
    resized = F.interpolate(batch, size=(height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _resizes_colors(transform: T.Transform, image: Pixels) -> bool:
    return (
        type(transform) is T.ResizeTransform
        and transform.interp == Image.Resampling.BILINEAR
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
    )

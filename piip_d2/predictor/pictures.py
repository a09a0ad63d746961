"""Images of every kind in the one form that a detector takes."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
from PIL import Image

from piip_d2.data.image_reading import read_image, to_8_bits, upright_pixels

ChannelOrder = Literal["RGB", "BGR"]
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray

_ARRAY_TYPES = ("uint8", "uint16", "float32", "float64")
_WAYS_OUT = {
    "NoneType": "; cv2.imread gives that for a file it cannot read: pass the path itself",
    "Tensor": "; of a tensor (3, H, W) pass tensor.permute(1, 2, 0).numpy()",
    "list": "; several images go to predict_batch",
    "tuple": "; several images go to predict_batch",
    "bytes": "; pass PIL.Image.open(io.BytesIO(...))",
}


def to_rgb(image: ImageLike, channel_order: ChannelOrder = "RGB") -> np.ndarray:
    """Brings an image into the one form that the detector takes: upright, RGB, 8 bits.

    Deep greys and fractions become 8 bits by the rule of `piip_d2.data.image_reading.to_8_bits`;
    transparency is dropped.

    Args:
        image: Path of a file; Pillow image, turned upright as its EXIF tag says; or array of shape
            ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` in uint8, uint16 or float.
        channel_order: Order of the channels of an array; files and Pillow images know theirs.

    Returns:
        Array of shape ``(H, W, 3)`` in uint8.

    Raises:
        ValueError: If the image is not there, cannot be read (both `UnusableImageError`) or has
            an unusable shape.
        TypeError: If it is none of these.
    """
    if channel_order not in ("RGB", "BGR"):
        raise ValueError(f"channel_order must be 'RGB' or 'BGR', got {channel_order!r}")
    if isinstance(image, Image.Image):
        return upright_pixels(image)
    if isinstance(image, np.ndarray):
        return _array_to_rgb(image, channel_order)
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    raise TypeError(
        f"an image must be a path, a Pillow image or a numpy array, got {type(image).__name__}"
        f"{_WAYS_OUT.get(type(image).__name__, '')}"
    )


def _array_to_rgb(pixels: np.ndarray, channel_order: ChannelOrder) -> np.ndarray:
    if pixels.dtype.name not in _ARRAY_TYPES:
        raise TypeError(f"an image array must be of {_ARRAY_TYPES}, got {pixels.dtype.name}")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise ValueError(
            "an image array must be of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with at "
            f"least one pixel, got {pixels.shape}"
        )
    if pixels.dtype != np.uint8:
        pixels = to_8_bits(pixels)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    pixels = pixels[:, :, :3]
    return pixels[:, :, ::-1] if channel_order == "BGR" else pixels

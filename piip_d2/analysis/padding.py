"""The size that images are padded to."""

from __future__ import annotations

from typing import Any


def padded_size(image_size: tuple[int, int], backbone: Any) -> tuple[int, int]:
    """Finds the size that an image is padded to.

    Args:
        image_size: Height and width of the image in pixels.
        backbone: What takes images; without ``size_divisibility`` nothing is padded.

    Returns:
        Height and width, as ``backbone.size_divisibility`` asks for.

    Raises:
        ValueError: If the size is not positive.
    """
    if min(image_size) < 1:
        raise ValueError(f"image_size must be a height and a width in pixels, got {image_size}")
    multiple = max(getattr(backbone, "size_divisibility", 1), 1)
    height, width = (-(-side // multiple) * multiple for side in image_size)
    return height, width

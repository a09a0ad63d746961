"""The size that images are padded to."""

from __future__ import annotations

from typing import Any


def padded_size(image_size: tuple[int, int], backbone: Any) -> tuple[int, int]:
    """Finds the size that an image is padded to when it is alone in its batch.

    Args:
        image_size: Height and width of the image in pixels.
        backbone: What takes images; without ``padding_constraints``, as Detectron2's backbones have
            them, or ``size_divisibility`` nothing is padded.

    Returns:
        Height and width.

    Raises:
        ValueError: If the size is not positive, or larger than the square to be filled.
    """
    if min(image_size) < 1:
        raise ValueError(f"image_size must be a height and a width in pixels, got {image_size}")
    constraints = getattr(backbone, "padding_constraints", {})
    square = constraints.get("square_size", 0)
    if square and max(image_size) > square:
        raise ValueError(
            f"the backbone takes squares of {square} pixels (square_size), which {image_size} does "
            "not fit into; take smaller images, or 0 for no square"
        )
    multiple = constraints.get("size_divisibility", getattr(backbone, "size_divisibility", 1))
    sides = (square, square) if square else image_size
    height, width = (-(-side // max(multiple, 1)) * max(multiple, 1) for side in sides)
    return height, width

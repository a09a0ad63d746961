"""Images of any kind as 8-bit arrays: greys of 16 bits, palettes, CMYK, rotated by EXIF."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

__all__ = ["UnusableImageError", "image_size", "read_image", "to_8_bits", "upright_pixels"]

# What Pillow raises on files that are damaged, cut short, of no known kind, or suspiciously large.
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
IMAGE_FORMATS = ("RGB", "BGR", "L")


class UnusableImageError(ValueError):
    """An image cannot be used; the message says which and why."""


def read_image(path: str | PathLike[str], image_format: str = "RGB") -> npt.NDArray[np.uint8]:
    """Returns an image as uint8 (height, width, channels), turned upright as its EXIF says.

    Args:
        path: The file.
        image_format: Order of the channels, "RGB" or "BGR", or "L" for a single grey one.

    Returns:
        (height, width, 3), or (height, width, 1) for "L".
    """
    if image_format not in IMAGE_FORMATS:
        raise ValueError(f"image_format must be one of {IMAGE_FORMATS}, got {image_format!r}")
    try:
        with Image.open(path) as opened:
            # Pillow reads lazily: a file that is cut short fails here.
            pixels = upright_pixels(opened, "L" if image_format == "L" else "RGB")
    except FileNotFoundError as error:
        raise UnusableImageError(f"{path}: there is no such file") from error
    except PILLOW_ERRORS as error:
        raise UnusableImageError(f"{path}: the image cannot be read ({error})") from error
    if image_format == "L":
        return pixels[:, :, None]
    return pixels[:, :, ::-1] if image_format == "BGR" else pixels


def upright_pixels(image: Image.Image, mode: str = "RGB") -> npt.NDArray[np.uint8]:
    """Returns the pixels of a Pillow image in 8 bits, turned upright as its EXIF says.

    Args:
        image: The image, of any mode.
        mode: Pillow's name of the colour model wanted, "RGB" or "L".

    Returns:
        (height, width, 3), or (height, width) for "L".
    """
    image = ImageOps.exif_transpose(image)
    # Pillow itself would clip these at 255, which leaves a white image.
    if image.mode in DEEP_MODES:
        image = Image.fromarray(to_8_bits(np.asarray(image)))
    return np.asarray(image.convert(mode))


def to_8_bits(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Returns grey values of any depth as 8 bits.

    Whole numbers are shifted by the depth that the brightest one needs (8, 10, 12, 14 or 16
    bits): cameras often store 12 bits in 16. Fractions up to 1 are scaled by 255.

    Args:
        pixels: Grey values.

    Returns:
        Array of the same shape, uint8.
    """
    values = np.nan_to_num(pixels.astype(np.float64), posinf=0.0, neginf=0.0).clip(min=0.0)
    brightest = float(values.max(initial=0.0))
    if np.issubdtype(pixels.dtype, np.floating) and brightest <= 1.0:
        return np.floor(values * 255.0 + 0.5).astype(np.uint8)
    # A fixed set of depths, unlike stretching each image to its own range, keeps the brightness
    # of images comparable.
    bits = next((depth for depth in (8, 10, 12, 14, 16) if brightest < 2**depth), 32)
    return np.floor(values / 2.0 ** (bits - 8)).clip(max=255.0).astype(np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Returns (width, height) of an upright image without decoding its pixels."""
    try:
        with Image.open(path) as image:
            # 5 to 8 are the orientations of EXIF (tag 274) that lie on their side.
            sideways = image.getexif().get(274, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if sideways else (image.width, image.height)
    except PILLOW_ERRORS as error:
        raise UnusableImageError(f"{path}: the image cannot be read ({error})") from error

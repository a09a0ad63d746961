"""Images of any kind as 8-bit arrays: greys of 16 bits, palettes, CMYK, rotated by EXIF."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from piip_d2._optional import available, require

__all__ = ["UnusableImageError", "image_size", "read_image", "to_8_bits", "upright_pixels"]

# What Pillow raises on files that are damaged, cut short, of no known kind, or suspiciously large.
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
IMAGE_FORMATS = ("RGB", "BGR", "L")

# Where EXIF says how a camera was held (tag 274): whether rows and columns change places, and then
# whether rows and columns run backwards.
_ORIENTATION_TAG = 274
_ORIENTATIONS = {
    1: (False, 1, 1),
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}

_END_OF_JPEG = b"\xff\xd9"


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
            pixels = None if image_format == "L" else _jpeg_pixels(path, opened)
            if pixels is None:
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
    # What files say at their end is known only then.
    image.load()
    # For an upright image that would be a copy.
    if _orientation(image) != 1:
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
            sideways = _ORIENTATIONS[_orientation(image)][0]
            return (image.height, image.width) if sideways else (image.width, image.height)
    except PILLOW_ERRORS as error:
        raise UnusableImageError(f"{path}: the image cannot be read ({error})") from error


def _orientation(image: Image.Image) -> int:
    """Returns what EXIF says, or that the image is upright where it says nothing known."""
    found = image.getexif().get(_ORIENTATION_TAG, 1)
    return found if found in _ORIENTATIONS else 1


def _jpeg_pixels(path: str | PathLike[str], opened: Image.Image) -> npt.NDArray[np.uint8] | None:
    """Decodes an ordinary JPEG by OpenCV if it is there, which takes a little less time.

    Both use libjpeg-turbo in its exact setting: the pixels are the same to the last bit.

    Args:
        path: The file.
        opened: The same, of which the header is read.

    Returns:
        (height, width, 3), upright; None for all that Pillow has to look at.
    """
    if opened.format != "JPEG" or opened.mode not in ("RGB", "L") or not available("cv2"):
        return None
    cv2 = require("cv2", "fast decoding of JPEGs")
    encoded = np.fromfile(path, dtype=np.uint8)
    # OpenCV fills up files that are cut short, Pillow refuses them.
    if encoded[-2:].tobytes() != _END_OF_JPEG:
        return None
    try:
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if decoded is None or decoded.shape[1::-1] != opened.size:
        return None
    cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)
    swaps, rows, columns = _ORIENTATIONS[_orientation(opened)]
    return (decoded.swapaxes(0, 1) if swaps else decoded)[::rows, ::columns]

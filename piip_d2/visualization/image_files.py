"""Which image files a command line means, and the files their drawings go to."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from piip_d2._atomic_file import write_atomically

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Lists the image files that names, folders and globs mean.

    Args:
        patterns: Each a file of any suffix, a folder, whose image files are taken (without those
            of its subfolders), or a glob such as ``"photos/**/*.jpg"``.

    Returns:
        The files in the order of the patterns, those of a folder or glob sorted; each once.

    Raises:
        FileNotFoundError: If a pattern means no file.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = [file for file in sorted(path.iterdir()) if _is_image(file)]
        else:
            names = sorted(glob.glob(str(path), recursive=True))
            matches = [file for file in map(Path, names) if file.is_file()]
        if not matches:
            raise FileNotFoundError(
                f"{pattern!r} means no image: it is no file, no folder with files named "
                f"{'/'.join(sorted(IMAGE_SUFFIXES))}, and no glob that matches one"
            )
        for match in matches:
            found.setdefault(match.resolve(), match)
    return list(found.values())


def plan_drawings(images: Sequence[Path], output: Path) -> list[Path]:
    """Names the drawing of each image: its stem with ``.png``, a number appended where taken.

    Args:
        images: The image files.
        output: Folder of the drawings, or, for a single image, the file to draw into.

    Returns:
        One path for each image, all different.

    Raises:
        ValueError: If a drawing would overwrite one of the images, or if several images shall go
            into one file.
    """
    if names_file(output, IMAGE_SUFFIXES):
        if len(images) > 1:
            raise ValueError(f"{output} is one file for {len(images)} drawings; name a folder")
        drawings = [output]
    else:
        drawings = [output / f"{stem}.png" for stem in _different_stems(images)]
    originals = {image.resolve() for image in images}
    for drawing in drawings:
        if drawing.resolve() in originals:
            raise ValueError(
                f"the drawing {drawing} would overwrite an input image; name another folder"
            )
    return drawings


def names_file(output: Path, suffixes: frozenset[str]) -> bool:
    """Tells whether a path means a file with one of some suffixes rather than a folder."""
    return output.suffix.lower() in suffixes and not output.is_dir()


def number_images(images: Sequence[Path]) -> list[int]:
    """Numbers images as COCO does, by their file names, where all of them are different numbers.

    Args:
        images: The image files.

    Returns:
        The numbers in the names (139 for ``000000000139.jpg``), otherwise 1, 2, 3 ...
    """
    if all(image.stem.isdecimal() for image in images):
        numbers = [int(image.stem) for image in images]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(images) + 1))


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Writes a picture, RGB in uint8, in the format that the path's suffix names."""
    file_format = Image.registered_extensions()[path.suffix.lower()]

    def write(file: BinaryIO) -> None:
        Image.fromarray(picture).save(file, format=file_format)

    write_atomically(path, write)


def _different_stems(images: Sequence[Path]) -> list[str]:
    taken: set[str] = set()
    stems = []
    for image in images:
        stem, count = image.stem, 1
        # Compared without case, for file systems that do not tell "A.png" from "a.png".
        while stem.lower() in taken:
            count += 1
            stem = f"{image.stem}-{count}"
        taken.add(stem.lower())
        stems.append(stem)
    return stems


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES

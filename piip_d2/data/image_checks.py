"""Checks of the images that a COCO-format JSON lists."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from .image_reading import UnusableImageError, image_size

__all__ = ["check_images"]

logger = logging.getLogger(__name__)

NUM_NAMED = 3


def check_images(
    entries: list[Any], json_file: Path, image_root: Path, problems: Counter[str]
) -> list[dict[str, Any]]:
    """Returns the images that exist, each with id, file name, width and height.

    Args:
        entries: The JSON's list of images.
        json_file: Where it came from, for messages.
        image_root: Folder of the images.
        problems: Counts of what is wrong, added to.

    Returns:
        Entries in the order of the JSON.
    """
    if not entries:
        raise ValueError(f"{json_file} must list at least one image, got an empty list")
    images: dict[Any, dict[str, Any]] = {}
    missing: list[str] = []
    for entry in entries:
        if not _is_named(entry):
            problems["image without id or file_name"] += 1
        elif entry["id"] in images:
            problems["image with the id of an earlier one"] += 1
        elif not (image_root / entry["file_name"]).is_file():
            missing.append(entry["file_name"])
        elif (sized := _with_size(entry, image_root, problems)) is not None:
            images[entry["id"]] = sized
    if missing:
        _report_missing(missing, images, json_file, image_root)
        problems["image whose file is missing"] += len(missing)
    if not images:
        found = "; ".join(f"{count} x {what}" for what, count in problems.items())
        raise ValueError(f"{json_file} must list images that can be used, found: {found}")
    return list(images.values())


def _is_named(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), int | str)
        and isinstance(entry.get("file_name"), str)
        and entry["file_name"] != ""
    )


def _with_size(
    entry: dict[str, Any], image_root: Path, problems: Counter[str]
) -> dict[str, Any] | None:
    sizes = entry.get("width"), entry.get("height")
    # Trust the JSON here: opening every file of a large set would take minutes.
    if all(isinstance(size, int) and size > 0 for size in sizes):
        return entry
    try:
        width, height = image_size(image_root / entry["file_name"])
    except UnusableImageError:
        problems["image without a size that cannot be read either"] += 1
        return None
    problems["image without width and height, read from its file"] += 1
    return {**entry, "width": width, "height": height}


def _report_missing(
    missing: list[str], images: dict[Any, dict[str, Any]], json_file: Path, image_root: Path
) -> None:
    named = ", ".join(missing[:NUM_NAMED]) + (", ..." if len(missing) > NUM_NAMED else "")
    # All are missing: the folder is wrong, not the data.
    if not images:
        raise FileNotFoundError(
            f"the images of {json_file} must lie in {image_root}, but none is there; looked for "
            f"{named}. Give the folder that the file names in the JSON start from"
        )
    logger.warning(
        "%d of the images of %s are not in %s and are left out: %s",
        len(missing), json_file, image_root, named,
    )  # fmt: skip

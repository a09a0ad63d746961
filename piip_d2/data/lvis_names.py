"""File names of images in LVIS' annotations, which give them as the end of an address."""

from __future__ import annotations

from typing import Any

__all__ = ["named_by_url"]


def named_by_url(entry: Any) -> Any:
    """Returns an image with a ``file_name``, taken from its ``coco_url`` if it lacks one.

    Args:
        entry: An entry of a JSON's list of images.

    Returns:
        The same, or a copy with folder and name, as in "train2017/000000000009.jpg".
    """
    if not isinstance(entry, dict) or "file_name" in entry:
        return entry
    url = entry.get("coco_url")
    if not isinstance(url, str) or url.count("/") < 2:
        return entry
    return {**entry, "file_name": "/".join(url.split("/")[-2:])}

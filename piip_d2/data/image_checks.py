"""Checks of the images that a COCO-format JSON lists."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from .findings import NUM_EXAMPLES, Findings
from .image_reading import UnusableImageError, image_size
from .lvis_names import named_by_url

__all__ = ["check_images"]

Entry = dict[str, Any]

# The evaluation counts what the JSON lists, whether or not an image could be shown to the model.
_CONSEQUENCE = "left out of training, its objects count as missed in evaluation"


def check_images(
    entries: list[Any],
    json_file: Path,
    image_root: Path,
    findings: Findings,
    *,
    open_files: bool = False,
) -> list[Entry]:
    """Returns the images that exist, each with id, file name, width and height.

    Args:
        entries: The JSON's list of images.
        json_file: Where it came from, for messages.
        image_root: Folder of the images.
        findings: Counts of what is wrong, added to.
        open_files: Whether to open every file and compare its size with the JSON's. What training
            would leave out is counted then, but kept.

    Returns:
        Entries in the order of the JSON.
    """
    if not entries:
        raise ValueError(f"{json_file} must list at least one image, got an empty list")
    images: dict[Any, Entry] = {}
    names: set[str] = set()
    missing: list[str] = []
    for entry in map(named_by_url, entries):
        if not _is_named(entry):
            findings.add_problem("image without id or file_name", repr(entry)[:40])
            continue
        found = _found_name(image_root, entry["file_name"])
        if entry["id"] in images:
            findings.add_problem("image with the id of an earlier one", str(entry["id"]))
        elif not found:
            missing.append(entry["file_name"])
            findings.add_problem("image whose file is missing", entry["file_name"])
        elif (usable := _usable(entry, found, image_root, findings, open_files)) is not None:
            if found in names:
                findings.add_suspicion("image that is listed twice", found)
            images[entry["id"]] = usable
            names.add(found)
    # All are missing: the folder is wrong, not the data.
    if missing and not images:
        named = ", ".join(missing[:NUM_EXAMPLES]) + (", ..." if len(missing) > NUM_EXAMPLES else "")
        raise FileNotFoundError(
            f"the images of {json_file} must lie in {image_root}, but none is there; looked for "
            f"{named}. Give the folder that the file names in the JSON start from"
            f"{_better_folder(missing[0], image_root)}"
        )
    if not images:
        found_problems = "; ".join(f"{count} x {what}" for what, count in findings.problems.items())
        raise ValueError(f"{json_file} must list images that can be used, found: {found_problems}")
    return list(images.values())


def _is_named(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), int | str)
        and isinstance(entry.get("file_name"), str)
        and entry["file_name"] != ""
    )


def _found_name(root: Path, name: str) -> str:
    """Returns the name under which a file lies in a folder; empty if it is not there."""
    if (root / name).is_file():
        return name
    # Windows parts folders by backslashes, and macOS takes letters with accents apart.
    forward = name.replace("\\", "/")
    forms = (unicodedata.normalize(form, forward) for form in ("NFC", "NFD"))
    others = (forward, *forms)
    return next((other for other in others if other != name and (root / other).is_file()), "")


def _usable(
    entry: Entry, found: str, root: Path, findings: Findings, open_files: bool
) -> Entry | None:
    """Returns an image with the name of its file and its size; None if it has no size."""
    if found != entry["file_name"]:
        findings.add_problem("file name that is written otherwise on disk", entry["file_name"])
        entry = {**entry, "file_name": found}
    sizes = entry.get("width"), entry.get("height")
    is_sized = all(isinstance(size, int) and size > 0 for size in sizes)
    # Trust the JSON here: opening every file of a large set would take minutes.
    if is_sized and not open_files:
        return entry
    try:
        width, height = image_size(root / found)
    except UnusableImageError:
        if is_sized:
            findings.add_suspicion(f"image that cannot be read: {_CONSEQUENCE}", found)
            return entry
        findings.add_problem("image without a size that cannot be read either", found)
        return None
    if not is_sized:
        findings.add_problem("image without width and height, read from its file", found)
        return {**entry, "width": width, "height": height}
    if sizes == (height, width) != (width, height):
        findings.add_suspicion(f"image that the JSON turns on its side: {_CONSEQUENCE}", found)
    elif sizes != (width, height):
        findings.add_suspicion(f"image of another size than the JSON says: {_CONSEQUENCE}", found)
    return entry


def _better_folder(name: str, image_root: Path) -> str:
    """Names the folder above that would do, if there is one near by."""
    parents = list(image_root.parents)[:2]
    fitting = next((folder for folder in parents if (folder / name).is_file()), None)
    return f": {fitting} would do" if fitting else ""

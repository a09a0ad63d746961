"""Checks of a COCO-format JSON: what cannot be used is an error or a counted warning.

``check_coco`` returns a cleaned copy of the JSON's content, so that neither training nor evaluation
meets the entries that were left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .annotation_checks import AnnotationCheck
from .image_checks import check_images

__all__ = ["DatasetSummary", "check_coco", "check_splits", "read_coco_json"]

Entry = dict[str, Any]


@dataclass(frozen=True)
class DatasetSummary:
    """What a data set holds, and what was wrong with it.

    Args:
        json_file: The JSON as given.
        image_root: The folder of its images.
        class_names: Names of the classes, in the order of their indices from 0.
        category_ids: Their ids in the JSON, in the same order.
        num_images: Images that can be used, with objects or without.
        num_empty_images: Those among them without any object.
        num_annotations: Objects that can be used, groups (crowds) left out.
        num_crowds: Groups of objects under one annotation.
        num_masks: Objects that come with a mask.
        num_run_length_masks: Masks given as run lengths rather than polygons.
        problems: How often which thing was found wrong.
        image_files: File names of the usable images, as in the JSON.
    """

    json_file: Path
    image_root: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    num_images: int
    num_empty_images: int
    num_annotations: int
    num_crowds: int
    num_masks: int
    num_run_length_masks: int
    problems: dict[str, int]
    image_files: tuple[str, ...] = field(repr=False)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def describe(self) -> str:
        """Returns the summary in a line for people."""
        text = (
            f"{self.json_file}: {self.num_images} images ({self.num_empty_images} without "
            f"objects), {self.num_annotations} objects of {self.num_classes} classes, "
            f"{self.num_masks} masks, {self.num_crowds} crowds"
        )
        if self.problems:
            found = "; ".join(f"{count} x {what}" for what, count in self.problems.items())
            text += f". Left out or mended: {found}"
        return text


def read_coco_json(json_file: Path) -> Entry:
    """Returns the content of a JSON after checking that it has the three parts of COCO's format."""
    if not json_file.is_file():
        raise FileNotFoundError(f"there must be a COCO-format JSON at {json_file}, found no file")
    try:
        content = json.loads(json_file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{json_file} must be a JSON file, but reading it fails: {error}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{json_file} must hold an object with 'images', 'annotations' and 'categories', "
            f"got a {type(content).__name__}"
        )
    for part in ("images", "annotations", "categories"):
        if not isinstance(content.get(part), list):
            raise ValueError(
                f"{json_file} must have a list {part!r}, found the keys {sorted(content)}. "
                "COCO's format is described at https://cocodataset.org/#format-data"
            )
    return content


def check_coco(
    content: Entry, json_file: Path, image_root: Path, *, set_aside_unmasked: bool = False
) -> tuple[Entry, DatasetSummary]:
    """Returns the usable part of a COCO dictionary, and a summary with what was wrong.

    Args:
        content: What ``read_coco_json`` returned.
        json_file: Where it came from, for messages.
        image_root: Folder of the images.
        set_aside_unmasked: Whether objects without a mask become crowd regions, with the outline
            of their box, as a model that is measured by its masks needs it.

    Returns:
        A dictionary in COCO's format, and the summary; the argument is not changed.
    """
    categories = _check_categories(content["categories"], json_file)
    problems: Counter[str] = Counter()
    images = check_images(content["images"], json_file, image_root, problems)
    check = AnnotationCheck(
        {image["id"]: image for image in images},
        set(categories),
        problems,
        set_aside_unmasked=set_aside_unmasked,
    )
    annotations = list(check(content["annotations"]))
    if content["annotations"] and not annotations:
        found = "; ".join(f"{count} x {what}" for what, count in problems.items())
        raise ValueError(f"{json_file} must have annotations that can be used, found: {found}")
    # Whatever else stands in the JSON (info, licences, keypoint names) is kept.
    cleaned = dict(content, images=images, annotations=annotations)
    # Crowds are neither trained on nor counted as objects; evaluation ignores what lies on them.
    objects = [entry for entry in annotations if not entry["iscrowd"]]
    with_objects = {entry["image_id"] for entry in objects}
    summary = DatasetSummary(
        json_file=json_file,
        image_root=image_root,
        class_names=tuple(categories[number] for number in sorted(categories)),
        category_ids=tuple(sorted(categories)),
        num_images=len(images),
        num_empty_images=len(images) - len(with_objects),
        num_annotations=len(objects),
        num_crowds=len(annotations) - len(objects),
        num_masks=sum("segmentation" in entry for entry in objects),
        num_run_length_masks=sum(isinstance(entry.get("segmentation"), dict) for entry in objects),
        problems=dict(problems),
        image_files=tuple(image["file_name"] for image in images),
    )
    return cleaned, summary


def check_splits(train: DatasetSummary, val: DatasetSummary) -> list[str]:
    """Checks that two splits belong together, and finds the images that are in both.

    Args:
        train: Summary of the training split.
        val: Summary of the split that is evaluated.

    Returns:
        File names of the shared images, sorted.
    """
    if train.class_names != val.class_names:
        only_train = sorted(set(train.class_names) - set(val.class_names))
        only_val = sorted(set(val.class_names) - set(train.class_names))
        raise ValueError(
            "the JSONs for training and validation must list the same categories in the same order "
            f"of ids: {train.json_file} has {list(train.class_names)}, {val.json_file} has "
            f"{list(val.class_names)} (only in the first: {only_train}, only in the second: "
            f"{only_val}). Write the full list of categories into both"
        )
    # File names alone would accuse any two sets that number their images.
    known = dict(_identities(train))
    return sorted(name for name, identity in _identities(val) if known.get(name) == identity)


def _check_categories(entries: list[Any], json_file: Path) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("id"), int)
            or "name" not in entry
        ):
            raise ValueError(
                f"every category of {json_file} must have a whole number 'id' and a 'name', "
                f"got {entry!r}"
            )
        if entry["id"] in categories:
            raise ValueError(
                f"category ids of {json_file} must differ, got {entry['id']} for "
                f"{categories[entry['id']]!r} and for {entry['name']!r}"
            )
        categories[entry["id"]] = str(entry["name"])
    if not categories:
        raise ValueError(f"{json_file} must name at least one category, got an empty list")
    return categories


def _identities(summary: DatasetSummary) -> Iterator[tuple[str, int]]:
    """Yields name and size of each image: a copy in another folder is the same image."""
    for name in summary.image_files:
        yield name, (summary.image_root / name).stat().st_size

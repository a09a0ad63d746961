"""Checks of a COCO-format JSON: what cannot be used is an error or a counted warning.

``check_coco`` returns a cleaned copy of the JSON's content, so that neither training nor evaluation
meets the entries that were left out.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .annotation_checks import AnnotationCheck
from .findings import NUM_EXAMPLES, Findings
from .image_checks import check_images

__all__ = ["DatasetSummary", "check_classes", "check_coco", "read_coco_json"]

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
        problems: How often which thing was found wrong, and left out or mended.
        suspicions: The same for what is used as it is, but should be looked at.
        examples: The first few places of each of these kinds.
        objects_per_class: Number of usable objects by class.
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
    suspicions: dict[str, int]
    examples: dict[str, tuple[str, ...]] = field(repr=False)
    objects_per_class: tuple[int, ...]
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
        for label, found in self._found().items():
            text += f". {label}: {'; '.join(self._lines(found, 1))}" if found else ""
        return text

    def describe_in_full(self) -> str:
        """Returns the summary in several lines, with the first few places of each problem."""
        lines = [replace(self, problems={}, suspicions={}).describe()]
        for label, found in self._found().items():
            lines += [f"  {label}:"] if found else []
            lines += [f"    {line}" for line in self._lines(found, NUM_EXAMPLES)]
        return "\n".join(lines)

    def _found(self) -> dict[str, dict[str, int]]:
        return {"Left out or mended": self.problems, "To be looked at": self.suspicions}

    def _lines(self, found: dict[str, int], num_places: int) -> list[str]:
        lines = []
        for what, count in found.items():
            places = [*self.examples[what][:num_places], *["..."] * (count > num_places)]
            lines.append(f"{count} x {what} ({', '.join(places)})")
        return lines


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
    content: Entry,
    json_file: Path,
    image_root: Path,
    *,
    set_aside_unmasked: bool = False,
    open_files: bool = False,
) -> tuple[Entry, DatasetSummary]:
    """Returns the usable part of a COCO dictionary, and a summary with what was wrong.

    Args:
        content: What ``read_coco_json`` returned.
        json_file: Where it came from, for messages.
        image_root: Folder of the images.
        set_aside_unmasked: Whether objects without a mask become crowd regions, with the outline
            of their box, as a model that is measured by its masks needs it.
        open_files: Whether to open every image, to see whether its size is that of the JSON.

    Returns:
        A dictionary in COCO's format, and the summary; the argument is not changed.
    """
    categories = _check_categories(content["categories"], json_file)
    findings = Findings()
    images = check_images(content["images"], json_file, image_root, findings, open_files=open_files)
    by_id = {image["id"]: image for image in images}
    check = AnnotationCheck(
        by_id,
        _other_ids(content["images"], by_id),
        set(categories),
        findings,
        set_aside_unmasked=set_aside_unmasked,
    )
    annotations = list(check(content["annotations"]))
    if content["annotations"] and not annotations:
        found = "; ".join(f"{count} x {what}" for what, count in findings.problems.items())
        raise ValueError(f"{json_file} must have annotations that can be used, found: {found}")
    # Whatever else stands in the JSON (info, licences, keypoint names) is kept.
    cleaned = dict(content, images=images, annotations=annotations)
    # Crowds are neither trained on nor counted as objects; evaluation ignores what lies on them.
    objects = [entry for entry in annotations if not entry["iscrowd"]]
    with_objects = {entry["image_id"] for entry in objects}
    counts = Counter(entry["category_id"] for entry in objects)
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
        problems=dict(findings.problems),
        suspicions=dict(findings.suspicions),
        examples={what: tuple(places) for what, places in findings.examples.items()},
        objects_per_class=tuple(counts[number] for number in sorted(categories)),
        image_files=tuple(image["file_name"] for image in images),
    )
    return cleaned, summary


def check_classes(train: DatasetSummary, val: DatasetSummary) -> None:
    """Raises an error unless two splits have the same classes.

    Args:
        train: Summary of the training split.
        val: Summary of the split that is evaluated.
    """
    if train.class_names == val.class_names:
        return
    only_train = sorted(set(train.class_names) - set(val.class_names))
    only_val = sorted(set(val.class_names) - set(train.class_names))
    raise ValueError(
        "the JSONs for training and validation must list the same categories in the same order "
        f"of ids: {train.json_file} has {list(train.class_names)}, {val.json_file} has "
        f"{list(val.class_names)} (only in the first: {only_train}, only in the second: "
        f"{only_val}). Write the full list of categories into both"
    )


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


def _other_ids(entries: list[Any], usable: Entry) -> set[Any]:
    """Returns the ids of images that are listed but cannot be used."""
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    return {number for number in ids if isinstance(number, int | str)} - set(usable)

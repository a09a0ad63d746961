"""The check of a data set of one's own, and what it says to a person."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.data import DatasetCatalog
from tabulate import tabulate

from .checks import DatasetSummary, check_classes
from .leakage import find_shared_images
from .object_sizes import PyramidGrid, describe_sizes, measure_objects
from .registration import register_coco_json

__all__ = ["CheckedSplit", "check_split", "describe_splits"]


@dataclass(frozen=True)
class CheckedSplit:
    """A JSON as training would see it.

    Args:
        summary: What is in it, and what is wrong with it.
        records: Its usable images, in Detectron2's format.
    """

    summary: DatasetSummary
    records: list[dict[str, Any]]


def check_split(
    name: str, json_file: str | os.PathLike[str], image_root: str | os.PathLike[str]
) -> CheckedSplit:
    """Checks a COCO-format JSON as training does it, and the size of every image besides.

    Args:
        name: What to call the split.
        json_file: Annotations in COCO's format.
        image_root: The folder that the JSON's file names start from.

    Returns:
        What is in it, and its usable images.
    """
    registered = f"checked_{name}"
    summary = register_coco_json(registered, json_file, image_root, open_files=True)
    return CheckedSplit(summary, list(DatasetCatalog.get(registered)))


def describe_splits(splits: Mapping[str, CheckedSplit], grid: PyramidGrid | None = None) -> str:
    """Writes all there is to say about one split or two.

    Args:
        splits: By name, the one to train on first.
        grid: Strides and tokens of a detector to compare the objects with.

    Returns:
        Lines of text.

    Raises:
        ValueError: If two splits do not have the same classes.
    """
    parts = [split.summary.describe_in_full() for split in splits.values()]
    summaries = {name: split.summary for name, split in splits.items()}
    parts += [
        _mask_sentence(summary) for summary in summaries.values() if _is_partly_masked(summary)
    ]
    if len(summaries) > 1:
        (first, train), (second, val) = list(summaries.items())[:2]
        check_classes(train, val)
        shared = find_shared_images(train, val).sentences(first, second, val.num_images)
        parts += shared or [f"No image of {second} is in {first}."]
    parts.append(_class_table(summaries))
    parts += _rare_class_sentences(summaries)
    if grid is not None:
        sizes = {name: measure_objects(split.records) for name, split in splits.items()}
        parts.append(describe_sizes(sizes, grid))
    return "\n\n".join(part for part in parts if part)


def _is_partly_masked(summary: DatasetSummary) -> bool:
    return summary.num_masks < summary.num_annotations


def _mask_sentence(summary: DatasetSummary) -> str:
    missing = summary.num_annotations - summary.num_masks
    if not summary.num_masks:
        return f"No object of {summary.json_file} has a mask: take a detector of boxes alone."
    return (
        f"{missing} of {summary.num_annotations} objects of {summary.json_file} have no mask: a "
        "detector with masks is neither trained nor measured on them."
    )


def _class_table(summaries: Mapping[str, DatasetSummary]) -> str:
    first = next(iter(summaries.values()))
    counts = [summary.objects_per_class for summary in summaries.values()]
    rows = [
        [str(index), str(number), name, *map(str, numbers)]
        for index, (number, name, *numbers) in enumerate(
            zip(first.category_ids, first.class_names, *counts, strict=True)
        )
    ]
    header = ["class", "id in the JSON", "name", *(f"objects in {name}" for name in summaries)]
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)


def _rare_class_sentences(summaries: Mapping[str, DatasetSummary]) -> list[str]:
    sentences = []
    for split, summary in summaries.items():
        pairs = zip(summary.class_names, summary.objects_per_class, strict=True)
        absent = [name for name, count in pairs if not count]
        if absent:
            sentences.append(
                f"{len(absent)} of the classes have no object in {split}: {', '.join(absent[:10])}"
                + (", ..." if len(absent) > 10 else "")
            )
    return sentences

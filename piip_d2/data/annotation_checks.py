"""Checks of the annotations of a COCO-format JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

__all__ = ["AnnotationCheck", "check_for_masks"]

Entry = dict[str, Any]
Segmentation = list[list[float]] | dict[str, Any]


class AnnotationCheck:
    """Yields the annotations that can be used, mended where that is safe, and counts the others.

    Args:
        images: The usable images by their id.
        category_ids: The ids of the categories.
        problems: Counts of what is wrong, added to.
        set_aside_unmasked: Whether objects without a mask become crowd regions.
    """

    def __init__(
        self,
        images: dict[Any, Entry],
        category_ids: set[int],
        problems: Counter[str],
        *,
        set_aside_unmasked: bool = False,
    ) -> None:
        self._images = images
        self._category_ids = category_ids
        self._problems = problems
        self._set_aside_unmasked = set_aside_unmasked
        self._seen_ids: set[Any] = set()

    def __call__(self, entries: Iterable[Any]) -> Iterator[Entry]:
        """Yields what can be used of a JSON's list of annotations."""
        entries = list(entries)
        # New ids must not meet any that comes later in the list.
        ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
        self._next_id = max((number for number in ids if isinstance(number, int)), default=0) + 1
        for entry in entries:
            problem = self._reason_to_drop(entry)
            if problem:
                self._problems[problem] += 1
            else:
                yield self._mend(entry)

    def _reason_to_drop(self, entry: Any) -> str:
        if not isinstance(entry, dict):
            return "annotation that is not an object"
        if (
            not isinstance(entry.get("image_id"), int | str)
            or entry["image_id"] not in self._images
        ):
            return "annotation of an image that is not there"
        category = entry.get("category_id")
        if not isinstance(category, int) or category not in self._category_ids:
            return "annotation of an unknown category"
        box = entry.get("bbox")
        if not _is_box(box):
            return "annotation without four finite numbers as bbox"
        if box[2] <= 0 or box[3] <= 0:
            return "box without area"
        image = self._images[entry["image_id"]]
        left, top, width, height = _clip(box, image)
        if width <= 0 or height <= 0:
            return "box outside its image"
        # An empty segmentation says that there is none; a wrong one casts doubt on the box too.
        if entry.get("segmentation") and not _usable_segmentation(entry["segmentation"], image):
            return "mask without three points, or of another size than its image"
        return ""

    def _mend(self, entry: Entry) -> Entry:
        mended = dict(entry)
        mended["bbox"] = self._inside(entry["bbox"], self._images[entry["image_id"]])
        # Newer tools write "ignore" where COCO's files have "iscrowd".
        mended["iscrowd"] = int(any((mended.pop("ignore", 0), entry.get("iscrowd", 0))))
        if not isinstance(entry.get("area"), int | float):
            # Evaluation sorts objects into small, medium and large by this number.
            mended["area"] = mended["bbox"][2] * mended["bbox"][3]
        self._mend_mask(mended)
        if entry.get("id") is None or entry["id"] in self._seen_ids:
            self._problems["annotation with no id of its own, given one"] += 1
            mended["id"] = self._next_id
            self._next_id += 1
        self._seen_ids.add(mended["id"])
        return mended

    def _mend_mask(self, entry: Entry) -> None:
        """Keeps what is usable of a mask, in place; crowds always end up with one."""
        if entry.get("segmentation"):
            image = self._images[entry["image_id"]]
            entry["segmentation"] = _usable_segmentation(entry["segmentation"], image)
            return
        entry.pop("segmentation", None)
        if self._set_aside_unmasked and not entry["iscrowd"]:
            self._problems["object without a mask, set aside as a crowd region"] += 1
            entry["iscrowd"] = 1
        # A crowd is a region to ignore, for which its box will do; the evaluation of masks stops
        # at anything that has none.
        if entry["iscrowd"]:
            left, top, width, height = entry["bbox"]
            right, bottom = left + width, top + height
            entry["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]

    def _inside(self, box: list[float], image: Entry) -> list[float]:
        clipped = _clip(box, image)
        # A pixel's width beyond the border is a matter of convention, not a mistake.
        if max(abs(old - new) for old, new in zip(box, clipped, strict=True)) <= 1.0:
            return box
        self._problems["box that reached outside its image, clipped"] += 1
        return clipped


def check_for_masks(records: Iterable[Entry]) -> None:
    """Raises an error if there are objects, but none has a mask.

    Args:
        records: Entries in Detectron2's format.
    """
    annotations = [each for record in records for each in record.get("annotations", ())]
    objects = [each for each in annotations if not each.get("iscrowd", 0)]
    if objects and not any("segmentation" in each for each in objects):
        raise ValueError(
            f"training on masks needs objects that have one, but none of {len(objects)} has. Train "
            "a detector without masks, or set dataloader.train.mapper.use_instance_mask=False"
        )


def _is_box(box: Any) -> TypeGuard[list[float]]:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    )


def _clip(box: list[float], image: Entry) -> list[float]:
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[0] + box[2], image["width"]), min(box[1] + box[3], image["height"])
    return [left, top, right - left, bottom - top]


def _usable_segmentation(segmentation: Any, image: Entry) -> Segmentation | None:
    """Returns the polygons that have three points, or the run lengths that fit the image."""
    if isinstance(segmentation, list):
        return [polygon for polygon in segmentation if _is_polygon(polygon)] or None
    size = [image["height"], image["width"]]
    if not isinstance(segmentation, dict) or list(segmentation.get("size", [])) != size:
        return None
    # pycocotools fills what wrong run lengths leave out with whatever lay in memory.
    fits = _sum_of_run_lengths(segmentation.get("counts")) == size[0] * size[1]
    return segmentation if fits else None


def _sum_of_run_lengths(counts: Any) -> int:
    """Returns how many pixels run lengths cover, plain or packed into a string; -1 if damaged."""
    if isinstance(counts, list):
        return sum(counts) if all(isinstance(n, int) and n >= 0 for n in counts) else -1
    if not isinstance(counts, str):
        return -1
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        # Five bits a character, lowest first; the sixth says that more follow.
        code = ord(character) - 48
        if not 0 <= code < 64:
            return -1
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        # From the fourth on, differences to the length before the last are stored.
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    return sum(lengths) if shift == 0 and min(lengths, default=0) >= 0 else -1


def _is_polygon(polygon: Any) -> bool:
    return (
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(isinstance(value, int | float) and math.isfinite(value) for value in polygon)
    )

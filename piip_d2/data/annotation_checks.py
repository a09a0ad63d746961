"""Checks of the annotations of a COCO-format JSON."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeGuard

from .findings import Findings
from .segmentations import Segmentation, segmentation_bounds, usable_segmentation

__all__ = ["AnnotationCheck", "check_for_masks"]

Entry = dict[str, Any]
Corners = tuple[float, float, float, float]

# Boxes and masks are drawn by hand or by different tools: only what lies far apart is suspicious.
_FITTING_IOU = 0.5
# A pixel's width beyond the border is a matter of convention, not a mistake.
_TOLERANCE = 1.0
# Fewer boxes that reach outside than this share are slips of single hands, not of a whole tool.
_MANY = 0.1


class AnnotationCheck:
    """Yields the annotations that can be used, mended where that is safe, and counts the others.

    Args:
        images: The usable images by their id.
        missing_ids: Ids of images that are listed, but cannot be used.
        category_ids: The ids of the categories.
        findings: Counts of what is wrong, added to.
        set_aside_unmasked: Whether objects without a mask become crowd regions.
    """

    def __init__(
        self,
        images: dict[Any, Entry],
        missing_ids: Collection[Any],
        category_ids: set[int],
        findings: Findings,
        *,
        set_aside_unmasked: bool = False,
    ) -> None:
        self._images = images
        self._missing_ids = missing_ids
        self._category_ids = category_ids
        self._findings = findings
        self._set_aside_unmasked = set_aside_unmasked
        self._seen_ids: set[Any] = set()
        self._seen_objects: set[tuple[Any, ...]] = set()
        # Of the annotation at hand, since both take a while.
        self._mask: Segmentation | None = None
        self._mask_corners: Corners = (0, 0, 0, 0)

    def __call__(self, entries: Iterable[Any]) -> Iterator[Entry]:
        """Yields what can be used of a JSON's list of annotations."""
        entries = list(entries)
        # New ids must not meet any that comes later in the list.
        ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
        self._next_id = max((number for number in ids if isinstance(number, int)), default=0) + 1
        for entry in entries:
            problem = self._reason_to_drop(entry)
            if problem:
                self._findings.add_problem(problem, _name(entry))
            else:
                mended = self._mend(entry)
                self._look_at(mended)
                yield mended
        self._look_at_format(entries)

    def _reason_to_drop(self, entry: Any) -> str:
        if not isinstance(entry, dict):
            return "annotation that is not an object"
        image_id = entry.get("image_id")
        if not isinstance(image_id, int | str) or image_id not in self._images:
            is_known = isinstance(image_id, int | str) and image_id in self._missing_ids
            return (
                "annotation of an image that cannot be used"
                if is_known
                else "annotation with an image_id that no image has"
            )
        category = entry.get("category_id")
        if not isinstance(category, int) or category not in self._category_ids:
            return "annotation of an unknown category"
        return self._reason_of_shape(entry, self._images[image_id])

    def _reason_of_shape(self, entry: Entry, image: Entry) -> str:
        given = entry.get("segmentation")
        self._mask = usable_segmentation(given, image) if given else None
        # An empty segmentation says that there is none; a wrong one casts doubt on the box too.
        if given and self._mask is None:
            return "mask without three points, or of another size than its image"
        if self._mask is not None:
            self._mask_corners = segmentation_bounds(self._mask)
            if not _reaches_into(self._mask_corners, image):
                return "mask without area, or outside its image"
        box = entry.get("bbox")
        if self._mask is not None and not box:
            return ""
        if not _is_box(box):
            return "annotation without four finite numbers as bbox"
        if box[2] <= 0 or box[3] <= 0:
            return "box without area"
        return "" if _reaches_into(_corners(box), image) else "box outside its image"

    def _mend(self, entry: Entry) -> Entry:
        mended = dict(entry)
        if not entry.get("bbox"):
            self._findings.add_problem("object without a box, given that of its mask", _name(entry))
            left, top, right, bottom = self._mask_corners
            mended["bbox"] = [left, top, right - left, bottom - top]
        mended["bbox"] = self._inside(mended)
        # Newer tools write "ignore" where COCO's files have "iscrowd".
        mended["iscrowd"] = int(any((mended.pop("ignore", 0), entry.get("iscrowd", 0))))
        if not isinstance(entry.get("area"), int | float):
            # Evaluation sorts objects into small, medium and large by this number.
            mended["area"] = mended["bbox"][2] * mended["bbox"][3]
        self._mend_mask(mended)
        # To COCO's evaluation, an object of the id 0 is never found.
        if not entry.get("id") or entry["id"] in self._seen_ids:
            self._findings.add_problem(
                "annotation with no id of its own, or 0, given one", _name(entry)
            )
            mended["id"] = self._next_id
            self._next_id += 1
        self._seen_ids.add(mended["id"])
        return mended

    def _mend_mask(self, entry: Entry) -> None:
        """Keeps what is usable of a mask, in place; crowds always end up with one."""
        if self._mask is not None:
            entry["segmentation"] = self._mask
            return
        entry.pop("segmentation", None)
        if self._set_aside_unmasked and not entry["iscrowd"]:
            self._findings.add_problem(
                "object without a mask, set aside as a crowd region", _name(entry)
            )
            entry["iscrowd"] = 1
        # A crowd is a region to ignore, for which its box will do; the evaluation of masks stops
        # at anything that has none.
        if entry["iscrowd"]:
            left, top, right, bottom = _corners(entry["bbox"])
            entry["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]

    def _inside(self, entry: Entry) -> list[float]:
        box: list[float] = entry["bbox"]
        image = self._images[entry["image_id"]]
        if not _reaches_outside(_corners(box), image):
            return box
        self._findings.add_problem("box that reached outside its image, clipped", _name(entry))
        left, top, right, bottom = _corners(box)
        left, top = max(left, 0), max(top, 0)
        return [left, top, min(right, image["width"]) - left, min(bottom, image["height"]) - top]

    def _look_at(self, entry: Entry) -> None:
        """Counts what can be used but should be looked at."""
        box, where = entry["bbox"], _name(entry)
        key = (entry["image_id"], entry["category_id"], *box)
        if key in self._seen_objects:
            self._findings.add_suspicion("object with box and class of an earlier one", where)
        self._seen_objects.add(key)
        if min(box[2:]) < 1:
            self._findings.add_suspicion("box less than a pixel wide or high", where)
        if self._mask is None or entry["iscrowd"]:
            return
        if _reaches_outside(self._mask_corners, self._images[entry["image_id"]]):
            self._findings.add_suspicion("polygon that reaches outside its image", where)
        if _overlap(self._mask_corners, _corners(box)) < _FITTING_IOU:
            self._findings.add_suspicion("box that does not fit its mask", where)

    def _look_at_format(self, entries: list[Any]) -> None:
        """Says so if the boxes look like corners, as many other formats have them."""
        boxes = [
            (entry["bbox"], self._images[entry["image_id"]])
            for entry in entries
            if isinstance(entry, dict)
            and isinstance(entry.get("image_id"), int | str)
            and entry["image_id"] in self._images
            and _is_box(entry.get("bbox"))
        ]
        num_outside = sum(_reaches_outside(_corners(box), image) for box, image in boxes)
        could_be_corners = all(
            box[0] < box[2] and box[1] < box[3] and not _reaches_outside((*box,), image)
            for box, image in boxes
        )
        if num_outside > _MANY * len(boxes) and could_be_corners:
            self._findings.add_suspicion(
                "sign that all boxes are x, y, x, y; COCO's are x, y, width, height",
                f"{num_outside} of {len(boxes)} reach outside their images",
            )


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


def _name(entry: Any) -> str:
    if not isinstance(entry, dict):
        return repr(entry)[:40]
    return f"annotation {entry.get('id')} of image {entry.get('image_id')}"


def _is_box(box: Any) -> TypeGuard[list[float]]:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    )


def _corners(box: list[float]) -> Corners:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def _reaches_into(corners: Corners, image: Entry) -> bool:
    left, top, right, bottom = corners
    width = min(right, image["width"]) - max(left, 0)
    return bool(width > 0 and min(bottom, image["height"]) - max(top, 0) > 0)


def _reaches_outside(corners: Corners, image: Entry) -> bool:
    left, top, right, bottom = corners
    beyond = max(-left, -top, right - image["width"], bottom - image["height"])
    return bool(beyond > _TOLERANCE)


def _overlap(first: Corners, second: Corners) -> float:
    """Returns the intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (both - shared) if both > shared else 0.0

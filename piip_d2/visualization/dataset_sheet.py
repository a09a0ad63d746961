"""A contact sheet of the annotations of a data set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from piip_d2.data.dataset_report import CheckedSplit
from piip_d2.data.image_reading import UnusableImageError, read_image
from piip_d2.data.mask_outlines import encode_rle

from .drawing import class_name, draw_ground_truth
from .run_summary import choose_evenly
from .sheet_layout import MOST_LABELS, Sheet, class_legend, in_rows, shorten

logger = logging.getLogger(__name__)

# In pixels of the sheet; four of them make one as wide as usual monitors.
_PANEL = 360
_NUM_COLUMNS = 4
_MOST_KINDS = 3

Picture = tuple[str, np.ndarray, list[dict[str, Any]]]


def draw_dataset_sheet(splits: Mapping[str, CheckedSplit], *, num_images: int = 12) -> Figure:
    """Draws images of each split with boxes, masks and classes of their objects.

    Args:
        splits: By name; with the same classes.
        num_images: Images of each split, evenly spaced over it.

    Returns:
        A figure with its own Agg canvas; ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: If no image can be read, or ``num_images`` is not positive.
    """
    if num_images < 1:
        raise ValueError(f"num_images must be at least 1, got {num_images}")
    pictures: list[Picture] = []
    num_resized = 0
    for name, split in splits.items():
        found, others = _pictures(name, split.records, num_images)
        pictures += found
        num_resized += others
    if not pictures:
        raise ValueError(
            "a contact sheet needs at least one image that can be read, found none but "
            f"{num_resized} of another size than the JSON says"
        )
    first = next(iter(splits.values())).summary
    num_columns = min(_NUM_COLUMNS, len(pictures))
    rows = in_rows(pictures, num_columns)
    shown = {entry["category_id"] for _, _, entries in pictures for entry in entries}
    counts = "; ".join(
        f"{name}: {split.summary.num_annotations} objects in {split.summary.num_images} images "
        f"of {split.summary.json_file.name}"
        for name, split in splits.items()
    )
    legend = [
        *class_legend(shown, first.class_names),
        Patch(facecolor="none", label="filled: the object has a mask"),
    ]
    sheet = Sheet(
        "Annotations as training sees them: boxes, masks and classes",
        f"{counts} · {len(pictures)} images, evenly spaced{_left_out(num_resized)}",
        rows=[[image for _, image, _ in row] for row in rows],
        legend=legend,
        panel=_PANEL,
    )
    for number, row in enumerate(rows):
        for column, (name, image, entries) in enumerate(row):
            drawn = draw_ground_truth(
                image,
                _with_masks(entries, image.shape[:2]),
                first.class_names,
                scale=sheet.scale(image),
                with_labels=len(first.class_names) > 1 and len(entries) <= MOST_LABELS,
            )
            caption = f"{shorten(name, 40)}\n{_describe(entries, first.class_names)}"
            sheet.place(number, column, drawn, caption)
    return sheet.figure


def _pictures(
    split: str, records: Sequence[dict[str, Any]], num_images: int
) -> tuple[list[Picture], int]:
    """Returns pictures of a split, and how many are left out for their size."""
    pictures = []
    num_resized = 0
    for record in choose_evenly(records, num_images):
        file = record["file_name"]
        try:
            image = read_image(file)
        except UnusableImageError as error:
            logger.warning("%s is not shown: %s", file, error)
            continue
        # The annotations are for an image of another size: they would be drawn anywhere.
        if image.shape[:2] != (record["height"], record["width"]):
            num_resized += 1
            continue
        pictures.append((f"{split}: {Path(file).name}", image, record.get("annotations", [])))
    return pictures, num_resized


def _left_out(num_resized: int) -> str:
    return f"; {num_resized} of another size than the JSON says left out" if num_resized else ""


def _with_masks(entries: list[dict[str, Any]], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Gives an empty mask to objects without one: all have to have one, or none is drawn."""
    if not any("segmentation" in entry for entry in entries):
        return entries
    nothing = encode_rle(np.zeros(size, dtype=bool))
    return [{"segmentation": nothing, **entry} for entry in entries]


def _describe(annotations: Sequence[dict[str, Any]], class_names: Sequence[str]) -> str:
    objects = [entry for entry in annotations if not entry.get("iscrowd", 0)]
    counts = Counter(class_name(entry["category_id"], class_names) for entry in objects)
    kinds = [f"{count} {shorten(name, 16)}" for name, count in counts.most_common(_MOST_KINDS)]
    text = ", ".join([*kinds, *["..."] * (len(counts) > _MOST_KINDS)]) or "no objects"
    num_crowds = len(annotations) - len(objects)
    return f"{text}; {num_crowds} crowd (not drawn)" if num_crowds else text

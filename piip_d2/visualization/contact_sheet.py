"""A contact sheet: ground truth beside predictions, with captions and a legend in the picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import Instances, pairwise_iou
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import (
    class_color,
    class_name,
    draw_ground_truth,
    draw_predictions,
    ground_truth_instances,
)

# All lengths are in pixels of the sheet, at 100 dots an inch.
_DPI = 100
_PANEL = 440
_CAPTION = 44
_GAP = 12
_TITLE_LINE = 28
_SUBTITLE_LINE = 22
_LEGEND_LINE = 26

# More names than this would hide the objects; the legend and the caption then speak alone.
_MOST_LABELS = 12
_MOST_LEGEND_ENTRIES = 24
_MATCHING_IOU = 0.5


@dataclass(frozen=True)
class Example:
    """One image of a contact sheet.

    Args:
        name: What the captions call the image, usually its file name.
        image: Picture of shape ``(H, W, 3)``, RGB in uint8.
        annotations: Its ground truth, in Detectron2's dataset format.
        predictions: What the detector found, of any score.
    """

    name: str
    image: np.ndarray
    annotations: Sequence[dict[str, Any]]
    predictions: Instances


def draw_contact_sheet(
    examples: Sequence[Example],
    class_names: Sequence[str],
    *,
    title: str,
    subtitle: str = "",
    threshold: float = 0.5,
    pairs_per_row: int = 2,
) -> Figure:
    """Lays out pairs of pictures, ground truth left and predictions right.

    Args:
        examples: The images to show, in reading order.
        class_names: Names by class index.
        title: What the sheet shows: the run, the data set.
        subtitle: A second line, for example the AP and how the images were chosen.
        threshold: Predictions with a lower score are neither drawn nor counted.
        pairs_per_row: Pairs of pictures beside each other.

    Returns:
        A figure with its own Agg canvas; ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: If there is nothing to show.
    """
    if not examples:
        raise ValueError("a contact sheet needs at least one image, got none")
    pairs_per_row = min(pairs_per_row, len(examples))
    rows = [
        examples[start : start + pairs_per_row] for start in range(0, len(examples), pairs_per_row)
    ]
    entries = _legend_entries(examples, class_names, threshold)
    legend_columns = max(1, pairs_per_row * 2 * _PANEL // 180)
    legend_height = _LEGEND_LINE * math.ceil(len(entries) / legend_columns) + _GAP

    width = pairs_per_row * (2 * _PANEL + 3 * _GAP) + _GAP
    # An average letter is about 12.5 pixels wide in the title's font, 8.5 in the subtitle's.
    title_lines = textwrap.wrap(title, int(width / 12.5))
    subtitle_lines = textwrap.wrap(subtitle, int(width / 8.5))
    header = _TITLE_LINE * len(title_lines) + _SUBTITLE_LINE * len(subtitle_lines) + 2 * _GAP
    height = header + sum(_row_height(row) for row in rows) + legend_height
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    _write_header(figure, title_lines, subtitle_lines)

    top = header
    for row in rows:
        for column, example in enumerate(row):
            left = _GAP + column * (2 * _PANEL + 3 * _GAP)
            _draw_pair(figure, (left, top), example, class_names, threshold)
        top += _row_height(row)
    figure.legend(
        handles=entries,
        loc="lower center",
        ncols=min(legend_columns, len(entries)),
        frameon=False,
        fontsize=10,
    )
    return figure


def count_matches(
    predictions: Instances, annotations: Sequence[dict[str, Any]], threshold: float
) -> tuple[int, int, int]:
    """Counts objects found, predictions made and objects there.

    A prediction finds an object of its class when their boxes overlap with an IoU of at least
    0.5; each object is found once, by the prediction with the highest score.

    Args:
        predictions: What the detector found.
        annotations: The ground truth, in Detectron2's dataset format.
        threshold: Predictions with a lower score do not count.

    Returns:
        Number of objects found, of predictions, and of objects.
    """
    shown = predictions[predictions.scores >= threshold].to("cpu")
    truth = ground_truth_instances(annotations, predictions.image_size)
    overlaps = pairwise_iou(shown.pred_boxes, truth.gt_boxes).numpy()
    same_class = shown.pred_classes.numpy()[:, None] == truth.gt_classes.numpy()[None]
    overlaps = np.where(same_class, overlaps, 0.0)
    num_found = 0
    for index in np.argsort(-shown.scores.numpy(), kind="stable"):
        if not overlaps.size or overlaps[index].max() < _MATCHING_IOU:
            continue
        overlaps[:, overlaps[index].argmax()] = 0.0
        num_found += 1
    return num_found, len(shown), len(truth)


def _row_height(row: Sequence[Example]) -> int:
    pictures = [example.image.shape for example in row]
    tallest = max(_PANEL * height / max(height, width) for height, width, _ in pictures)
    return _CAPTION + math.ceil(tallest) + _GAP


def _draw_pair(
    figure: Figure,
    corner: tuple[int, int],
    example: Example,
    class_names: Sequence[str],
    threshold: float,
) -> None:
    num_found, num_predicted, num_objects = count_matches(
        example.predictions, example.annotations, threshold
    )
    scale = _PANEL / max(example.image.shape[:2])
    truth = draw_ground_truth(
        example.image,
        example.annotations,
        class_names,
        scale=scale,
        with_labels=len(class_names) > 1 and num_objects <= _MOST_LABELS,
    )
    prediction = draw_predictions(
        example.image,
        example.predictions,
        class_names,
        threshold,
        scale=scale,
        with_labels=num_predicted <= _MOST_LABELS,
    )
    num_crowds = sum(bool(entry.get("iscrowd", 0)) for entry in example.annotations)
    objects = f"{num_objects} objects" if num_objects != 1 else "1 object"
    if num_crowds:
        objects += f" and {num_crowds} crowd regions (not drawn)"
    left, top = corner
    _place(figure, (left, top), truth, f"{_shorten(example.name)}\nground truth: {objects}")
    _place(
        figure,
        (left + _PANEL + _GAP, top),
        prediction,
        f"{_describe_scores(example.predictions, threshold)}\n"
        f"found {num_found} of {num_objects}, {num_predicted - num_found} false",
    )


def _place(figure: Figure, corner: tuple[int, int], picture: np.ndarray, caption: str) -> None:
    """Puts a caption and, pixel by pixel, a picture below it, centred in its column."""
    sheet_width, sheet_height = (round(length * _DPI) for length in figure.get_size_inches())
    height, width = picture.shape[:2]
    left, top = corner
    figure.text(
        (left + _PANEL / 2) / sheet_width,
        1 - (top + _CAPTION - 5) / sheet_height,
        caption,
        ha="center",
        va="bottom",
        fontsize=10,
        linespacing=1.25,
    )
    x = left + (_PANEL - width) // 2
    y = top + _CAPTION
    axes = figure.add_axes(
        (
            x / sheet_width,
            1 - (y + height) / sheet_height,
            width / sheet_width,
            height / sheet_height,
        )
    )
    axes.imshow(picture, interpolation="none", aspect="auto")
    axes.set_axis_off()


def _write_header(
    figure: Figure, title_lines: Sequence[str], subtitle_lines: Sequence[str]
) -> None:
    sheet_height = figure.get_size_inches()[1] * _DPI
    top = _GAP
    for line in title_lines:
        y = 1 - (top + _TITLE_LINE / 2) / sheet_height
        figure.text(0.5, y, line, ha="center", va="center", fontsize=15, weight="bold")
        top += _TITLE_LINE
    for line in subtitle_lines:
        y = 1 - (top + _SUBTITLE_LINE / 2) / sheet_height
        figure.text(0.5, y, line, ha="center", va="center", fontsize=11)
        top += _SUBTITLE_LINE


def _describe_scores(predictions: Instances, threshold: float) -> str:
    scores = predictions.scores[predictions.scores >= threshold]
    if len(scores) == 0:
        return f"no prediction with a score ≥ {threshold:.2f}"
    noun = "prediction" if len(scores) == 1 else "predictions"
    seen = f"{scores.min():.2f}–{scores.max():.2f}" if len(scores) > 1 else f"{scores[0]:.2f}"
    return f"{len(scores)} {noun} with score ≥ {threshold:.2f} (seen: {seen})"


def _legend_entries(
    examples: Sequence[Example], class_names: Sequence[str], threshold: float
) -> list[Patch]:
    shown: set[int] = set()
    for example in examples:
        shown.update(entry["category_id"] for entry in example.annotations)
        predictions = example.predictions
        shown.update(predictions.pred_classes[predictions.scores >= threshold].tolist())
    classes = sorted(shown)
    entries = [
        Patch(facecolor=class_color(index), edgecolor="black", label=class_name(index, class_names))
        for index in classes[:_MOST_LEGEND_ENTRIES]
    ]
    if len(classes) > _MOST_LEGEND_ENTRIES:
        left_out = len(classes) - _MOST_LEGEND_ENTRIES
        entries.append(Patch(facecolor="none", label=f"and {left_out} more classes"))
    rule = f"found: same class, IoU ≥ {_MATCHING_IOU}"
    return [*entries, Patch(facecolor="none", label=rule)]


def _shorten(name: str, longest: int = 48) -> str:
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[:half]}…{name[-half:]}"

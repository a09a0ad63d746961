"""A contact sheet: ground truth beside predictions, with captions and a legend in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import Instances
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import draw_ground_truth, draw_predictions
from .matching import match_objects
from .sheet_layout import MOST_LABELS, Sheet, class_legend, in_rows, shorten

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
    rows = in_rows(examples, pairs_per_row)
    sheet = Sheet(
        title,
        subtitle,
        rows=[[example.image for example in row] for row in rows],
        legend=_legend(examples, class_names, threshold),
        group=2,
    )
    for number, row in enumerate(rows):
        for column, example in enumerate(row):
            _draw_pair(sheet, (number, 2 * column), example, class_names, threshold)
    return sheet.figure


def count_matches(
    predictions: Instances, annotations: Sequence[dict[str, Any]], threshold: float
) -> tuple[int, int, int]:
    """Counts objects found, predictions made and objects there.

    A prediction finds an object of its class when their boxes overlap with an IoU of at least
    0.5; each object is found once, by the prediction with the highest score. Crowd regions and
    what lies on them do not count.

    Args:
        predictions: What the detector found.
        annotations: The ground truth, in Detectron2's dataset format.
        threshold: Predictions with a lower score do not count.

    Returns:
        Number of objects found, of predictions, and of objects.
    """
    matches = match_objects(predictions, annotations, threshold=threshold, iou=_MATCHING_IOU)
    return matches.num_found, matches.num_found + matches.num_false, len(matches.found_by)


def _draw_pair(
    sheet: Sheet,
    place: tuple[int, int],
    example: Example,
    class_names: Sequence[str],
    threshold: float,
) -> None:
    num_found, num_predicted, num_objects = count_matches(
        example.predictions, example.annotations, threshold
    )
    scale = sheet.scale(example.image)
    truth = draw_ground_truth(
        example.image,
        example.annotations,
        class_names,
        scale=scale,
        with_labels=len(class_names) > 1 and num_objects <= MOST_LABELS,
    )
    prediction = draw_predictions(
        example.image,
        example.predictions,
        class_names,
        threshold,
        scale=scale,
        with_labels=num_predicted <= MOST_LABELS,
    )
    num_crowds = sum(bool(entry.get("iscrowd", 0)) for entry in example.annotations)
    objects = f"{num_objects} objects" if num_objects != 1 else "1 object"
    if num_crowds:
        objects += f" and {num_crowds} crowd regions (not drawn)"
    row, column = place
    sheet.place(row, column, truth, f"{shorten(example.name)}\nground truth: {objects}")
    sheet.place(
        row,
        column + 1,
        prediction,
        f"{_describe_scores(example.predictions, threshold)}\n"
        f"found {num_found} of {num_objects}, {num_predicted - num_found} false",
    )


def _describe_scores(predictions: Instances, threshold: float) -> str:
    scores = predictions.scores[predictions.scores >= threshold]
    if len(scores) == 0:
        return f"no prediction with a score ≥ {threshold:.2f}"
    noun = "prediction" if len(scores) == 1 else "predictions"
    seen = f"{scores.min():.2f}–{scores.max():.2f}" if len(scores) > 1 else f"{scores[0]:.2f}"
    return f"{len(scores)} {noun} with score ≥ {threshold:.2f} (seen: {seen})"


def _legend(
    examples: Sequence[Example], class_names: Sequence[str], threshold: float
) -> list[Patch]:
    shown: set[int] = set()
    for example in examples:
        shown.update(entry["category_id"] for entry in example.annotations)
        predictions = example.predictions
        shown.update(predictions.pred_classes[predictions.scores >= threshold].tolist())
    rule = f"found: same class, IoU ≥ {_MATCHING_IOU}"
    return [*class_legend(shown, class_names), Patch(facecolor="none", label=rule)]

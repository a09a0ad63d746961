"""Misses and false positives, drawn beside each other: as one sheet, or picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import class_name, draw_outlines, ground_truth_instances
from .errors import ErrorExample, ErrorReport
from .figures import Picture, as_picture
from .outline import Outline
from .sheet_layout import MOST_LABELS, PANEL, Sheet, in_rows, shorten

__all__ = ["draw_error_sheet", "error_pictures"]

# Light colours of M. Okabe and K. Ito, which stay apart for all readers and on dark photographs.
# Misses are dashed as well.
_FOUND = "#56b4e9"
_FALSE = "#ff7f0e"
_MISSED = "#f0e442"

# In pixels of the sheet, for a report in which a reader can zoom.
_LARGE_PANEL = 720


def draw_error_sheet(report: ErrorReport, *, title: str = "", pairs_per_row: int = 2) -> Figure:
    """Draws images in the order of their losses, ground truth left and predictions right.

    Args:
        report: What `find_errors` found.
        title: What the sheet shows; "" names the data set.
        pairs_per_row: Images beside each other.

    Returns:
        A figure with its own Agg canvas; ``figure.savefig(path)`` writes it.

    Raises:
        ValueError: If the report has no images.
    """
    if not report.examples:
        raise ValueError("a sheet of errors needs at least one image, got none")
    return _draw_sheet(
        report,
        list(enumerate(report.examples, start=1)),
        title or f"Misses and false positives on {report.dataset}",
        f"{_say_choice(report)} {_say_rule(report)}",
        PANEL,
        pairs_per_row,
    )


def error_pictures(report: ErrorReport) -> list[Picture]:
    """Draws each image of a report by itself, for a report in which a reader can zoom.

    Args:
        report: What `find_errors` found.

    Returns:
        One picture an image, highest loss first.
    """
    pictures = []
    for rank, example in enumerate(report.examples, start=1):
        name = Path(example.file_name).name
        title = f"{name}: misses and false positives"
        figure = _draw_sheet(report, [(rank, example)], title, "", _LARGE_PANEL, 1)
        losses = ", ".join(f"{key} {value:.2f}" for key, value in sorted(example.losses.items()))
        caption = f"{_say_choice(report)} {_say_rule(report)} Losses of this image: {losses}."
        pictures.append(as_picture(figure, f"{rank}. {name}, loss {example.loss:.2f}", caption))
    return pictures


def _draw_sheet(
    report: ErrorReport,
    ranked: Sequence[tuple[int, ErrorExample]],
    title: str,
    subtitle: str,
    panel: int,
    pairs_per_row: int,
) -> Figure:
    pairs_per_row = min(pairs_per_row, len(ranked))
    rows = in_rows(ranked, pairs_per_row)
    sheet = Sheet(
        title,
        subtitle,
        rows=[[example.image for _, example in row] for row in rows],
        panel=panel,
        legend=_legend(),
        group=2,
    )
    for number, row in enumerate(rows):
        for place, (rank, example) in enumerate(row):
            _draw_pair(sheet, (number, 2 * place), report, (rank, example))
    return sheet.figure


def _draw_pair(
    sheet: Sheet,
    place: tuple[int, int],
    report: ErrorReport,
    ranked: tuple[int, ErrorExample],
) -> None:
    (row, column), (rank, example) = place, ranked
    matches = example.matches
    scale = sheet.scale(example.image)
    truth = draw_outlines(example.image, _objects(report, example), scale=scale, with_halo=True)
    num_crowds = len(example.annotations) - len(example.objects)
    objects = f"{matches.num_found} found, {matches.num_missed} missed"
    if num_crowds:
        objects += f", {num_crowds} crowd regions not drawn"
    name = shorten(Path(example.file_name).name, 30)
    caption = f"{rank}. {name}, loss {example.loss:.2f}\nground truth: {objects}"
    sheet.place(row, column, truth, caption)

    found = draw_outlines(example.image, _predictions(report, example), scale=scale, with_halo=True)
    caption = (
        f"predictions with score ≥ {report.threshold:.2f}:\n"
        f"{matches.num_found} right, {matches.num_false} false"
    )
    sheet.place(row, column + 1, found, caption)


def _objects(report: ErrorReport, example: ErrorExample) -> list[Outline]:
    """Objects in the colour of what became of them; missed ones last, so that they lie on top."""
    truth = ground_truth_instances(example.annotations, example.image.shape[:2])
    masks = truth.gt_masks.tensor.numpy() if report.masks and truth.has("gt_masks") else None
    few = len(example.objects) <= MOST_LABELS
    outlines = []
    for index, box in enumerate(truth.gt_boxes.tensor.numpy()):
        is_missed = bool(example.matches.found_by[index] < 0)
        name = class_name(int(truth.gt_classes[index]), report.class_names)
        outlines.append(
            Outline(
                box,
                to_rgb(_MISSED if is_missed else _FOUND),
                name if few or is_missed else "",
                None if masks is None else masks[index],
                dashed=is_missed,
            )
        )
    return sorted(outlines, key=lambda outline: outline.dashed)


def _predictions(report: ErrorReport, example: ErrorExample) -> list[Outline]:
    """Predictions that count, right ones first, so that false ones lie on top."""
    found, matches = example.predictions, example.matches
    masks: np.ndarray | None = None
    if report.masks:
        masks = found.pred_masks.numpy()
    boxes, scores = found.pred_boxes.tensor.numpy(), found.scores.tolist()
    shown = [index for index in range(len(found)) if not matches.is_ignored[index]]
    outlines = []
    for index in sorted(shown, key=lambda index: matches.mistakes[index] is not None):
        mistake = matches.mistakes[index]
        name = class_name(int(found.pred_classes[index]), report.class_names)
        label = f"{name} {scores[index]:.0%}"
        outlines.append(
            Outline(
                boxes[index],
                to_rgb(_FALSE if mistake else _FOUND),
                f"{label}: {mistake}" if mistake else label * (len(shown) <= MOST_LABELS),
                None if masks is None else masks[index],
            )
        )
    return outlines


def _say_choice(report: ErrorReport) -> str:
    seen = len(report.losses)
    chosen = "all" if seen == report.num_images else f"{seen} evenly spaced"
    return (
        f"The {len(report.examples)} images of the highest training loss among {chosen} "
        f"of {report.num_images} images, highest first."
    )


def _say_rule(report: ErrorReport) -> str:
    shapes = "masks" if report.masks else "boxes"
    return (
        f"Right: same class and {shapes} with IoU ≥ {report.iou:.2g}; each object is found once, "
        "by the highest score, as in COCO's evaluation."
    )


def _legend() -> list[Patch]:
    return [
        _sample(_FOUND, "found, or right prediction"),
        _sample(_MISSED, "missed object", dashed=True),
        _sample(_FALSE, "false positive, and why it is one"),
    ]


def _sample(color: str, label: str, *, dashed: bool = False) -> Patch:
    sample = Patch(facecolor="black", edgecolor=color, linewidth=2, label=label)
    if dashed:
        # Shorter than usual, as the sample is small.
        sample.set_linestyle((0, (2, 1)))
    return sample

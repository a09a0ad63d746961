"""All pictures of the inside on one HTML page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image

from piip_d2 import __version__, _optional
from piip_d2.visualization.drawing import draw_predictions
from piip_d2.visualization.figures import Picture
from piip_d2.visualization.html_report import ReportSection, write_report
from piip_d2.visualization.inside.attention import locate
from piip_d2.visualization.inside.explorer import explorer_data
from piip_d2.visualization.inside.pictures import (
    Subject,
    attention_picture,
    choose_point,
    features_picture,
    merge_picture,
    pyramid_picture,
)

# Small images are enlarged to about this width in pixels, so that labels have room.
_DETECTIONS_WIDTH = 900


def write_inside_report(
    subject: Subject,
    path: str | Path,
    *,
    point: tuple[float, float] | None = None,
    facts: Mapping[str, str] | None = None,
    more: Sequence[ReportSection] = (),
) -> None:
    """Writes what happened in a detector as one HTML file.

    Args:
        subject: Who looked at what.
        path: The file.
        point: See :func:`attention_picture`.
        facts: What the page is about besides sizes and versions, as names and values.
        more: Further sections, for example on the training.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the point lies outside the image.
    """
    write_report(
        path,
        "Inside a PIIP detector",
        {**(facts or {}), **_sizes(subject)},
        [*inside_sections(subject, point), *more],
    )


def inside_sections(
    subject: Subject, point: tuple[float, float] | None = None
) -> list[ReportSection]:
    """Draws the sections of a report; see :func:`write_inside_report`."""
    sections = []
    if _optional.available("cv2"):
        sections.append(
            ReportSection("What the detector finds", pictures=[_detections_picture(subject)])
        )
    sections.append(
        ReportSection(
            "The pyramid",
            "Every branch gets the same image at a scale of its own, cut into tokens.",
            [pyramid_picture(subject)],
        )
    )
    inside = subject.record.inside
    if any(seen.attentions for seen in inside.interactions.values()):
        place, _ = choose_point(subject, point)
        start = locate(place, subject.record.image.shape[:2], inside)
        data = explorer_data(inside, start)
        sections.append(
            ReportSection(
                "Cross-branch attention",
                "In an interaction, every cell of a branch reads a few points of a neighbouring "
                "branch. Choose a cell to see which.",
                [attention_picture(subject, point)],
                data if data["looks"] else None,
            )
        )
    sections.append(
        ReportSection(
            "Features",
            "The three directions along which the features differ most are shown as red, green "
            "and blue.",
            [features_picture(subject)],
        )
    )
    about = "Weights of the detector that this page shows."
    sections.append(
        ReportSection("What the exchanges have learned", "", [merge_picture(subject.model, about)])
    )
    return sections


def _detections_picture(subject: Subject) -> Picture:
    record = subject.record
    scale = max(1.0, _DETECTIONS_WIDTH / record.image.shape[1])
    drawn = draw_predictions(record.image, record.detections, subject.class_names, scale=scale)
    content = io.BytesIO()
    Image.fromarray(drawn).save(content, format="PNG")
    count = int((record.detections.scores >= 0.5).sum())
    return Picture(
        "Detections",
        f"{subject.about} {count} objects with a score of 50 % or more, with class and score.",
        content.getvalue(),
    )


def _sizes(subject: Subject) -> dict[str, str]:
    inside = subject.record.inside
    height, width = subject.record.image.shape[:2]
    content, padded = inside.content_size, inside.images.shape[-2:]
    sides = ", ".join(
        f"{images.shape[-1]} x {images.shape[-2]}" for images in reversed(inside.pyramid)
    )
    shown = ", ".join(map(str, inside.interactions)) or "none"
    return {
        "Image": f"{width} x {height} px, resized to {content[1]} x {content[0]}, padded to "
        f"{padded[1]} x {padded[0]}",
        "Branches": f"{sides} px",
        "Interactions": f"{len(inside.network.interactions)}, shown: {shown}",
        "Parameters": f"{sum(p.numel() for p in subject.model.parameters()) / 1e6:.4g} M",
        "Versions": f"piip_d2 {__version__}, PyTorch {torch.__version__}",
    }

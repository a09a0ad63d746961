"""From a detector and an image to pictures of what happens inside."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import nn

from piip_d2.analysis.detectors import find_network
from piip_d2.predictor import ImageLike, Predictor
from piip_d2.visualization.drawing import class_name
from piip_d2.visualization.figures import Picture, as_picture
from piip_d2.visualization.inside.attention import locate, looks_at
from piip_d2.visualization.inside.draw_attention import draw_attention, draw_heads
from piip_d2.visualization.inside.draw_features import draw_features, spread_interactions
from piip_d2.visualization.inside.draw_pyramid import draw_pyramid
from piip_d2.visualization.inside.draw_scales import draw_scales
from piip_d2.visualization.inside.record import DetectorRecord
from piip_d2.visualization.inside.recording import record_detector
from piip_d2.visualization.inside.structure import branch_labels, cost_shares


@dataclass(frozen=True)
class Subject:
    """A detector that looked at an image.

    Args:
        model: The detector.
        record: What happened in it.
        about: Which image and which weights, for captions.
        class_names: Names by class index.
    """

    model: nn.Module
    record: DetectorRecord
    about: str
    class_names: Sequence[str] = ()


def observe(
    predictor: Predictor,
    image: ImageLike,
    *,
    interactions: Sequence[int] | None = None,
    about: str = "",
) -> Subject:
    """Lets a detector look at an image, and keeps what happened.

    Args:
        predictor: Of a detector around a PIIP.
        image: As the predictor takes it.
        interactions: Numbers of those to look into, from 0; None for all of up to three, or else
            the first, the last and one between.
        about: Which image and which weights, for captions.

    Returns:
        What the other functions here draw.

    Raises:
        ValueError: If the detector has no PIIP or no such interaction, or the image cannot be
            used.
    """
    if interactions is None:
        interactions = spread_interactions(len(find_network(predictor.model).interactions))
    record = record_detector(predictor, image, interactions)
    height, width = record.image.shape[:2]
    sentence = f"Image of {width} x {height} pixels"
    sentence += f": {about}." if about else "."
    return Subject(predictor.model, record, sentence, tuple(predictor.class_names))


def pyramid_picture(subject: Subject) -> Picture:
    """Draws each branch's input with token grid, windows and share of the costs."""
    inside = subject.record.inside
    height, width = inside.images.shape[-2:]
    costs = cost_shares(subject.model, (height, width))
    return as_picture(
        draw_pyramid(inside, costs, subject.about),
        "The image pyramid",
        "Each branch's input with its tokens and attention windows, and what each part costs.",
    )


def attention_picture(subject: Subject, point: tuple[float, float] | None = None) -> Picture:
    """Draws what the cells at a point read in other branches.

    Args:
        subject: Who looked at what.
        point: (x, y) in pixels of the image; None for the middle of the best detection, or of the
            image if nothing was found.

    Returns:
        The picture.

    Raises:
        ValueError: If the point lies outside the image, or nothing attends.
    """
    (x, y), sentence = choose_point(subject, point)
    inside = subject.record.inside
    looks = looks_at(inside, locate((x, y), subject.record.image.shape[:2], inside))
    return as_picture(
        draw_attention(inside, looks, f"{subject.about} {sentence}"),
        "Cross-branch attention",
        "Where the cells at one point read in the other branches, per interaction and head.",
    )


def head_pictures(subject: Subject, point: tuple[float, float] | None = None) -> dict[str, Picture]:
    """Draws the heads apart that :func:`attention_picture` draws together.

    Args:
        subject: Who looked at what.
        point: See there.

    Returns:
        One picture for each interaction and direction, by names that can stand in file names.

    Raises:
        ValueError: See there.
    """
    (x, y), sentence = choose_point(subject, point)
    inside = subject.record.inside
    labels = branch_labels(inside.network)
    pictures = {}
    for look in looks_at(inside, locate((x, y), subject.record.image.shape[:2], inside)):
        querying, attended = (_short(labels[n], n) for n in (look.querying, look.attended))
        pictures[f"interaction{look.interaction}_{querying}_reads_{attended}"] = as_picture(
            draw_heads(inside, look, f"{subject.about} {sentence}"),
            f"Interaction {look.interaction}: {labels[look.querying]} reads "
            f"{labels[look.attended]}, head by head",
            "Sampled points and their weights, a panel for every head.",
        )
    return pictures


def features_picture(subject: Subject) -> Picture:
    """Draws features around interactions and behind the merge in principal components."""
    return as_picture(
        draw_features(subject.record.inside, subject.about),
        "Features",
        "Features of every branch before and after interactions, and what the merge makes of them.",
    )


def merge_picture(model: nn.Module, about: str = "") -> Picture:
    """Draws merge weights and interaction scales; needs no image.

    Args:
        model: A network, a backbone around one, or a detector.
        about: Which weights, for the caption.

    Returns:
        The picture.

    Raises:
        ValueError: If there is no PIIP in the model.
    """
    return as_picture(
        draw_scales(find_network(model), about),
        "Interaction scales and merge weights",
        "How strongly the branches have learned to take part, by depth.",
    )


def with_fewer_colors(picture: Picture, count: int = 256) -> Picture:
    """Makes the file of a picture smaller, by a third to a half for noisy images.

    Args:
        picture: The picture.
        count: Number of colours to leave, 2 to 256.

    Returns:
        The same with so many colours.

    Raises:
        ValueError: If there cannot be so many.
    """
    if not 2 <= count <= 256:
        raise ValueError(f"the number of colours must be from 2 to 256, got {count}")
    content = io.BytesIO()
    opened = Image.open(io.BytesIO(picture.png)).convert("RGB")
    # Median cut would give up the colours of small marks, which say the most.
    few = opened.quantize(count, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    few.save(content, format="PNG", optimize=True)
    return Picture(picture.title, picture.caption, content.getvalue())


def choose_point(
    subject: Subject, point: tuple[float, float] | None = None
) -> tuple[tuple[float, float], str]:
    """Chooses the point whose cells are shown.

    Args:
        subject: Who looked at what.
        point: The point if there is a wish, in pixels of the image.

    Returns:
        The point, else the middle of the best detection or of the image; and a sentence on it.
    """
    if point is not None:
        return point, f"The point is x={point[0]:g}, y={point[1]:g}."
    found = subject.record.detections
    height, width = subject.record.image.shape[:2]
    if len(found) == 0:
        middle = (width / 2, height / 2)
        return middle, f"The point is the image's middle, x={middle[0]:g}, y={middle[1]:g}."
    best = int(found.scores.argmax())
    x, y = found.pred_boxes.get_centers()[best].tolist()
    # A box may end at the image's edge.
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    name = class_name(int(found.pred_classes[best]), subject.class_names)
    score = float(found.scores[best])
    return (x, y), (
        f"The point is the middle of the best detection ({name}, {score:.0%}), "
        f"x={x:.0f}, y={y:.0f}."
    )


def _short(label: str, number: int) -> str:
    size = label.split(" ")[0]
    return f"{size}px" if "(" not in label else f"{size}px-no{number}"

"""Running a detector over many images, with drawings and results on disk as it goes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from piip_d2.data.image_reading import UnusableImageError, read_image

from .coco_results import COCOResultsWriter
from .drawing import draw_predictions
from .image_files import names_file, number_images

if TYPE_CHECKING:
    from detectron2.structures import Instances

    from piip_d2.predictor import Predictor

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """An image to look at.

    Args:
        image_id: Number of the image, different for each.
        name: Its file name.
        pixels: Picture of shape ``(H, W, 3)``, RGB in uint8.
    """

    image_id: int
    name: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Detection:
    """What was found in an image.

    Args:
        source: The image.
        instances: The objects.
        drawing: The image with them drawn into it.
    """

    source: Source
    instances: Instances
    drawing: np.ndarray


def read_sources(images: Sequence[Path]) -> Iterator[Source]:
    """Reads images one by one; those that cannot be read are skipped with a warning."""
    for image_id, path in zip(number_images(images), images, strict=True):
        try:
            pixels = read_image(path)
        except UnusableImageError as error:
            _logger.warning("%s is skipped: %s", path, str(error).removeprefix(f"{path}: "))
        else:
            yield Source(image_id, str(path), pixels)


def number_frames(frames: Iterable[np.ndarray], name: str) -> Iterator[Source]:
    """Makes images of the frames of a video, named "clip.mp4#1" and so on."""
    for number, frame in enumerate(frames, start=1):
        yield Source(number, f"{name}#{number}", frame)


def detect(
    predictor: Predictor, sources: Iterable[Source], threshold: float
) -> Iterator[Detection]:
    """Finds and draws the objects in images; those that cannot be used are skipped.

    Args:
        predictor: The detector.
        sources: The images.
        threshold: Objects with a lower score are left out.

    Yields:
        What was found in an image, in the order of ``sources``.
    """
    for source in sources:
        try:
            instances = predictor(source.pixels)
        # Nothing else: a mistake in model or config would turn up with every image.
        except UnusableImageError as error:
            _logger.warning("%s is skipped: %s", source.name, error)
            continue
        instances = instances[instances.scores >= threshold]
        _logger.info("%s: %d objects", source.name, len(instances))
        drawing = draw_predictions(source.pixels, instances, predictor.class_names, threshold)
        yield Detection(source, instances, drawing)


def record(
    detections: Iterable[Detection],
    save_drawing: Callable[[Detection], Path],
    output: Path,
    *,
    file_suffixes: frozenset[str],
    predictor: Predictor,
) -> int:
    """Writes ``predictions.json``, ``images.json`` and drawings, image by image.

    Args:
        detections: What was found.
        save_drawing: Writes a drawing and returns the file it is in.
        output: Folder for everything; or the file of the drawing, whose stem then goes before the
            names of the other two.
        file_suffixes: Suffixes by which ``output`` is known to be a file.
        predictor: The detector, for its classes.

    Returns:
        The number of images written.
    """
    is_file = names_file(output, file_suffixes)
    folder = output.parent if is_file else output
    folder.mkdir(parents=True, exist_ok=True)
    num_written = 0
    with COCOResultsWriter(
        folder,
        prefix=f"{output.stem}_" if is_file else "",
        class_names=predictor.class_names,
        category_ids=predictor.category_ids,
    ) as results:
        for detection in detections:
            source = detection.source
            # The numbers first: they are what a full disk must not take.
            results.add(source.image_id, source.name, detection.instances)
            drawing = save_drawing(detection)
            results.note_drawing(drawing.name)
            num_written += 1
    _logger.info(
        "%d objects in %d images are written to %s",
        results.num_objects,
        num_written,
        results.predictions_path,
    )
    return num_written

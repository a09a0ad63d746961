"""Where a detector goes wrong: its hardest images, with misses and false positives."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import Instances
from omegaconf import OmegaConf

from piip_d2.data.image_reading import read_image
from piip_d2.data.overrides import apply_data_section
from piip_d2.data.registration import get_dataset_dicts
from piip_d2.predictor import Predictor

from .drawing import class_name
from .image_losses import image_losses, predicts_masks, training_mapper
from .matching import NO_MASKS_OF_OBJECTS, NO_PREDICTED_MASKS, Matches, match_objects
from .run_summary import choose_evenly
from .training import name_test_data

__all__ = ["ErrorExample", "ErrorReport", "find_errors"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ErrorExample:
    """An image with what was found in it.

    Args:
        file_name: Where the image lies.
        image: Picture of shape ``(H, W, 3)``, RGB in uint8.
        annotations: Its objects, in Detectron2's dataset format.
        predictions: What the detector found, of any score.
        matches: Which of it is right.
        losses: Training losses of the image by name.
    """

    file_name: str
    image: np.ndarray
    annotations: Sequence[dict[str, Any]]
    predictions: Instances
    matches: Matches
    losses: dict[str, float]

    @property
    def loss(self) -> float:
        """The sum of its losses."""
        return sum(self.losses.values())

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The annotations that count, in the order of ``matches.found_by``."""
        return [entry for entry in self.annotations if not entry.get("iscrowd", 0)]


@dataclass(frozen=True)
class ErrorReport:
    """The images with the highest loss.

    Args:
        examples: They, highest loss first.
        losses: Loss of every image that was looked at, by its file, highest first.
        dataset: Name of the data set.
        num_images: How many images that has.
        class_names: Names by class index.
        threshold: Lowest score of a prediction that counts.
        iou: Least overlap of a prediction with the object that it finds.
        masks: Whether masks were matched instead of boxes.
    """

    examples: Sequence[ErrorExample]
    losses: dict[str, float]
    dataset: str
    num_images: int
    class_names: Sequence[str]
    threshold: float
    iou: float
    masks: bool

    def as_dict(self) -> dict[str, Any]:
        """The report without its pictures, as JSON takes it."""
        return {
            "dataset": self.dataset,
            "num_images": self.num_images,
            "threshold": self.threshold,
            "iou": self.iou,
            "matched": "masks" if self.masks else "boxes",
            "examples": [_describe(example, self.class_names) for example in self.examples],
            "losses": self.losses,
        }


def find_errors(
    predictor: Predictor,
    *,
    dataset: str = "",
    num_images: int = 8,
    max_images: int = 200,
    threshold: float = 0.5,
    iou: float = 0.5,
    masks: bool = False,
) -> ErrorReport:
    """Looks for the images of a data set that a detector finds hardest, and for its mistakes there.

    Images are sorted by their training loss, see `piip_d2.visualization.image_losses`.

    Args:
        predictor: The detector.
        dataset: Name of the data set; "" takes the test data of the predictor's config.
        num_images: How many images to predict and to match.
        max_images: Of how many images, evenly spaced over the data set, the loss is computed.
        threshold: Lowest score of a prediction that counts; the predictor's ``score_threshold``
            should not be higher, as the detector gives nothing below its own.
        iou: Least overlap of a prediction with the object that it finds.
        masks: Whether masks overlap instead of boxes.

    Returns:
        The images with the highest losses, and all losses.

    Raises:
        ValueError: If there is no data set, if fewer than one image is asked for, if none can be
            used, or if masks are wanted and there are none.
    """
    if min(num_images, max_images) < 1:
        raise ValueError(
            f"num_images and max_images must be at least 1, got {num_images} and {max_images}"
        )
    dataset, shown_name = (dataset, dataset) if dataset else _test_data(predictor)
    records = get_dataset_dicts(dataset, filter_empty=False)
    chosen = choose_evenly(records, max_images)
    if masks:
        _check_masks(predictor, chosen)
    _logger.info("Computing the loss of %d of %d images of %s", len(chosen), len(records), dataset)
    scored = _sort_by_loss(predictor, chosen)
    if not scored:
        raise ValueError(f"none of {len(chosen)} images of {dataset} can be used")
    examples = [
        _look_at(predictor, *each, threshold=threshold, iou=iou, masks=masks)
        for each in scored[:num_images]
    ]
    return ErrorReport(
        examples,
        {record["file_name"]: sum(losses.values()) for record, losses in scored},
        shown_name,
        len(records),
        predictor.class_names,
        threshold,
        iou,
        masks,
    )


def _sort_by_loss(
    predictor: Predictor, records: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Images that can be used with their losses, highest first."""
    found = image_losses(predictor.model, records, training_mapper(predictor.cfg, predictor.model))
    scored = [
        (record, losses)
        for record, losses in zip(records, found, strict=True)
        if losses is not None
    ]
    # Of equal losses the first image stays first.
    return sorted(scored, key=lambda entry: -sum(entry[1].values()))


def _check_masks(predictor: Predictor, records: Sequence[dict[str, Any]]) -> None:
    """Refuses what `match_objects` would refuse after all losses were computed."""
    if not predicts_masks(predictor.model):
        raise ValueError(NO_PREDICTED_MASKS)
    for record in records:
        if not all(entry.get("segmentation") for entry in record.get("annotations", [])):
            raise ValueError(
                f"{NO_MASKS_OF_OBJECTS}, and one of {record['file_name']} has none; match boxes"
            )


def _look_at(
    predictor: Predictor, record: dict[str, Any], losses: dict[str, float], **rule: Any
) -> ErrorExample:
    image = read_image(record["file_name"])
    annotations = record.get("annotations", [])
    predictions = predictor(image)
    matches = match_objects(predictions, annotations, **rule)
    return ErrorExample(record["file_name"], image, annotations, predictions, matches, losses)


def _test_data(predictor: Predictor) -> tuple[str, str]:
    """The name under which test data are registered, and what people call them."""
    # A predictor reads no data, also if its config names some by their files.
    cfg = copy.deepcopy(predictor.cfg)
    apply_data_section(cfg)
    names = OmegaConf.select(cfg, "dataloader.test.dataset.names")
    if names:
        name = names if isinstance(names, str) else str(names[0])
        # Own data are registered under a name that nobody gave them.
        is_own = bool(OmegaConf.select(cfg, "data.val"))
        return name, name_test_data(cfg) if is_own else name
    raise ValueError(
        "images are sorted by their loss on a data set, but the config names none under "
        "dataloader.test.dataset.names; give one, such as data.val=my/val.json"
    )


def _describe(example: ErrorExample, class_names: Sequence[str]) -> dict[str, Any]:
    matches, predictions = example.matches, example.predictions
    missed = [
        class_name(entry["category_id"], class_names)
        for entry, finder in zip(example.objects, matches.found_by, strict=True)
        if finder < 0
    ]
    boxes = predictions.pred_boxes.tensor.tolist()
    false = [
        {
            "class": class_name(int(predictions.pred_classes[index]), class_names),
            "score": float(predictions.scores[index]),
            "box": boxes[index],
            "mistake": mistake,
        }
        for index, mistake in enumerate(matches.mistakes)
        if mistake is not None
    ]
    return {
        "file_name": example.file_name,
        "loss": example.loss,
        "losses": example.losses,
        "num_found": matches.num_found,
        "missed": dict(Counter(missed)),
        "false": false,
    }

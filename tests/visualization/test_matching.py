"""Matching agrees with pycocotools' own, and says why a prediction is false."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from piip_d2.visualization.matching import match_objects

SIZE = (60, 80)


def _truth(*boxes: tuple[float, ...], category_id: int = 0, crowd: int = 0) -> list[dict[str, Any]]:
    """Annotations with boxes (left, top, width, height) and polygons along them."""
    return [
        {
            "bbox": [x, y, w, h],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": category_id,
            "iscrowd": crowd,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
        for x, y, w, h in boxes
    ]


def _predictions(
    *boxes: tuple[float, ...], scores: list[float], classes: list[int] | None = None
) -> Instances:
    """Predictions with boxes (left, top, width, height) and masks that fill them."""
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, corners.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    return Instances(
        SIZE,
        pred_boxes=Boxes(corners),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes or [0] * len(scores), dtype=torch.int64),
        pred_masks=masks,
    )


def _random_case(seed: int) -> tuple[Instances, list[dict[str, Any]]]:
    """Objects of two classes, some of them crowds, and predictions around them."""
    random = np.random.default_rng(seed)
    truth = []
    for index in range(random.integers(0, 6)):
        box = (*random.integers(0, 40, 2).tolist(), *random.integers(4, 20, 2).tolist())
        truth += _truth(box, category_id=int(random.integers(2)), crowd=int(index % 3 == 2))
    boxes, classes = [], []
    for entry in [*truth, *truth]:
        shift = random.integers(-3, 4, 4)
        left, top, width, height = np.asarray(entry["bbox"]) + shift
        boxes.append((max(left, 0), max(top, 0), max(width, 1), max(height, 1)))
        classes.append(int(random.random() < 0.8) ^ entry["category_id"] ^ 1)
    return _predictions(*boxes, scores=random.random(len(boxes)).tolist(), classes=classes), truth


def _reference(
    predictions: Instances, truth: list[dict[str, Any]], iou: float, kind: str
) -> tuple[set[int], set[int], set[int]]:
    """Objects found, predictions that find one and predictions ignored, by pycocotools."""
    objects = []
    for number, entry in enumerate(truth, start=1):
        rle = coco_mask.merge(coco_mask.frPyObjects(entry["segmentation"], *SIZE))
        area = float(coco_mask.area(rle))
        changes = {"id": number, "image_id": 1, "area": area, "segmentation": rle}
        objects.append({**entry, **changes, "bbox_mode": 1})
    found = []
    for index, box in enumerate(predictions.pred_boxes.tensor.tolist()):
        mask = np.asfortranarray(predictions.pred_masks[index].numpy(), dtype=np.uint8)
        found.append(
            {
                "id": index + 1,
                "image_id": 1,
                "category_id": int(predictions.pred_classes[index]),
                "score": float(predictions.scores[index]),
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "segmentation": coco_mask.encode(mask),
                "area": float(mask.sum()),
                "iscrowd": 0,
            }
        )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": 1, "height": SIZE[0], "width": SIZE[1]}],
        "annotations": objects,
        "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = COCO()
        results.dataset = {**coco.dataset, "annotations": found}
        results.createIndex()
        evaluation = COCOeval(coco, results, kind)
        evaluation.params.iouThrs = np.array([iou])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    objects_found, finders, ignored = set(), set(), set()
    for image in filter(None, evaluation.evalImgs):
        for number, matched, is_ignored in zip(
            image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True
        ):
            if is_ignored:
                ignored.add(number - 1)
            elif matched:
                finders.add(number - 1)
                objects_found.add(int(matched) - 1)
    return objects_found, finders, ignored


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
def test_agrees_with_pycocotools(kind: str, iou: float) -> None:
    seen = np.zeros(3, dtype=int)
    for seed in range(40):
        predictions, truth = _random_case(seed)
        matches = match_objects(predictions, truth, iou=iou, masks=kind == "segm")
        plain = [number for number, entry in enumerate(truth) if not entry["iscrowd"]]
        objects = {plain[index] for index in np.flatnonzero(matches.found_by >= 0)}
        finders = set(np.flatnonzero(matches.finds >= 0).tolist())
        ignored = set(np.flatnonzero(matches.is_ignored).tolist())
        assert (objects, finders, ignored) == _reference(predictions, truth, iou, kind), seed
        num_false = len(predictions) - len(finders) - len(ignored)
        assert matches.num_false == num_false
        assert matches.num_found + matches.num_missed == len(plain)
        seen += (len(finders), num_false, len(ignored))
    # The cases have something of each kind.
    assert seen.min() > 3


def test_reasons_for_false_positives() -> None:
    truth = _truth((0, 0, 20, 20)) + _truth((40, 0, 20, 20), category_id=1)
    predictions = _predictions(
        (0, 0, 20, 20), (0, 0, 20, 18), (40, 0, 20, 20), (10, 0, 20, 20), (50, 0, 20, 20),
        (0, 40, 9, 9), scores=[0.9, 0.8, 0.7, 0.6, 0.55, 0.5],
    )  # fmt: skip
    matches = match_objects(predictions, truth)
    assert list(matches.mistakes) == [
        None,
        "found twice",
        "other class",
        "badly placed",
        "other class, badly placed",
        "nothing there",
    ]
    assert matches.found_by.tolist() == [0, -1]
    assert (matches.num_found, matches.num_missed, matches.num_false) == (1, 1, 5)


def test_low_scores_neither_find_nor_fail() -> None:
    matches = match_objects(
        _predictions((0, 0, 20, 20), scores=[0.4]), _truth((0, 0, 20, 20)), threshold=0.5
    )
    assert matches.is_ignored.tolist() == [True]
    assert (matches.num_found, matches.num_missed, matches.num_false) == (0, 1, 0)


def test_nothing_predicted_or_nothing_there() -> None:
    assert match_objects(_predictions(scores=[]), _truth((0, 0, 9, 9))).num_missed == 1
    assert match_objects(_predictions((0, 0, 9, 9), scores=[0.9]), []).num_false == 1


def test_refusals() -> None:
    predictions = _predictions((0, 0, 9, 9), scores=[0.9])
    with pytest.raises(ValueError, match="iou must be greater than 0 and at most 1, got 0"):
        match_objects(predictions, [], iou=0)
    without = [{k: v for k, v in _truth((0, 0, 9, 9))[0].items() if k != "segmentation"}]
    with pytest.raises(ValueError, match="only where every object has one; match boxes"):
        match_objects(predictions, without, masks=True)
    predictions.remove("pred_masks")
    with pytest.raises(ValueError, match="this one gives boxes alone; match boxes"):
        match_objects(predictions, [], masks=True)

"""Random annotations and detections, in the forms that evaluators take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 60, 80
# With gaps, as COCO's have them.
CATEGORY_IDS = (1, 4, 7)


class Case(NamedTuple):
    """Annotations in COCO's format, and by image what a model found."""

    content: dict[str, Any]
    found: dict[int, Instances]


def make_case(seed: int, *, with_masks: bool = True, most_detections: int = 150) -> Case:
    """Some images without objects, some without detections, crowds, and scores that are equal."""
    random = np.random.default_rng(seed)
    images, annotations, found = [], [], {}
    for image_id in range(1, int(random.integers(2, 6))):
        images.append({"id": image_id, "width": WIDTH, "height": HEIGHT, "file_name": "none.png"})
        boxes = [_box(random) for _ in range(int(random.integers(0, 7)))]
        for box in boxes:
            annotations.append(_annotation(random, box, len(annotations) + 1, image_id))
        count = int(random.integers(0, random.choice([6, most_detections])))
        found[image_id] = _detections(random, boxes, count, with_masks)
    categories = [{"id": number, "name": f"kind {number}"} for number in CATEGORY_IDS]
    return Case({"images": images, "annotations": annotations, "categories": categories}, found)


def register(name: str, content: dict[str, Any], folder: Path, *, contiguous: bool = True) -> None:
    """Puts a case into Detectron2's catalogue in the place of any other of that name."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps(content))
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)
    DatasetCatalog.register(name, list)
    metadata = MetadataCatalog.get(name)
    metadata.json_file = str(file)
    metadata.thing_classes = [category["name"] for category in content["categories"]]
    if contiguous:
        numbers = sorted(category["id"] for category in content["categories"])
        metadata.thing_dataset_id_to_contiguous_id = {n: index for index, n in enumerate(numbers)}


def evaluate(evaluator: Any, found: dict[int, Instances]) -> dict[str, dict[str, float]]:
    """Gives an evaluator all detections, and returns its results."""
    evaluator.reset()
    for image_id, instances in found.items():
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    results: dict[str, dict[str, float]] = evaluator.evaluate()
    return results


def assert_equal(
    one: dict[str, dict[str, float]], other: dict[str, dict[str, float]], message: str = ""
) -> None:
    """Compares results in percent; implementations round differently in the last place."""
    assert set(one) == set(other)
    for task, numbers in one.items():
        assert numbers == pytest.approx(other[task], abs=1e-9, nan_ok=True), f"{message}, {task}"


def _annotation(
    random: np.random.Generator, box: list[float], number: int, image_id: int
) -> dict[str, Any]:
    run_lengths = _encoded(_ellipse(box))
    is_crowd = random.random() < 0.15
    left, top, width, height = box
    outline = [left, top, left + width, top, left + width, top + height, left, top + height]
    as_polygon = not is_crowd and random.random() < 0.5
    return {
        "id": number,
        "image_id": image_id,
        "category_id": int(random.choice(CATEGORY_IDS)),
        "bbox": box,
        "area": float(coco_mask.area(run_lengths)),
        "iscrowd": int(is_crowd),
        "segmentation": [outline] if as_polygon else run_lengths,
    }


def _detections(
    random: np.random.Generator, boxes: list[list[float]], count: int, with_masks: bool
) -> Instances:
    chosen = []
    for _ in range(count):
        is_near = bool(boxes) and random.random() < 0.7
        box = boxes[int(random.integers(len(boxes)))] if is_near else _box(random)
        shifts = random.normal(size=4) * random.choice([0, 1, 4])
        chosen.append([value + shift for value, shift in zip(box, shifts, strict=True)])
    corners = torch.tensor(chosen, dtype=torch.float32).reshape(-1, 4)
    corners[:, 2:] = corners[:, :2] + corners[:, 2:].clamp(min=1)
    instances = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(corners))
    # Few digits make equal scores.
    digits = int(random.choice([1, 6]))
    scores = np.round(random.random(count), digits).astype(np.float32)
    instances.scores = torch.from_numpy(scores)
    classes = random.integers(0, len(CATEGORY_IDS), count)
    instances.pred_classes = torch.from_numpy(classes.astype(np.int64))
    if with_masks:
        masks = np.zeros((count, HEIGHT, WIDTH), dtype=bool)
        for index, (left, top, right, bottom) in enumerate(corners.tolist()):
            masks[index] = _ellipse([left, top, right - left, bottom - top])
        instances.pred_masks = torch.from_numpy(masks)
    return instances


def _box(random: np.random.Generator) -> list[float]:
    width, height = random.uniform(2, 50, 2) * random.choice([0.3, 1])
    left, top = random.uniform(0, WIDTH - width), random.uniform(0, HEIGHT - height)
    return [float(left), float(top), float(width), float(height)]


def _ellipse(box: list[float]) -> np.ndarray:
    left, top, width, height = box
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radii = (x - left - width / 2) / (width / 2), (y - top - height / 2) / (height / 2)
    return np.asarray(radii[0] ** 2 + radii[1] ** 2 <= 1)


def _encoded(mask: np.ndarray) -> dict[str, Any]:
    run_lengths = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {**run_lengths, "counts": run_lengths["counts"].decode()}

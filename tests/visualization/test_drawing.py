"""Boxes, masks and labels appear where they should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools import mask as coco_mask

from piip_d2 import _optional
from piip_d2.visualization.drawing import (
    class_color,
    class_name,
    draw_ground_truth,
    draw_predictions,
    ground_truth_instances,
)
from tests.test_imports import run_without

GREY = 100


@pytest.fixture
def image() -> np.ndarray:
    return np.full((120, 160, 3), GREY, np.uint8)


def _instances(with_masks: bool = False) -> Instances:
    """Two objects: class 0 at score 0.9 in the left half, class 1 at 0.3 in the right half."""
    instances = Instances((120, 160))
    instances.pred_boxes = Boxes(torch.tensor([[20.0, 40, 70, 90], [90, 40, 140, 90]]))
    instances.scores = torch.tensor([0.9, 0.3])
    instances.pred_classes = torch.tensor([0, 1])
    if with_masks:
        masks = torch.zeros(2, 120, 160, dtype=torch.bool)
        masks[0, 40:90, 20:70] = True
        masks[0, 55:75, 35:55] = False
        instances.pred_masks = masks
    return instances


def _changed(drawing: np.ndarray) -> np.ndarray:
    return (drawing != GREY).any(axis=2)


def test_box_has_the_colour_of_its_class(image: np.ndarray) -> None:
    drawing = draw_predictions(image, _instances(), with_labels=False)
    assert drawing.shape == image.shape and drawing.dtype == np.uint8
    edge = drawing[65, 19:22].astype(float).mean(axis=0) / 255
    assert np.abs(edge - class_color(0)).max() < 0.35
    assert not _changed(drawing)[:30].any()
    np.testing.assert_array_equal(image, GREY)


def test_threshold_hides_low_scores(image: np.ndarray) -> None:
    hidden = _changed(draw_predictions(image, _instances(), threshold=0.5, with_labels=False))
    shown = _changed(draw_predictions(image, _instances(), threshold=0.2, with_labels=False))
    assert hidden[:, :80].any() and not hidden[:, 80:].any()
    assert shown[:, 80:].any()


def test_mask_is_tinted_and_its_hole_is_not(image: np.ndarray) -> None:
    instances = _instances(with_masks=True)
    drawing = _changed(draw_predictions(image, instances, with_labels=False))
    assert drawing[47, 25:65].all()
    assert not drawing[60:70, 40:50].any()


def test_scale_and_limit_of_size(image: np.ndarray) -> None:
    assert draw_predictions(image, _instances(), scale=2.5).shape == (300, 400, 3)
    long = np.zeros((10, 8192, 3), np.uint8)
    nothing = Instances((10, 8192))
    nothing.pred_boxes, nothing.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
    nothing.pred_classes = torch.zeros(0, dtype=torch.int64)
    assert draw_predictions(long, nothing).shape == (5, 4096, 3)


def test_drawing_is_deterministic(image: np.ndarray) -> None:
    first, second = (draw_predictions(image, _instances(True), ["a", "b"]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("corner", [(0, 0), (150, 0), (0, 115), (150, 115)])
def test_labels_stay_inside(image: np.ndarray, corner: tuple[int, int]) -> None:
    instances = _instances()[:1]
    x, y = corner
    instances.pred_boxes = Boxes(torch.tensor([[x, y, x + 8, y + 4]], dtype=torch.float32))
    drawing = draw_predictions(image, instances, ["elephant", "b"])
    # The dark background of the label; cut off at a border, it would touch it.
    dark = (drawing < 40).all(axis=2)
    assert dark.sum() > 300
    assert not dark[:, -1].any() and not dark[-1].any()


def _annotation(**changes: Any) -> dict[str, Any]:
    annotation = {"bbox": [20, 40, 50, 50], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    return annotation | changes


def test_ground_truth_equals_the_prediction_of_the_same(image: np.ndarray) -> None:
    truth = draw_ground_truth(image, [_annotation()], with_labels=False)
    prediction = draw_predictions(image, _instances()[:1], with_labels=False)
    np.testing.assert_array_equal(truth, prediction)


def test_ground_truth_masks_as_polygon_and_run_lengths(image: np.ndarray) -> None:
    polygon = [[20.0, 40, 70, 40, 70, 90, 20, 90]]
    run_lengths = coco_mask.frPyObjects(polygon, 120, 160)[0]
    masks = ground_truth_instances(
        [_annotation(segmentation=polygon), _annotation(segmentation=run_lengths)], (120, 160)
    ).gt_masks.tensor
    assert masks[0].sum() == masks[1].sum() == 2500
    drawing = draw_ground_truth(image, [_annotation(segmentation=polygon)])
    assert _changed(drawing)[60:70, 40:50].all()


def test_crowds_and_missing_masks() -> None:
    polygon = [[20.0, 40, 70, 40, 70, 90, 20, 90]]
    annotations = [_annotation(segmentation=polygon), _annotation(), _annotation(iscrowd=1)]
    truth = ground_truth_instances(annotations, (120, 160))
    assert len(truth) == 2 and not truth.has("gt_masks")


def test_no_objects(image: np.ndarray) -> None:
    np.testing.assert_array_equal(draw_ground_truth(image, []), image)
    np.testing.assert_array_equal(draw_predictions(image, _instances()[:0]), image)


def test_colours_differ_and_names_fall_back() -> None:
    assert len({class_color(index) for index in range(80)}) == 80
    assert all(0 <= part <= 1 for index in range(80) for part in class_color(index))
    assert class_name(1, ["a", "b"]) == "b"
    assert class_name(2, ["a", "b"]) == "class 2"


def test_only_the_canvas_needs_opencv() -> None:
    program = "import sys, piip_d2.visualization.error_sheet as sheet; print(sheet.__name__)"
    result = run_without(("cv2",), program)
    assert result.stdout.split() == ["piip_d2.visualization.error_sheet"], result.stderr
    result = run_without(("cv2",), "import piip_d2.visualization.canvas")
    assert "blocked for the test: cv2" in result.stderr


def test_message_without_opencv(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, purpose: str) -> None:
        raise ImportError(f"{name} is needed for {purpose}")

    monkeypatch.setattr(_optional, "require", refuse)
    with pytest.raises(ImportError, match="cv2 is needed for drawing boxes and masks"):
        draw_predictions(image, _instances())

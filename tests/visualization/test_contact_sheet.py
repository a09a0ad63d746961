"""The contact sheet: its counts, its captions and its size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from matplotlib.figure import Figure

from piip_d2.visualization.contact_sheet import Example, count_matches, draw_contact_sheet


def _truth(*boxes: tuple[float, ...], category_id: int = 0) -> list[dict[str, Any]]:
    return [
        {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": category_id}
        for box in boxes
    ]


def _predictions(
    *boxes: tuple[float, ...],
    scores: list[float],
    classes: list[int] | None = None,
    size: tuple[int, int] = (60, 80),
) -> Instances:
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.tensor(classes or [0] * len(scores), dtype=torch.int64)
    return instances


def _example(name: str = "a.png", size: tuple[int, int] = (60, 80), **changes: Any) -> Example:
    parts = {
        "image": np.full((*size, 3), 90, np.uint8),
        "annotations": _truth((5, 5, 25, 25), (40, 5, 60, 25)),
        "predictions": _predictions((6, 5, 25, 25), (40, 30, 60, 50), scores=[0.9, 0.6], size=size),
    }
    return Example(name, **(parts | changes))


def _texts(figure: Figure) -> str:
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    return "\n".join([text.get_text() for text in figure.texts] + legend)


def test_each_object_is_found_once() -> None:
    truth = _truth((0, 0, 20, 20), (30, 0, 50, 20))
    predictions = _predictions(
        (0, 0, 20, 20), (1, 0, 21, 20), (30, 0, 50, 9), scores=[0.7, 0.9, 0.8]
    )
    # The second box is on the first object too; the third covers less than half of its own.
    assert count_matches(predictions, truth, threshold=0.5) == (1, 3, 2)
    assert count_matches(predictions, truth, threshold=0.85) == (1, 1, 2)


def test_class_must_agree_and_crowds_do_not_count() -> None:
    truth = _truth((0, 0, 20, 20), category_id=1)
    truth += [entry | {"iscrowd": 1} for entry in _truth((30, 0, 50, 20))]
    wrong = _predictions((0, 0, 20, 20), scores=[0.9], classes=[0])
    right = _predictions((0, 0, 20, 20), scores=[0.9], classes=[1])
    assert count_matches(wrong, truth, 0.5) == (0, 1, 1)
    assert count_matches(right, truth, 0.5) == (1, 1, 1)


def test_nothing_predicted_or_nothing_there() -> None:
    nothing = _predictions(scores=[])
    assert count_matches(nothing, _truth((0, 0, 9, 9)), 0.5) == (0, 0, 1)
    assert count_matches(_predictions((0, 0, 9, 9), scores=[0.9]), [], 0.5) == (0, 1, 0)


def test_captions_and_legend_say_what_is_shown() -> None:
    crowd = [entry | {"iscrowd": 1} for entry in _truth((0, 40, 20, 50))]
    other = _example(
        "b.png",
        annotations=_truth((5, 5, 25, 25), category_id=1) + crowd,
        predictions=_predictions(scores=[]),
    )
    figure = draw_contact_sheet(
        [_example(), other], ["cat", "dog", "cow"], title="my run", subtitle="2 of 9 images"
    )
    texts = _texts(figure)
    assert "my run" in texts and "2 of 9 images" in texts
    assert "a.png\nground truth: 2 objects" in texts
    assert "2 predictions with score ≥ 0.50 (seen: 0.60–0.90)\nfound 1 of 2, 1 false" in texts
    assert "b.png\nground truth: 1 object and 1 crowd regions (not drawn)" in texts
    assert "no prediction with a score ≥ 0.50\nfound 0 of 1, 0 false" in texts
    assert texts.endswith("cat\ndog\nfound: same class, IoU ≥ 0.5")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_nothing_is_cut_off_and_nothing_overlaps(count: int) -> None:
    sizes = [(60, 80), (200, 40), (30, 300), (64, 64), (7, 9)]
    examples = [
        _example("a very long name of an image file, longer than any caption.png" * 2, size)
        for size in sizes[:count]
    ]
    figure = draw_contact_sheet(examples, ["tree"], title="long title " * 12, subtitle="x " * 200)
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    renderer = figure.canvas.get_renderer()
    texts = [text.get_window_extent(renderer) for text in figure.texts]
    texts += [text.get_window_extent(renderer) for text in figure.legends[0].get_texts()]
    pictures = [axes.get_window_extent(renderer) for axes in figure.axes]
    assert len(pictures) == 2 * count
    boxes = texts + pictures
    for index, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        for another in boxes[index + 1 :]:
            overlap_x = min(box.x1, another.x1) - max(box.x0, another.x0)
            overlap_y = min(box.y1, another.y1) - max(box.y0, another.y0)
            assert min(overlap_x, overlap_y) < 2


def test_many_classes_shorten_the_legend() -> None:
    boxes = [(index, 0, index + 9, 9) for index in range(40)]
    predictions = _predictions(*boxes, scores=[0.9] * 40, classes=list(range(40)))
    figure = draw_contact_sheet([_example(predictions=predictions)], [], title="t")
    assert "class 23\nand 16 more classes\n" in _texts(figure)


def test_no_image() -> None:
    with pytest.raises(ValueError, match="at least one image, got none"):
        draw_contact_sheet([], [], title="t")

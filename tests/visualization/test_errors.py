"""The hardest images, their mistakes, and the sheet that shows them."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from matplotlib.figure import Figure
from PIL import Image

from piip_d2.data import register_coco_json
from piip_d2.engine import load_config
from piip_d2.predictor import Predictor
from piip_d2.visualization import errors
from piip_d2.visualization.error_sheet import draw_error_sheet, error_pictures
from piip_d2.visualization.errors import ErrorExample, ErrorReport, find_errors
from piip_d2.visualization.matching import match_objects
from tests.conftest import TinyCoco

CONFIG = str(Path(__file__).with_name("small_config.py"))
DATASET = "small_errors_test"


@pytest.fixture
def predictor(tiny_coco: TinyCoco) -> Predictor:
    register_coco_json(DATASET, tiny_coco.json_file, tiny_coco.image_root)
    names = f"dataloader.test.dataset.names={DATASET}"
    cfg = load_config(CONFIG, [names, "train.init_checkpoint="])
    return Predictor(cfg, device="cpu")


def _example(loss: float = 1.5, size: tuple[int, int] = (60, 80)) -> ErrorExample:
    """One object found, one missed, one found in a wrong place, one crowd region."""
    annotations = [
        {
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": index % 2,
            "iscrowd": index // 2,
        }
        for index, box in enumerate([(4, 30, 24, 50), (40, 30, 60, 50), (0, 0, 5, 5)])
    ]
    predictions = Instances(
        size,
        pred_boxes=Boxes(torch.tensor([(4.0, 30.0, 24.0, 50.0), (55.0, 30.0, 75.0, 50.0)])),
        scores=torch.tensor([0.9, 0.75]),
        pred_classes=torch.tensor([0, 1]),
    )
    return ErrorExample(
        "folder/photo.png",
        np.full((*size, 3), 90, np.uint8),
        annotations,
        predictions,
        match_objects(predictions, annotations),
        {"loss_cls": loss - 0.5, "loss_box": 0.5},
    )


def _report(*examples: ErrorExample) -> ErrorReport:
    losses = {f"{index}.png": 1.0 for index in range(7)}
    return ErrorReport(examples, losses, "my_data", 9, ["cat", "dog"], 0.5, 0.5, False)


def _texts(figure: Figure) -> str:
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    return "\n".join([text.get_text() for text in figure.texts] + legend)


def test_images_come_in_the_order_of_their_losses(predictor: Predictor) -> None:
    report = find_errors(predictor, num_images=3, threshold=0.0)
    records = DatasetCatalog.get(DATASET)
    assert set(report.losses) == {record["file_name"] for record in records}
    assert list(report.losses.values()) == sorted(report.losses.values(), reverse=True)
    assert [example.file_name for example in report.examples] == list(report.losses)[:3]
    assert [example.loss for example in report.examples] == list(report.losses.values())[:3]
    assert (report.dataset, report.num_images) == (DATASET, len(records))
    assert list(report.class_names) == ["red", "blue"]
    noted = json.loads(json.dumps(report.as_dict()))
    assert noted["examples"][0]["file_name"] == report.examples[0].file_name
    assert noted["losses"] == report.losses
    for entry, example in zip(noted["examples"], report.examples, strict=True):
        assert len(entry["false"]) == example.matches.num_false
        assert sum(entry["missed"].values()) == example.matches.num_missed
    assert "missed" in _texts(draw_error_sheet(report))


def test_own_data_leave_the_config_of_the_predictor(
    predictor: Predictor, tiny_coco: TinyCoco
) -> None:
    predictor.cfg.data = {"val": tiny_coco.json_file, "images": tiny_coco.image_root}
    before = copy.deepcopy(predictor.cfg)
    report = find_errors(predictor, num_images=1, max_images=1)
    assert report.dataset == Path(tiny_coco.json_file).name
    assert predictor.cfg == before


def test_some_of_the_images(predictor: Predictor) -> None:
    report = find_errors(predictor, num_images=5, max_images=2, masks=True)
    assert len(report.losses) == len(report.examples) == 2
    assert "2 images of the highest training loss among 2 evenly spaced of 4" in _texts(
        draw_error_sheet(report)
    )


def test_refusals(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 200"):
        find_errors(predictor, num_images=0)
    with torch.no_grad():
        next(predictor.model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match=f"none of 1 images of {DATASET} can be used"):
        find_errors(predictor, max_images=1)
    predictor.cfg.dataloader.test.dataset.names = ""
    with pytest.raises(ValueError, match="the config names none under dataloader.test"):
        find_errors(predictor)


def test_masks_are_refused_before_losses_are_computed(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        errors, "image_losses", lambda *_: pytest.fail("losses are computed in vain")
    )
    record = DatasetCatalog.get(DATASET)[0]
    outline = record["annotations"][0].pop("segmentation")
    monkeypatch.setattr(errors, "get_dataset_dicts", lambda *_, **__: [record])
    with pytest.raises(ValueError, match=f"one of {record['file_name']} has none; match boxes"):
        find_errors(predictor, masks=True)
    record["annotations"][0]["segmentation"] = outline
    predictor.model.roi_heads.mask_on = False
    with pytest.raises(ValueError, match="this one gives boxes alone; match boxes"):
        find_errors(predictor, masks=True)


def test_captions_and_legend() -> None:
    texts = _texts(draw_error_sheet(_report(_example(), _example(1.25)), title="my title"))
    assert "my title" in texts
    assert "The 2 images of the highest training loss among 7 evenly spaced of 9" in texts.replace(
        "\n", " "
    )
    assert "1. photo.png, loss 1.50\nground truth: 1 found, 1 missed, 1 crowd regions" in texts
    assert "predictions with score ≥ 0.50:\n1 right, 1 false" in texts
    assert "2. photo.png, loss 1.25" in texts
    legend = ("found, or right prediction", "missed object", "false positive, and why it is one")
    assert texts.endswith("\n".join(legend))


def test_marks_have_their_colours() -> None:
    truth, predictions = (
        axes.images[0].get_array().astype(int)
        for axes in draw_error_sheet(_report(_example())).axes
    )
    blue, yellow, orange = (86, 180, 233), (240, 228, 66), (255, 127, 14)

    def span(picture: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int] | None:
        """From where to where something of a colour stands, in pixels of the image."""
        near = (abs(picture - color) < 30).all(axis=2).any(axis=0)
        places = np.flatnonzero(near) * 80 / picture.shape[1]
        return (round(places.min()), round(places.max())) if near.any() else None

    assert span(truth, blue) == pytest.approx((4, 24), abs=1)
    assert span(truth, yellow) == pytest.approx((40, 60), abs=1)
    assert span(truth, orange) is None and span(predictions, yellow) is None
    assert span(predictions, blue) == pytest.approx((4, 24), abs=1)
    # The label of the false positive is wider than its box.
    left, right = span(predictions, orange)
    assert left <= 55 and right >= 75


def test_pictures_for_a_report() -> None:
    first, second = error_pictures(_report(_example(), _example(1.25)))
    assert first.title == "1. photo.png, loss 1.50" and second.title.startswith("2. ")
    assert "Losses of this image: loss_box 0.50, loss_cls 1.00." in first.caption
    assert "IoU ≥ 0.5" in first.caption
    with Image.open(io.BytesIO(first.png)) as picture:
        assert picture.width > 1400


def test_no_image() -> None:
    with pytest.raises(ValueError, match="at least one image, got none"):
        draw_error_sheet(_report())
    assert error_pictures(_report()) == []

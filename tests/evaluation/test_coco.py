"""COCO's numbers: those of Detectron2 and pycocotools, whoever counts."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from detectron2.evaluation import COCOEvaluator

from piip_d2 import _optional
from piip_d2.evaluation import PIIPCOCOEvaluator
from tests.evaluation.cases import Case, assert_equal, evaluate, make_case, register

NAME = "random_coco"

needs_faster = pytest.mark.skipif(
    not _optional.available("faster_coco_eval"), reason="needs faster-coco-eval"
)


def _evaluated(case: Case, folder: Path, **options: Any) -> dict[str, dict[str, float]]:
    register(NAME, case.content, folder)
    evaluator = PIIPCOCOEvaluator(NAME, distributed=False, **options)
    return evaluate(evaluator, case.found)


@needs_faster
@pytest.mark.parametrize(
    ("most", "seeds"),
    [(6, range(40)), (150, range(20)), pytest.param(150, range(20, 420), marks=pytest.mark.slow)],
)
def test_both_implementations_give_equal_numbers(tmp_path: Path, most: int, seeds: range) -> None:
    found_any = 0
    for seed in seeds:
        case = make_case(seed, most_detections=most)
        one = _evaluated(case, tmp_path, implementation="faster")
        other = _evaluated(case, tmp_path, implementation="pycocotools")
        assert_equal(one, other, f"seed {seed}")
        found_any += one["bbox"]["AP"] > 0
    assert found_any > len(seeds) / 3


@needs_faster
def test_other_limits_and_parts_of_the_images_give_equal_numbers(tmp_path: Path) -> None:
    for seed in range(10):
        case = make_case(seed, with_masks=False)
        one, other = (
            _evaluated(case, tmp_path, implementation=name, max_dets_per_image=30)
            for name in ("faster", "pycocotools")
        )
        assert "AR30" in one["bbox"]
        assert_equal(one, other, f"seed {seed}")
        parts = []
        for name in ("faster", "pycocotools"):
            evaluator = PIIPCOCOEvaluator(NAME, distributed=False, implementation=name)
            evaluate(evaluator, case.found)
            parts.append(evaluator.evaluate(img_ids=[1]))
        assert_equal(*parts, f"seed {seed}, one image")


@pytest.mark.parametrize("implementation", [pytest.param("faster", marks=needs_faster), "auto"])
def test_has_all_numbers_of_the_evaluator_of_detectron2(
    tmp_path: Path, implementation: str
) -> None:
    for seed in range(10):
        case = make_case(seed)
        ours = _evaluated(case, tmp_path, implementation=implementation)
        theirs = evaluate(COCOEvaluator(NAME, distributed=False, use_fast_impl=False), case.found)
        for task, numbers in theirs.items():
            common = {name: ours[task][name] for name in numbers}
            assert common == pytest.approx(numbers, abs=1e-9, nan_ok=True), (seed, task)


def test_recall_and_classes_by_hand(tmp_path: Path) -> None:
    # Kind 1: one of two objects is found, exactly. Kind 4: its one object is missed.
    case = make_case(0)
    boxes = [(1, [0.0, 0.0, 40.0, 40.0]), (1, [40.0, 20.0, 40.0, 40.0]), (4, [5.0, 5.0, 9.0, 9.0])]
    case.content["images"] = case.content["images"][:1]
    case.content["annotations"] = [
        {
            "id": number,
            "image_id": 1,
            "category_id": kind,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for number, (kind, box) in enumerate(boxes)
    ]
    instances = make_case(3, with_masks=False).found[1][:1]
    instances.pred_boxes.tensor[0] = instances.pred_boxes.tensor.new_tensor([0, 0, 40, 40])
    instances.pred_classes[0], instances.scores[0] = 0, 0.9
    results = _evaluated(Case(case.content, {1: instances}), tmp_path, output_dir=str(tmp_path))
    numbers = results["bbox"]
    # One of two recalled at a precision of 1: 51 of 101 points of recall.
    assert numbers["AP-kind 1"] == pytest.approx(100 * 51 / 101)
    assert numbers["AR-kind 1"] == pytest.approx(50)
    assert (numbers["AP-kind 4"], numbers["AR-kind 4"]) == (0, 0)
    assert math.isnan(numbers["AP-kind 7"])
    assert numbers["AR100"] == pytest.approx(25)
    rows = json.loads((tmp_path / "per_class.json").read_text())["bbox"]
    assert [(row["name"], row["objects"]) for row in rows] == [
        ("kind 1", 2),
        ("kind 4", 1),
        ("kind 7", 0),
    ]
    assert rows[2]["AP"] is None


def test_object_with_the_id_0_can_be_found(tmp_path: Path) -> None:
    for seed in range(5):
        case = make_case(seed)
        expected = _evaluated(case, tmp_path)
        for number, entry in enumerate(case.content["annotations"]):
            entry["id"] = number
        assert_equal(_evaluated(case, tmp_path), expected, f"seed {seed}")


def test_detections_are_written_with_ids_of_the_data(tmp_path: Path) -> None:
    case = make_case(1)
    _evaluated(case, tmp_path, output_dir=str(tmp_path / "inference"))
    written = json.loads((tmp_path / "inference" / "coco_instances_results.json").read_text())
    assert len(written) == sum(len(instances) for instances in case.found.values())
    assert {entry["category_id"] for entry in written} == {1, 4, 7}
    assert set(written[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}


def test_tables_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _evaluated(make_case(1), tmp_path, implementation="pycocotools")
    assert "Average Recall" in caplog.text
    assert "| kind 4 " in caplog.text
    assert "Counted by pycocotools" in caplog.text


def test_tables_of_many_classes_are_not_logged_but_returned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = make_case(1)
    case.content["categories"] += [{"id": n, "name": f"kind {n}"} for n in range(10, 110)]
    with caplog.at_level(logging.INFO):
        results = _evaluated(case, tmp_path)
    assert "AP and AR of 103 classes: per_class.json" in caplog.text
    assert "| kind 4 " not in caplog.text
    for metric in ("AP", "AR"):
        assert sum(name.startswith(f"{metric}-kind") for name in results["segm"]) == 103


def test_no_detections(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    case = make_case(1, with_masks=False)
    nothing = {number: instances[:0] for number, instances in case.found.items()}
    results = _evaluated(Case(case.content, nothing), tmp_path)
    assert math.isnan(results["bbox"]["AP"]) and math.isnan(results["bbox"]["AR100"])
    assert "found nothing" in caplog.text


def test_test_set_without_annotations(tmp_path: Path) -> None:
    case = make_case(1)
    del case.content["annotations"]
    assert _evaluated(case, tmp_path, output_dir=str(tmp_path)) == {}
    assert (tmp_path / "coco_instances_results.json").is_file()


def test_class_that_the_data_lack(tmp_path: Path) -> None:
    case = make_case(1)
    case.found[1].pred_classes[:] = 3
    with pytest.raises(ValueError, match="must be below 3, the number of classes of random_coco"):
        _evaluated(case, tmp_path)


def test_unknown_choices(tmp_path: Path) -> None:
    case = make_case(1)
    with pytest.raises(ValueError, match="implementation must be one of .*, got 'fast'"):
        _evaluated(case, tmp_path, implementation="fast")
    with pytest.raises(ValueError, match=r"tasks must be among .*, got \['boxes'\]"):
        _evaluated(case, tmp_path, tasks=["boxes"])


def test_without_the_fast_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_optional, "available", lambda name: False)
    register(NAME, make_case(1).content, tmp_path)
    assert PIIPCOCOEvaluator(NAME, distributed=False).implementation == "pycocotools"

    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(_optional.importlib, "import_module", absent)
    with pytest.raises(ImportError, match="faster_coco_eval.*pip install faster-coco-eval"):
        PIIPCOCOEvaluator(NAME, distributed=False, implementation="faster")

"""LVIS' numbers: those of the package ``lvis``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.evaluation import LVISEvaluator

from piip_d2 import _optional
from piip_d2.evaluation import PIIPCOCOEvaluator, PIIPLVISEvaluator
from tests.evaluation.cases import CATEGORY_IDS, Case, assert_equal, evaluate, make_case, register

NAME = "random_lvis"

pytestmark = pytest.mark.skipif(
    not _optional.available("faster_coco_eval"), reason="needs faster-coco-eval"
)


def make_lvis_case(seed: int, *, most_detections: int = 150) -> Case:
    """A case whose images are annotated for some of the classes, partly not for all objects."""
    random = np.random.default_rng(1000 + seed)
    case = make_case(seed, most_detections=most_detections)
    for category in case.content["categories"]:
        category["frequency"] = str(random.choice(["r", "c", "f"]))
    for entry in case.content["annotations"]:
        del entry["iscrowd"]
    for image in case.content["images"]:
        entries = case.content["annotations"]
        there = {e["category_id"] for e in entries if e["image_id"] == image["id"]}
        absent = [number for number in CATEGORY_IDS if number not in there]
        image["neg_category_ids"] = [n for n in absent if random.random() < 0.5]
        image["not_exhaustive_category_ids"] = [n for n in sorted(there) if random.random() < 0.3]
    return case


def _evaluated(case: Case, folder: Path, **options: Any) -> dict[str, dict[str, float]]:
    register(NAME, case.content, folder)
    return evaluate(PIIPLVISEvaluator(NAME, distributed=False, **options), case.found)


@pytest.mark.parametrize("seeds", [range(30), pytest.param(range(30, 330), marks=pytest.mark.slow)])
def test_numbers_are_those_of_the_lvis_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: range
) -> None:
    pytest.importorskip("lvis")
    # NumPy has had no such name since 1.24; the package still asks for it.
    monkeypatch.setattr(np, "float", float, raising=False)
    num_compared = 0
    for seed in seeds:
        case = make_lvis_case(seed)
        if not any(len(instances) for instances in case.found.values()):
            continue
        limit = 10 if seed % 3 == 0 else 300
        ours = _evaluated(case, tmp_path, max_dets_per_image=limit)
        reference = LVISEvaluator(NAME, distributed=False, max_dets_per_image=limit)
        for task, numbers in evaluate(reference, case.found).items():
            if math.isnan(ours[task]["AP"]):
                continue
            # A number that no object decides is NaN here, and -100 there.
            expected = {k: math.nan if v < 0 else v for k, v in numbers.items()}
            common = {name: ours[task][name] for name in expected}
            assert common == pytest.approx(expected, abs=1e-9, nan_ok=True), (seed, task)
            num_compared += 1
    assert num_compared > len(seeds)


def test_detections_of_classes_that_were_not_looked_for_do_not_count(tmp_path: Path) -> None:
    case = make_lvis_case(2)
    image = case.content["images"][0]
    image["neg_category_ids"] = image["not_exhaustive_category_ids"] = []
    image_id = image["id"]
    entries = case.content["annotations"]
    entries[:] = [e for e in entries if e["image_id"] != image_id or e["category_id"] != 7]
    instances = case.found[image_id]
    without = {**case.found, image_id: instances[instances.pred_classes != 2]}
    assert len(without[image_id]) < len(instances)
    expected = _evaluated(Case(case.content, without), tmp_path)
    assert_equal(_evaluated(case, tmp_path), expected)
    image["neg_category_ids"] = [7]
    assert _evaluated(case, tmp_path)["bbox"]["AP"] < expected["bbox"]["AP"]


def test_has_recall_and_groups_of_classes(tmp_path: Path) -> None:
    results = _evaluated(make_lvis_case(1), tmp_path, output_dir=str(tmp_path))
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]
    names += ["AR300", "ARs", "ARm", "ARl"]
    assert [name for name in results["segm"] if "-" not in name] == names
    assert (tmp_path / "per_class.json").is_file()


def test_classes_as_detectron2_registers_them(tmp_path: Path) -> None:
    case = make_lvis_case(1)
    for part, key in (("categories", "id"), ("annotations", "category_id")):
        for entry in case.content[part]:
            entry[key] = 1 + CATEGORY_IDS.index(entry[key])
    for image in case.content["images"]:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            image[key] = [1 + CATEGORY_IDS.index(number) for number in image[key]]
    expected = _evaluated(case, tmp_path)
    register(NAME, case.content, tmp_path, contiguous=False)
    assert MetadataCatalog.get(NAME).get("thing_dataset_id_to_contiguous_id") is None
    evaluator = PIIPLVISEvaluator(NAME, distributed=False)
    assert_equal(evaluate(evaluator, case.found), expected)


@pytest.mark.parametrize("part", ["categories", "images"])
def test_annotations_of_another_format(tmp_path: Path, part: str) -> None:
    case = make_lvis_case(1)
    del case.content[part][0]["frequency" if part == "categories" else "neg_category_ids"]
    with pytest.raises(ValueError, match=f"of the {part}, but 1 of .*PIIPCOCOEvaluator"):
        _evaluated(case, tmp_path)


def test_data_given_as_a_file_are_called_by_its_name(tmp_path: Path) -> None:
    case = make_lvis_case(1)
    del case.content["categories"][0]["frequency"]
    register(NAME, case.content, tmp_path)
    MetadataCatalog.get(NAME).source_json = "my/val.json"
    with pytest.raises(ValueError, match=r"of the categories, but 1 of \d in my/val\.json lack it"):
        PIIPLVISEvaluator(NAME, distributed=False)


@pytest.mark.parametrize("area", [None, "80"])
def test_annotations_without_area(tmp_path: Path, area: str | None) -> None:
    case = make_lvis_case(1)
    first, second = case.content["annotations"][:2]
    del first["area"]
    second["area"] = area
    with pytest.raises(ValueError, match=f"needs 'area'.* but 2 of .* in {NAME} lack it.*data.val"):
        _evaluated(case, tmp_path)


def test_same_annotations_count_otherwise_as_those_of_coco(tmp_path: Path) -> None:
    case = make_lvis_case(1)
    lvis = _evaluated(case, tmp_path)
    coco = evaluate(PIIPCOCOEvaluator(NAME, distributed=False), case.found)
    assert lvis["bbox"]["AP"] > coco["bbox"]["AP"]

from __future__ import annotations

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

from piip_d2.data import embedded, registration
from piip_d2.data.registration import (
    check_registered_splits,
    ensure_dataset,
    get_dataset_dicts,
    register_coco_json,
)
from piip_d2.data.scenes import SceneOptions

from .conftest import Coco, Writer


@pytest.fixture
def small_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded scenes, made small."""
    monkeypatch.setattr(embedded, "SCENES_V1", SceneOptions(image_size=48, object_size=(12, 30)))
    monkeypatch.setattr(embedded, "SCENES_V1_SPLITS", {"train": (5, 0), "val": (3, 1)})


def _perfect_average_precision(name: str) -> dict[str, float]:
    """Return the AP of detections that equal the ground truth."""
    evaluator = COCOEvaluator(name, tasks=("bbox",), distributed=False, use_fast_impl=False)
    evaluator.reset()
    for entry in DatasetCatalog.get(name):
        objects = [one for one in entry["annotations"] if not one["iscrowd"]]
        boxes = [BoxMode.convert(o["bbox"], o["bbox_mode"], BoxMode.XYXY_ABS) for o in objects]
        instances = Instances(
            (entry["height"], entry["width"]),
            pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
            pred_classes=torch.tensor([one["category_id"] for one in objects], dtype=torch.int64),
            scores=torch.ones(len(objects)),
        )
        evaluator.process([entry], [{"instances": instances}])
    with contextlib.redirect_stdout(io.StringIO()):
        return dict(evaluator.evaluate()["bbox"])


def test_classes_and_their_indices_come_from_the_json(coco: Coco, write_coco: Writer):
    summary = register_coco_json("mine", *write_coco(coco))
    assert summary.class_names == ("early", "late")
    metadata = MetadataCatalog.get("mine")
    assert metadata.thing_classes == ["early", "late"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert metadata.evaluator_type == "coco"
    entries = get_dataset_dicts("mine")
    assert len(entries) == 6
    assert [one["category_id"] for one in entries[0]["annotations"]] == [1, 0]


def test_registering_again(coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    first = register_coco_json("mine", json_file, folder)
    assert MetadataCatalog.get("mine").source_json == str(json_file)
    assert register_coco_json("mine", json_file, folder) is first
    coco["images"] = coco["images"][:2]
    coco["annotations"] = coco["annotations"][:4]
    other = json_file.with_name("other.json")
    other.write_text(json.dumps(coco))
    assert register_coco_json("mine", other, folder).num_images == 2
    assert len(get_dataset_dicts("mine")) == 2


def test_registering_a_name_that_was_taken_out(coco: Coco, write_coco: Writer):
    files = write_coco(coco)
    register_coco_json("mine", *files)
    DatasetCatalog.remove("mine")
    register_coco_json("mine", *files)
    assert len(DatasetCatalog.get("mine")) == 6


def test_a_name_of_detectron2_is_not_taken_over(coco: Coco, write_coco: Writer):
    with pytest.raises(ValueError, match="'coco_2017_val' is registered already; give another"):
        register_coco_json("coco_2017_val", *write_coco(coco))


def test_training_and_evaluation_read_the_cleaned_json(
    coco: Coco, write_coco: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    entries = coco["annotations"]
    entries[0]["category_id"] = 99
    entries[1]["id"] = entries[2]["id"]
    # COCO's evaluation stumbles over either of these.
    for entry in entries:
        del entry["area"], entry["iscrowd"]
    register_coco_json("mine", *write_coco(coco))
    assert "1 x annotation of an unknown category" in caplog.text
    used = Path(MetadataCatalog.get("mine").json_file)
    assert used.parent == tmp_path / "datasets" / ".checked"
    assert sum(len(entry["annotations"]) for entry in get_dataset_dicts("mine")) == 11
    assert _perfect_average_precision("mine")["AP"] == pytest.approx(100.0)


def test_a_root_that_cannot_be_written(
    coco: Coco, write_coco: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "file"))
    coco["annotations"][0]["bbox"][2] = 0
    register_coco_json("mine", *write_coco(coco))
    assert len(get_dataset_dicts("mine")) == 6


def test_embedded_data_are_made_when_asked_for(small_scenes: None, tmp_path: Path):
    # By Detectron2's catalogue alone, as its own tools would.
    assert len(DatasetCatalog.get("scenes_v1_val")) == 3
    assert (tmp_path / "datasets/scenes-v1/val").is_dir()
    summary = ensure_dataset("scenes_v1_train")
    assert summary is not None
    assert summary.class_names == ("disc", "rectangle", "triangle", "ring")
    assert summary.problems == {}
    assert "CC0" in Path(MetadataCatalog.get("scenes_v1_train").sources_file).read_text()
    assert len(get_dataset_dicts(["scenes_v1_train", "scenes_v1_val"])) == 8
    assert _perfect_average_precision("scenes_v1_val")["AP"] == pytest.approx(100.0)


def test_a_new_root_is_followed(
    small_scenes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ensure_dataset("scenes_v1_val")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "other"))
    ensure_dataset("scenes_v1_val")
    assert str(tmp_path / "other") in MetadataCatalog.get("scenes_v1_val").json_file


def test_unknown_names_and_missing_files():
    with pytest.raises(ValueError, match="there is no data set 'nothing'. The package can make"):
        ensure_dataset("nothing")
    with pytest.raises(FileNotFoundError, match="'coco_2017_train' must have its annotations at"):
        ensure_dataset("coco_2017_train")
    with pytest.raises(ValueError, match="a data set must be named, got ''"):
        get_dataset_dicts("")


def test_training_needs_an_object(coco: Coco, write_coco: Writer):
    coco["annotations"] = []
    register_coco_json("mine", *write_coco(coco))
    assert len(get_dataset_dicts("mine", filter_empty=False)) == 6
    with pytest.raises(
        ValueError, match=r"at least one object, but no image of .*/some\.json has any"
    ):
        get_dataset_dicts("mine")


def test_each_log_has_the_summary_once(
    coco: Coco,
    write_coco: Writer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    # Before there is a log, nobody hears of it.
    register_coco_json("mine", *write_coco(coco))
    sentence = "6 images (0 without objects), 12 objects"
    with caplog.at_level(logging.INFO):
        get_dataset_dicts("mine")
        get_dataset_dicts(["mine", "mine"])
        assert caplog.text.count(sentence) == 1
        monkeypatch.setattr(comm, "is_main_process", lambda: False)
        with_another = logging.NullHandler()
        registration.logger.addHandler(with_another)
        get_dataset_dicts("mine")
        assert caplog.text.count(sentence) == 1
        monkeypatch.undo()
        get_dataset_dicts("mine")
        registration.logger.removeHandler(with_another)
    assert caplog.text.count(sentence) == 2


def test_images_in_both_splits_are_reported(
    coco: Coco, write_coco: Writer, caplog: pytest.LogCaptureFixture
):
    json_file, folder = write_coco(coco)
    register_coco_json("mine", json_file, folder)
    copy = json_file.with_name("copy.json")
    copy.write_text(json_file.read_text())
    register_coco_json("again", copy, folder)
    check_registered_splits("mine", "again")
    sentence = f"6 of the 6 images of {copy} are also in {json_file} (0.png, 1.png, 2.png, ...)"
    assert sentence in caplog.text


def test_names_from_elsewhere_are_let_through(monkeypatch: pytest.MonkeyPatch):
    entries: list[dict[str, Any]] = [{"annotations": [{"iscrowd": 0, "category_id": 0}]}]
    DatasetCatalog.register("foreign", lambda: entries)
    MetadataCatalog.get("foreign").set(thing_classes=["a"])
    assert ensure_dataset("foreign") is None
    assert get_dataset_dicts("foreign") == entries
    assert registration.check_registered_splits("foreign", "foreign") is None

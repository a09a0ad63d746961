from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig, OmegaConf
from pycocotools import mask as mask_api

from piip_d2.data import embedded
from piip_d2.data.loader import build_test_loader, build_train_loader
from piip_d2.data.mapper import PIIPDatasetMapper
from piip_d2.data.overrides import apply_data_section, set_num_classes
from piip_d2.data.registration import get_dataset_dicts, register_coco_json
from piip_d2.data.scenes import SceneOptions
from piip_d2.engine.overrides import apply_overrides

from .conftest import Coco, Writer


@pytest.fixture
def cfg() -> DictConfig:
    """A config with the parts that depend on the data."""
    cfg = OmegaConf.create(flags={"allow_objects": True})
    cfg.model = {
        "backbone": {"num_classes": 1000},
        "roi_heads": {
            "num_classes": 80,
            "box_predictors": [{"num_classes": "${...num_classes}"}, {"num_classes": 80}],
            "keypoint_head": {"num_classes": "${..num_classes}", "conv_dims": "???"},
            "mask_head": None,
        },
        "sem_seg_head": {"num_classes": 54},
    }
    cfg.dataloader = {
        "train": L(build_train_loader)(
            dataset=L(get_dataset_dicts)(names="coco_2017_train"),
            mapper=L(PIIPDatasetMapper)(is_train=True, augmentations=[], use_instance_mask=False),
            total_batch_size=2,
        ),
        "test": L(build_test_loader)(dataset=L(get_dataset_dicts)(names="coco_2017_val")),
        "evaluator": L(COCOEvaluator)(dataset_name="${..test.dataset.names}"),
    }
    cfg.data = {"train": "", "val": "", "images": "", "val_images": ""}
    return cfg


def test_nothing_changes_without_a_data_set(cfg: DictConfig):
    before = OmegaConf.to_container(cfg)
    apply_data_section(cfg)
    del cfg.data
    apply_data_section(cfg)
    before.pop("data")
    assert OmegaConf.to_container(cfg) == before


def test_own_data_by_their_paths(cfg: DictConfig, coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    cfg.data = {"train": str(json_file), "val": str(json_file), "images": str(folder)}
    apply_data_section(cfg)
    heads = cfg.model.roi_heads
    assert heads.num_classes == 2
    assert [one.num_classes for one in heads.box_predictors] == [2, 2]
    assert heads.keypoint_head.num_classes == 2
    assert OmegaConf.is_interpolation(heads.keypoint_head, "num_classes")
    # Classes of other parts are not those of the objects.
    assert cfg.model.backbone.num_classes == 1000
    assert cfg.model.sem_seg_head.num_classes == 54
    name = cfg.dataloader.train.dataset.names
    assert name.startswith("some_")
    assert cfg.dataloader.evaluator.dataset_name == cfg.dataloader.test.dataset.names == name
    assert len(get_dataset_dicts(name)) == 6
    before = OmegaConf.to_container(cfg)
    apply_data_section(cfg)
    assert OmegaConf.to_container(cfg) == before


def test_a_typed_number_of_classes_must_be_that_of_the_data(
    cfg: DictConfig, coco: Coco, write_coco: Writer
):
    json_file, folder = write_coco(coco)
    data = [f"data.train={json_file}", f"data.val={json_file}", f"data.images={folder}"]
    for key in ("roi_heads", "roi_heads.box_predictors.1", "roi_heads.keypoint_head"):
        typed = apply_overrides(copy.deepcopy(cfg), [f"model.{key}.num_classes=7", *data])
        message = rf"model\.{key}.*num_classes=7 was given, but .*/some\.json has 2 classes"
        with pytest.raises(ValueError, match=message.replace(".1", ".1.")):
            # What is copied remembers it.
            apply_data_section(copy.deepcopy(typed))
    for allowed in ("roi_heads.num_classes=2", "backbone.num_classes=7"):
        typed = apply_overrides(copy.deepcopy(cfg), [f"model.{allowed}", *data])
        apply_data_section(typed)
        assert typed.model.roi_heads.num_classes == 2
    # The file of a run has the number that was taken from other data, which nobody typed.
    saved = OmegaConf.create(OmegaConf.to_yaml(typed.model), flags={"allow_objects": True})
    saved.roi_heads.num_classes = 7
    cfg.model = saved
    apply_data_section(apply_overrides(cfg, data))
    assert cfg.model.roi_heads.num_classes == 2


def test_validation_images_elsewhere_and_evaluators_with_names_written_out(
    cfg: DictConfig, coco: Coco, write_coco: Writer, tmp_path: Path
):
    json_file, folder = write_coco(coco)
    moved = tmp_path / "moved"
    folder.rename(moved)
    _, folder = write_coco(coco)
    # Without data.images, file names start from the folder of the JSON.
    train = folder / "train.json"
    train.write_text(json.dumps(coco))
    cfg.dataloader.evaluator = [L(COCOEvaluator)(dataset_name="coco_2017_val"), {"other": 1}]
    cfg.data = {"train": str(train), "val": str(json_file), "val_images": str(moved)}
    apply_data_section(cfg)
    assert cfg.dataloader.evaluator[0].dataset_name == cfg.dataloader.test.dataset.names
    assert cfg.dataloader.train.dataset.names != cfg.dataloader.test.dataset.names


def test_only_evaluation(cfg: DictConfig, coco: Coco, write_coco: Writer):
    json_file, folder = write_coco(coco)
    cfg.data = {"val": str(json_file), "images": str(folder)}
    apply_data_section(cfg)
    assert cfg.model.roi_heads.num_classes == 2
    assert cfg.dataloader.train.dataset.names == "coco_2017_train"


def test_training_without_evaluation_is_refused(cfg: DictConfig):
    cfg.data.train = "mine.json"
    with pytest.raises(ValueError, match=r"data\.train needs a data\.val"):
        apply_data_section(cfg)


def test_data_sets_by_name(cfg: DictConfig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "SCENES_V1", SceneOptions(image_size=48, object_size=(12, 30)))
    monkeypatch.setattr(embedded, "SCENES_V1_SPLITS", {"train": (2, 0), "val": (2, 1)})
    cfg.data = {"train": "scenes_v1_train", "val": "scenes_v1_val"}
    apply_data_section(cfg)
    assert cfg.model.roi_heads.num_classes == 4
    assert cfg.dataloader.train.dataset.names == "scenes_v1_train"
    cfg.data = {"val": "nothing"}
    with pytest.raises(ValueError, match="there is no data set 'nothing'"):
        apply_data_section(cfg)


@pytest.fixture
def partly_masked(cfg: DictConfig, coco: Coco, write_coco: Writer) -> DictConfig:
    """A config with masks for data in which only the first three of twelve objects have one."""
    cfg.dataloader.train.mapper.use_instance_mask = True
    for entry in coco["annotations"][3:]:
        entry.pop("segmentation", None)
    json_file, folder = write_coco(coco)
    cfg.data = {"train": str(json_file), "val": str(json_file), "images": str(folder)}
    return cfg


def test_training_leaves_out_what_has_no_mask(
    partly_masked: DictConfig, caplog: pytest.LogCaptureFixture
):
    apply_data_section(partly_masked)
    assert "9 of 12 objects" in caplog.text
    # Images none of whose objects has a mask are no training images.
    loader = instantiate(partly_masked.dataloader.train)
    batches = list(itertools.islice(loader, 4))
    assert {sample["image_id"] for batch in batches for sample in batch} == {0, 1}
    assert {len(s["instances"]) for batch in batches for s in batch if s["image_id"] == 1} == {1}
    assert not loader.unusable


def test_evaluation_ignores_what_has_no_mask(partly_masked: DictConfig, coco: Coco):
    apply_data_section(partly_masked)
    evaluator = instantiate(partly_masked.dataloader.evaluator)
    evaluator.reset()
    for image in coco["images"]:
        instances = _found_in(image, coco)
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    results = evaluator.evaluate()
    # All objects are found: no one missed, and those that cannot be judged are no false alarms.
    assert results["segm"]["AP"] == results["bbox"]["AP"] == pytest.approx(100.0)


def _found_in(image: dict[str, Any], coco: Coco) -> Instances:
    """All objects of an image, those without a mask with the highest score."""
    entries = [entry for entry in coco["annotations"] if entry["image_id"] == image["id"]]
    size = image["height"], image["width"]
    outlines = [entry.get("segmentation", _rectangle(entry["bbox"])) for entry in entries]
    boxes = [_rectangle(entry["bbox"])[0] for entry in entries]
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.tensor([[box[0], box[1], box[2], box[5]] for box in boxes]))
    instances.scores = torch.tensor([0.8 if "segmentation" in entry else 0.9 for entry in entries])
    instances.pred_classes = torch.tensor([int(entry["category_id"] == 7) for entry in entries])
    masks = [
        mask_api.decode(mask_api.merge(mask_api.frPyObjects(each, *size))) for each in outlines
    ]
    instances.pred_masks = torch.from_numpy(np.stack(masks)).bool()
    return instances


def _rectangle(box: list[float]) -> list[list[float]]:
    left, top, width, height = map(float, box)
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]]


def test_a_detector_of_boxes_uses_the_same_json_in_full(partly_masked: DictConfig):
    boxes_only = copy.deepcopy(partly_masked)
    boxes_only.dataloader.train.mapper.use_instance_mask = False
    apply_data_section(partly_masked)
    apply_data_section(boxes_only)
    assert len(get_dataset_dicts(partly_masked.dataloader.train.dataset.names)) == 2
    assert len(get_dataset_dicts(boxes_only.dataloader.train.dataset.names)) == 6


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_any_mask(
    cfg: DictConfig, coco: Coco, write_coco: Writer, tmp_path: Path, split: str
):
    cfg.dataloader.train.mapper.use_instance_mask = True
    json_file, folder = write_coco(coco)
    for entry in coco["annotations"]:
        entry.pop("segmentation", None)
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    cfg.data = {"train": str(json_file), "val": str(json_file), "images": str(folder)}
    cfg.data[split] = str(tmp_path / "boxes.json")
    what = {"train": "trains on masks", "val": "is evaluated by its masks"}[split]
    ways = r"Faster R-CNN, DINO, or a Cascade R-CNN whose name ends in _boxes"
    message = rf"{what}, but no object of .*boxes.json has one. Take .* \({ways}\)"
    with pytest.raises(ValueError, match=message):
        apply_data_section(cfg)


def test_evaluating_a_mask_head_needs_masks_unless_boxes_are_asked_for(
    cfg: DictConfig, coco: Coco, write_coco: Writer
):
    for entry in coco["annotations"]:
        entry.pop("segmentation", None)
    json_file, folder = write_coco(coco)
    cfg.data = {"val": str(json_file), "images": str(folder)}
    cfg.model.roi_heads.mask_head = {"num_classes": 80}
    with pytest.raises(ValueError, match=r"boxes alone: dataloader\.evaluator\.tasks=\[bbox\]"):
        apply_data_section(cfg)
    cfg.dataloader.evaluator.tasks = ["bbox"]
    apply_data_section(cfg)
    assert len(get_dataset_dicts(cfg.dataloader.test.dataset.names)) == 6


def test_a_test_set_named_alone_is_checked_for_masks(
    cfg: DictConfig, coco: Coco, write_coco: Writer, caplog: pytest.LogCaptureFixture
):
    register_coco_json("mine", *write_coco(coco))
    cfg.dataloader.train.mapper.use_instance_mask = True
    cfg.dataloader.test.dataset.names = "mine"
    apply_data_section(cfg)
    # Half of the objects have none.
    assert cfg.dataloader.evaluator.dataset_name == cfg.dataloader.test.dataset.names
    assert cfg.dataloader.test.dataset.names == "mine_masked"
    assert "6 of 12 objects" in caplog.text
    for entry in coco["annotations"]:
        entry.pop("segmentation", None)
    register_coco_json("boxes", *write_coco(coco))
    cfg.dataloader.test.dataset.names = "boxes"
    with pytest.raises(ValueError, match="evaluated by its masks, but no object of"):
        apply_data_section(cfg)
    cfg.dataloader.evaluator.tasks = ["bbox"]
    apply_data_section(cfg)


def test_a_test_set_of_ones_own_code_is_checked_for_masks(cfg: DictConfig):
    entries = [{"annotations": [{"segmentation": [[0] * 6]}, {}]}, {"annotations": []}]
    DatasetCatalog.register("own_code", lambda: entries)
    cfg.dataloader.train.mapper.use_instance_mask = True
    cfg.dataloader.test.dataset.names = "own_code"
    with pytest.raises(ValueError, match=r"but 1 of 2 annotations of 'own_code' have none"):
        apply_data_section(cfg)
    entries[0]["annotations"].pop()
    apply_data_section(cfg)
    assert cfg.dataloader.test.dataset.names == "own_code"


def test_a_model_without_classes_is_reported(caplog: pytest.LogCaptureFixture):
    model: Any = OmegaConf.create({"head": {"width": 3}})
    set_num_classes(model, 5)
    assert model == {"head": {"width": 3}}
    assert "it is not set to the 5 classes" in caplog.text

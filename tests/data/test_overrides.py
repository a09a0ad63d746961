from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import LazyCall as L
from detectron2.evaluation import COCOEvaluator
from omegaconf import DictConfig, OmegaConf

from piip_d2.data import embedded
from piip_d2.data.loader import build_test_loader, build_train_loader
from piip_d2.data.mapper import PIIPDatasetMapper
from piip_d2.data.overrides import apply_data_section, set_num_classes
from piip_d2.data.registration import get_dataset_dicts
from piip_d2.data.scenes import SceneOptions

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
            "mask_head": {"num_classes": "${..num_classes}", "conv_dims": "???"},
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
    assert heads.mask_head.num_classes == 2
    assert OmegaConf.is_interpolation(heads.mask_head, "num_classes")
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


@pytest.mark.parametrize("masks", [0, 3])
def test_masks_that_are_missing(
    cfg: DictConfig, coco: Coco, write_coco: Writer, masks: int, caplog: pytest.LogCaptureFixture
):
    cfg.dataloader.train.mapper.use_instance_mask = True
    for entry in coco["annotations"][masks:]:
        entry.pop("segmentation", None)
    json_file, folder = write_coco(coco)
    cfg.data = {"train": str(json_file), "val": str(json_file), "images": str(folder)}
    if masks:
        apply_data_section(cfg)
        assert "9 of 12 objects" in caplog.text
    else:
        with pytest.raises(ValueError, match="trains on masks, but no object of .* has one"):
            apply_data_section(cfg)


def test_a_model_without_classes_is_reported(caplog: pytest.LogCaptureFixture):
    model: Any = OmegaConf.create({"head": {"width": 3}})
    set_num_classes(model, 5)
    assert model == {"head": {"width": 3}}
    assert "it is not set to the 5 classes" in caplog.text

"""What the log says about the training data."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from detectron2.structures import BoxMode
from omegaconf import DictConfig, OmegaConf
from torch import nn

from piip_d2.analysis.configs import build_without_numbers
from piip_d2.data.loader import build_train_loader
from piip_d2.engine import load_config
from piip_d2.engine.data_report import log_training_data, pyramid_grid

QUICK = "configs/quick/mask_rcnn_scenes.py"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_without_numbers(QUICK)


@pytest.fixture
def cfg() -> DictConfig:
    return load_config(QUICK, [])


def _loader(num_images: int) -> Any:
    entry = {"bbox": [0, 0, 30, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record = {"height": 128, "width": 128, "annotations": [entry]}
    return build_train_loader([record] * num_images, mapper=dict, total_batch_size=8)


def test_strides_and_tokens_are_those_of_the_model(cfg: DictConfig, model: nn.Module) -> None:
    grid = pyramid_grid(cfg, model)
    assert grid is not None
    assert dict(grid.strides) == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    # Patches of 8 pixels, in branches that see the image at a half and a quarter of its size.
    assert grid.tokens == ((64, 32.0), (128, 16.0), (256, 8.0))
    assert (grid.short_side, grid.long_side) == (256, 256)


def test_other_models_and_augmentations(cfg: DictConfig, model: nn.Module) -> None:
    assert pyramid_grid(cfg, nn.Linear(1, 1)) is None
    cfg.dataloader.test.mapper.augmentations = []
    grid = pyramid_grid(cfg, model)
    assert grid is not None and grid.short_side == 0
    cfg.dataloader.test.mapper.augmentations = [{"short_edge_length": [32, 48], "max_size": 99}]
    grid = pyramid_grid(cfg, model)
    assert grid is not None and (grid.short_side, grid.long_side) == (48, 99)
    cfg.dataloader.test.mapper.augmentations = [{"short_edge_length": 32}]
    grid = pyramid_grid(cfg, model)
    assert grid is not None and (grid.short_side, grid.long_side) == (32, 3200)


def test_the_log(cfg: DictConfig, model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_training_data(cfg, model, _loader(400))
    assert "To train on: 400 objects in 400 images. 260 iterations of 8 images" in caplog.text
    assert "see every image 5.2 times." in caplog.text
    assert "at least a cell of p5 (stride 32)         | 400 (100 %)" in caplog.text
    assert "Mind" not in caplog.text
    caplog.clear()
    cfg.train.accumulate = 2
    log_training_data(cfg, model, _loader(16))
    assert "every image 260 times. Mind that the published schedules" in caplog.text
    assert "train.max_iter=12 to 36 here" in caplog.text


def test_nothing_is_said_about_other_loaders(
    model: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log_training_data(OmegaConf.create(), model, [[]])
    assert not caplog.records

"""Losses of single images: repeatable, in any order, and without a trace in the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig
from torch import Tensor, nn

from piip_d2.data import register_coco_json
from piip_d2.engine import load_config
from piip_d2.visualization.image_losses import image_losses, training_mapper
from tests.conftest import TinyCoco

CONFIG = str(Path(__file__).with_name("small_config.py"))


class _Watched(nn.Module):
    """Notes its mode in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return x


@pytest.fixture
def cfg(tiny_coco: TinyCoco) -> DictConfig:
    register_coco_json("small_losses_test", tiny_coco.json_file, tiny_coco.image_root)
    return load_config(CONFIG, ["dataloader.test.dataset.names=small_losses_test"])


@pytest.fixture
def model(cfg: DictConfig) -> nn.Module:
    return instantiate(cfg.model).eval()


def test_losses_do_not_depend_on_the_order(cfg: DictConfig, model: nn.Module) -> None:
    records = DatasetCatalog.get("small_losses_test")
    mapper = training_mapper(cfg, model)
    losses = image_losses(model, records, mapper)
    names = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
    assert [set(values) for values in losses] == [names] * len(records)
    assert image_losses(model, records[::-1], mapper) == losses[::-1]
    # An image without objects has losses, of the background alone.
    empty = [index for index, record in enumerate(records) if not record["annotations"]]
    assert losses[empty[0]]["loss_cls"] > 0 and losses[empty[0]]["loss_box_reg"] == 0


def test_the_model_stays_as_it_was(cfg: DictConfig, model: nn.Module) -> None:
    watched = {
        "backbone": _Watched(),
        "proposal_generator": _Watched(),
    }
    model.backbone.layers.append(watched["backbone"])
    model.backbone.layers.append(nn.BatchNorm2d(8))
    head = model.roi_heads.box_head
    head.append(nn.Dropout(0.9))
    head.append(nn.BatchNorm1d(8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    records = DatasetCatalog.get("small_losses_test")[:2]
    losses = image_losses(model, records, training_mapper(cfg, model))
    assert losses == image_losses(model, records, training_mapper(cfg, model))
    assert set(watched["backbone"].modes) == {False}
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_image_that_cannot_be_used(
    cfg: DictConfig, model: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    record = DatasetCatalog.get("small_losses_test")[0]
    losses = image_losses(
        model, [record | {"file_name": "no/such.png"}], training_mapper(cfg, model)
    )
    assert losses == [None]
    assert "no/such.png has no loss" in caplog.text


def test_loss_that_is_not_finite(
    cfg: DictConfig, model: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    record = DatasetCatalog.get("small_losses_test")[0]
    assert image_losses(model, [record], training_mapper(cfg, model)) == [None]
    assert "has no loss: " in caplog.text

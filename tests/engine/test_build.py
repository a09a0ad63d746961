"""The parts of a run."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from torch import nn

from piip_d2.engine.build import (
    build_ema,
    build_model,
    build_optimizer,
    build_train_loader,
    build_trainer,
    enable_activation_checkpointing,
    learning_rate_factor,
    set_activation_checkpointing,
)
from tests.engine.runs import toy_config
from tests.engine.toys import build_unseekable_loader


def test_model_does_not_depend_on_what_was_drawn_before(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path, "train.seed=4")
    first = build_model(cfg)
    torch.rand(5)
    second = build_model(cfg)
    other = build_model(toy_config(tmp_path, "train.seed=5"))
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_activation_checkpointing_is_switched_on(tmp_path: Path) -> None:
    assert not build_model(toy_config(tmp_path)).use_act_checkpoint
    cfg = toy_config(tmp_path, "train.activation_checkpointing=True")
    assert build_model(cfg).use_act_checkpoint


def test_model_without_activation_checkpointing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert enable_activation_checkpointing(nn.Linear(1, 1)) == 0
    assert "no module of this model offers it" in caplog.text


def test_activation_checkpointing_is_set_where_it_exists(tmp_path: Path) -> None:
    model = build_model(toy_config(tmp_path))
    for is_on in (True, False):
        assert set_activation_checkpointing([model, nn.Linear(1, 1)], is_on) == 1
        assert model.use_act_checkpoint is is_on


@pytest.mark.parametrize(
    ("batch", "accumulate", "rule", "factor"),
    [(16, 1, "linear", 1.0), (2, 2, "linear", 0.25), (2, 2, "sqrt", 0.5), (8, 4, "linear", 2.0)],
)
def test_learning_rates_follow_the_batch(
    tmp_path: Path, batch: int, accumulate: int, rule: str, factor: float
) -> None:
    cfg = toy_config(
        tmp_path,
        f"dataloader.train.total_batch_size={batch}",
        f"train.accumulate={accumulate}",
        f"train.auto_scale_lr.rule={rule}",
        "train.auto_scale_lr.enabled=True",
    )
    assert math.isclose(learning_rate_factor(cfg), factor)
    optimizer = build_optimizer(cfg, build_model(cfg))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(cfg.optimizer.lr * factor)


def test_learning_rate_stays_by_default(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path)
    optimizer = build_optimizer(cfg, build_model(cfg))
    assert optimizer.param_groups[0]["lr"] == cfg.optimizer.lr


def test_scaling_needs_rule_and_batch_size(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path, "train.auto_scale_lr.rule=cubic")
    with pytest.raises(ValueError, match="must be 'linear' or 'sqrt', got 'cubic'"):
        learning_rate_factor(cfg)
    del cfg.dataloader.train.total_batch_size
    with pytest.raises(ValueError, match="needs dataloader.train.total_batch_size"):
        learning_rate_factor(cfg)


def test_ema_is_off_by_default(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    assert build_ema(toy_config(tmp_path), model) is None
    ema = build_ema(toy_config(tmp_path, "train.ema.enabled=True", "train.ema.decay=0.5"), model)
    assert ema is not None and ema.decay == 0.5


def test_trainer_follows_the_config(tmp_path: Path) -> None:
    cfg = toy_config(
        tmp_path,
        "train.amp.enabled=True",
        "train.accumulate=3",
        "train.clip_grad={enabled: True, max_norm: 0.5}",
        "train.seed=8",
    )
    model = build_model(cfg)
    trainer = build_trainer(cfg, model, build_optimizer(cfg, model))
    assert trainer.precision.name == "bf16"
    assert (trainer.accumulate, trainer.seed) == (3, 8)
    assert trainer.clipping is not None and trainer.clipping.max_norm == 0.5
    assert trainer.model is model


def test_loader_begins_where_the_run_left_off(tmp_path: Path) -> None:
    cfg = toy_config(tmp_path, "train.accumulate=2", "train.seed=3")
    loader = build_train_loader(cfg, first_iteration=5)
    # 5 iterations of 2 batches of 4 images
    assert [sample["position"] for sample in next(iter(loader))] == [40, 41, 42, 43]
    assert loader.dataset.seed == 3


def test_loader_that_cannot_begin_anywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = toy_config(tmp_path)
    cfg.dataloader.train = L(build_unseekable_loader)(total_batch_size=4)
    with caplog.at_level(logging.WARNING):
        build_train_loader(cfg, first_iteration=0)
        assert not caplog.records
        build_train_loader(cfg, first_iteration=5)
    assert "takes no start_iteration" in caplog.text

"""Configurations as text."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import LazyCall, LazyConfig
from detectron2.evaluation import DatasetEvaluators
from omegaconf import DictConfig, OmegaConf

from piip_d2.engine import set_up_run, train
from piip_d2.engine.config_text import config_as_yaml
from tests.engine.runs import toy_config


def _config(value: Any) -> DictConfig:
    cfg = LazyCall(DatasetEvaluators)(evaluators=[1, value])
    return OmegaConf.create({"evaluator": cfg}, flags={"allow_objects": True})


def test_text_can_be_loaded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = config_as_yaml(_config(len))
    assert "detectron2.evaluation" in text and capfd.readouterr().err == ""
    (tmp_path / "config.yaml").write_text(text)
    assert LazyConfig.load(str(tmp_path / "config.yaml")).evaluator.evaluators == [1, len]


def test_function_without_a_name(caplog: pytest.LogCaptureFixture) -> None:
    text = config_as_yaml(_config(lambda number: number))
    assert "evaluators" in text
    (message,) = caplog.messages
    assert "functions with a name, got evaluator.evaluators.1=<function" in message
    assert "can be read but not loaded. Define a named function" in message


def test_object_that_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    assert config_as_yaml(_config(threading.Lock())) == ""
    (message,) = caplog.messages
    assert "evaluators.1=<unlocked _thread.lock" in message and "there is no YAML" in message


@pytest.mark.parametrize("value", [lambda number: number, threading.Lock()])
def test_training_goes_on_without(tmp_path: Path, value: Any) -> None:
    cfg = toy_config(tmp_path, "train.max_iter=1")
    cfg._set_flag("allow_objects", True)
    cfg.train.remark = value
    train(cfg, set_up_run(cfg))
    assert (tmp_path / "model_final.pth").exists()
    log = (tmp_path / "log.txt").read_text()
    assert "got train.remark=<" in log and "pickle at" not in log and ".pkl" not in log

"""From a file and a command line to a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import LazyConfig

from piip_d2.configs import get_config_file
from piip_d2.engine.config import default_train_section, load_config
from tests.engine.runs import CONFIG


def test_left_out_keys_of_train_are_filled_in() -> None:
    cfg = load_config(CONFIG)
    assert cfg.train.log_period == 1
    assert cfg.train.accumulate == default_train_section().accumulate == 1
    assert cfg.train.checkpointer.period == 4


def test_preset_comes_before_explicit_overrides() -> None:
    cfg = load_config(CONFIG, ["train.accumulate=3", "train.preset=one_gpu"])
    assert cfg.dataloader.train.total_batch_size == 2
    assert cfg.train.activation_checkpointing
    assert cfg.train.accumulate == 3


def test_one_gpu_preset_keeps_the_batch_of_16() -> None:
    cfg = load_config(CONFIG, ["train.preset=one_gpu"])
    assert cfg.dataloader.train.total_batch_size * cfg.train.accumulate == 16


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match=r"must be one of \['fsdp', 'one_gpu'\], got 'two_gpu'"):
        load_config(CONFIG, ["train.preset=two_gpu"])


def test_saved_config_can_be_loaded(tmp_path: Path) -> None:
    cfg = load_config(CONFIG, ["train.max_iter=5"])
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = load_config(str(tmp_path / "config.yaml"), ["model.width=5"])
    assert again.train == cfg.train
    assert again.model.width == 5


def test_preset_is_applied_only_once(tmp_path: Path) -> None:
    cfg = load_config(CONFIG, ["train.preset=one_gpu", "train.accumulate=4"])
    assert (cfg.train.preset, cfg.train.applied_preset) == ("", "one_gpu")
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    assert load_config(str(tmp_path / "config.yaml")).train == cfg.train


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ValueError, "no config file given: use --config-file"),
        ("nowhere.py", FileNotFoundError, "config file nowhere.py does not exist"),
        ("quick/mask_rcnn_scene", FileNotFoundError, "did you mean quick/mask_rcnn_scenes"),
        ("setup.py", ValueError, "lacks the section.*model, dataloader"),
        ("README.md", ValueError, "has to be a python or yaml file"),
    ],
)
def test_mistaken_file(
    path: str,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "setup.py").write_text("train = dict()")
    (tmp_path / "README.md").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load_config(path)


def test_published_config_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "quick/mask_rcnn_scenes"
    assert load_config(name).train == load_config(get_config_file(name)).train

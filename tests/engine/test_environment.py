"""The machine and the process of a run."""

from __future__ import annotations

import errno
import logging
import platform
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from omegaconf import DictConfig

import piip_d2
from piip_d2.engine import load_config
from piip_d2.engine.environment import (
    device_name,
    environment_report,
    resolve_device,
    save_config,
    set_up_run,
)
from tests.engine.runs import toy_config


def test_report_is_fit_for_a_bug_report() -> None:
    report = environment_report()
    for word in (f"piip_d2 {piip_d2.__version__}", "compiled operators: ", "PyTorch", "Python"):
        assert word in report
    # What is left out of it is thousands of characters long.
    assert max(map(len, report.splitlines())) < 300
    assert "Build settings" not in report


@pytest.mark.parametrize("problem", ["detectron2._C  not built correctly: No module named", ""])
def test_report_explains_operators_that_are_not_needed(
    monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    monkeypatch.setattr("piip_d2.engine.environment.collect_env_info", lambda: f"CUDA\n{problem}")
    explained = "Nothing is missing without detectron2._C: " in environment_report()
    assert explained == bool(problem)


def test_automatic_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", bool)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", "yes".isalpha)
    assert resolve_device("auto") == "cuda"


def test_gpu_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", bool)
    message = "train.device=cuda asks for a GPU, but PyTorch sees none.*use train.device=cpu"
    with pytest.raises(ValueError, match=message):
        resolve_device("cuda")


def test_gpu_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", "yes".isalpha)
    monkeypatch.setattr(torch.cuda, "device_count", "x".__len__)
    assert resolve_device("cuda:0") == "cuda:0"
    with pytest.raises(ValueError, match=r"cuda:1 is not there: this machine has 1 GPU\(s\)"):
        resolve_device("cuda:1")


def test_unknown_device() -> None:
    with pytest.raises(ValueError, match="must be auto, cpu or cuda, got 'gpu'"):
        resolve_device("gpu")


def test_processor_by_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t: Some CPU: 3 GHz\nmodel name\t: Other\n")
    monkeypatch.setattr("piip_d2.engine.environment._CPU_INFO", file)
    assert device_name("cpu") == device_name(torch.device("cpu")) == "Some CPU: 3 GHz"
    file.write_text("Features : fp asimd\n")
    assert device_name("cpu") == (platform.processor() or platform.machine())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert device_name("cuda:1") == "GPU 1"


def test_set_up_prepares_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    cfg = toy_config(folder, "train.seed=-1", "train.device=auto")
    cfg.train.float32_matmul_precision = "high"
    text = set_up_run(cfg)
    assert cfg.train.seed >= 0
    assert f"seed: {cfg.train.seed}" in text
    # Before all is checked, the folder may hold that of an earlier run.
    assert not (folder / "config.yaml").exists()
    assert cfg.train.device in ("cpu", "cuda")
    assert torch.get_float32_matmul_precision() == "high"
    logging.getLogger("piip_d2.engine").warning("seen")
    log = (folder / "log.txt").read_text()
    assert "compiled operators" in log and "seen" in log


def test_automatic_device_is_saved_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", "yes".isalpha)
    cfg = toy_config(tmp_path, "train.device=auto")
    save_config(tmp_path, set_up_run(cfg))
    assert cfg.train.device == "cuda"
    # On a machine without a GPU the file must work too.
    assert load_config(str(tmp_path / "config.yaml")).train.device == "auto"


def test_machine_without_the_file_gets_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comm, "is_main_process", bool)

    def gather(own: str) -> list[str]:
        return ["text of the main process", own]

    monkeypatch.setattr(comm, "all_gather", gather)
    text = set_up_run(toy_config(tmp_path / "here"))
    assert text == "text of the main process"
    save_config(tmp_path / "here", text)
    assert not (tmp_path / "here" / "config.yaml").exists()


def test_preset_in_use_is_told(tmp_path: Path) -> None:
    set_up_run(toy_config(tmp_path, "train.preset=one_gpu"))
    assert "settings of the preset one_gpu are in use" in (tmp_path / "log.txt").read_text()


def test_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"train.output_dir must be a folder, got .*/file is a fi"):
        set_up_run(toy_config(tmp_path / "file" / "runs"))

    def refuse(self: Path, **options: bool) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    # As below /proc, where even root makes no folders.
    with pytest.raises(ValueError, match="can be made, got .*/new: No such file or directory$"):
        set_up_run(toy_config(tmp_path / "new"))


def test_device_is_put_back_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(cfg: DictConfig) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("piip_d2.engine.environment.config_as_yaml", fail)
    cfg = toy_config(tmp_path, "train.device=auto")
    with pytest.raises(OSError, match="disk full"):
        set_up_run(cfg)
    assert cfg.train.device in ("cpu", "cuda")

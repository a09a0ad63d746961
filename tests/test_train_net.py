"""The training script, from its command line."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import piip_d2
from piip_d2 import Predictor
from piip_d2.data import register_coco_json
from tests.engine.runs import CONFIG as TOY
from tests.engine.runs import undone_process_state
from tests.engine.toys import ToyEvaluator

if TYPE_CHECKING:
    from tests.conftest import TinyCoco

ROOT = Path(__file__).resolve().parent.parent
QUICK = "configs/quick/mask_rcnn_scenes.py"
RANDOM = ["train.tta.enabled=True", "train.init_checkpoint="]


@pytest.fixture(autouse=True)
def _undone_process_state() -> Iterator[None]:
    with undone_process_state():
        yield


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Runs the script in this process, which has done the imports."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train_net.py", *arguments])
    runpy.run_path("train_net.py", run_name="__main__")


def _losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [line["total_loss"] for line in lines if "total_loss" in line]


def _piip_arguments(data: TinyCoco, folder: Path) -> list[str]:
    """A small PIIP with every option that touches the training step, on four tiny images."""
    return [
        f"data.train={data.json_file}",
        f"data.val={data.json_file}",
        f"data.images={data.image_root}",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        "train.max_iter=4",
        "train.checkpointer.period=2",
        "train.log_period=1",
        "train.ema.enabled=True",
        "train.accumulate=2",
        "train.activation_checkpointing=True",
        f"train.output_dir={folder}",
    ]


def test_version_describes_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(monkeypatch, "--version")
    screen = capsys.readouterr().out
    assert f"piip_d2 {piip_d2.__version__}" in screen
    assert "PyTorch" in screen


def test_trains_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(monkeypatch, "--config-file", TOY, "--num-gpus", "0", f"train.output_dir={tmp_path}")
    names = {path.name for path in tmp_path.iterdir()}
    expected = {"config.yaml", "log.txt", "metrics.json", "results.json", "last_checkpoint"}
    assert expected | {"model_final.pth", "model_best.pth"} <= names
    results = json.loads((tmp_path / "results.json").read_text())
    # The evaluation alone leaves alone what the training wrote.
    evaluation = tmp_path / "evaluation"
    # In this very process the log of the training is still open.
    saved = [path for path in tmp_path.iterdir() if path.is_file() and path.name != "log.txt"]
    contents = {path.name: path.read_bytes() for path in saved}
    capsys.readouterr()
    _run(
        monkeypatch,
        "--config-file",
        str(tmp_path / "config.yaml"),
        "--eval-only",
        f"train.init_checkpoint={tmp_path}/model_final.pth",
        "train.ema.evaluate=model",
    )
    assert {path.name: path.read_bytes() for path in saved} == contents
    assert {"config.yaml", "log.txt"} <= {path.name for path in evaluation.iterdir()}
    assert "evaluate: model" in (evaluation / "config.yaml").read_text()
    repeated = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    # Time and memory are measured anew.
    assert set(repeated.pop("inference")) == set(results.pop("inference"))
    assert repeated == results
    assert "copypaste: Task: bbox" in capsys.readouterr().out


def test_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--config-file", TOY, "--resume", f"train.output_dir={tmp_path}"]
    _run(monkeypatch, *arguments, "train.max_iter=8")
    _run(monkeypatch, *arguments, "train.max_iter=12")
    assert len(_losses(tmp_path)) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "nowhere.py"], "error: the config file nowhere.py does not exist"),
        (["--config-file", "quick/mask_rcnn_scene"], "did you mean quick/mask_rcnn_scenes or"),
        (["--config-file", TOY, "tarin.max_iter=2"], "did you mean train.max_iter"),
        (["--config-file", TOY, "train.max_iter=2", "--resume"], "must stand before all key=val"),
        (["--config-file", TOY, "train.amp.dtype=int8", "train.amp.enabled=True"], "amp.dtype mus"),
        (["--config-file", TOY, "--num-machines", "2"], "--num-machines > 1 needs --dist-url"),
        (["--config-file", TOY, "train.init_checkpoint=x.pth"], "checkpoint x.pth does not exist"),
        (["--config-file", TOY, "train.max_iter=abc"], "'train.max_iter' must be a number"),
        (["--config-file", TOY, "--eval-only"], "error: there are no weights, as train.init_check"),
        (["--config-file", TOY, "--eval-only", "train.tta.scales=[a]", *RANDOM], "factors above 0"),
        (["--config-file", TOY, "model.fail_from=1"], "loss_box': nan} are not finite at iter"),
    ],
)
def test_mistake_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ending:
        _run(monkeypatch, *arguments, f"train.output_dir={tmp_path}")
    assert str(ending.value.code).startswith("error: ")
    assert message in str(ending.value.code)
    assert "\n" not in str(ending.value.code)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_that_cannot_be_loaded_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_coco: TinyCoco, num_workers: int
) -> None:
    broken = tmp_path / "images"
    broken.mkdir()
    for path in Path(tiny_coco.image_root).iterdir():
        (broken / path.name).write_bytes(b"no image")
    with pytest.raises(SystemExit) as ending:
        _run(
            monkeypatch,
            *["--config-file", QUICK, "--num-gpus", "0"],
            *_piip_arguments(tiny_coco, tmp_path / "run"),
            f"data.images={broken}",
            f"dataloader.train.num_workers={num_workers}",
        )
    message = str(ending.value.code)
    assert message.startswith("error: training needs images that can be read, but 20 drawn")
    assert "\n" not in message
    assert "Traceback" in (tmp_path / "run" / "log.txt").read_text()


def test_several_processes_for_one_gpu_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", "yes".isalpha)
    with pytest.raises(SystemExit, match="error: train.device=cuda:0 is one GPU, but 8 processes"):
        _run(monkeypatch, "--config-file", TOY, "--num-gpus", "8", "train.device=cuda:0")


def test_ctrl_c_shows_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: ToyEvaluator) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ToyEvaluator, "evaluate", interrupted)
    with pytest.raises(SystemExit, match="Ended by Ctrl-C"):
        _run(monkeypatch, "--config-file", TOY, f"train.output_dir={tmp_path}")
    assert (tmp_path / "model_final.pth").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_where_there_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="train.device=cuda asks for a GPU, but PyTorch sees"):
        _run(monkeypatch, "--config-file", TOY, "train.device=cuda", f"train.output_dir={tmp_path}")
    # How it came to that is in the log for those who want to know.
    assert "Traceback" in (tmp_path / "log.txt").read_text()


def test_data_of_other_classes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_coco: TinyCoco
) -> None:
    register_coco_json("train_net_test", tiny_coco.json_file, tiny_coco.image_root)
    arguments = ["--config-file", QUICK, "--num-gpus", "0", f"train.output_dir={tmp_path}"]
    # Only the names are changed, and not the number of classes.
    names = [f"dataloader.{split}.dataset.names=train_net_test" for split in ("train", "test")]
    message = "data have 2 classes .*red.*but model.roi_heads.num_classes is 4; give the data as"
    with pytest.raises(SystemExit, match=message):
        _run(monkeypatch, *arguments, *names)


def test_piip_resumes_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_coco: TinyCoco
) -> None:
    arguments = ["--config-file", QUICK, "--num-gpus", "0"]
    _run(monkeypatch, *arguments, *_piip_arguments(tiny_coco, tmp_path))
    whole = _losses(tmp_path)
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    metadata = final["metadata"]
    assert metadata["class_names"] == ["red", "blue"]
    assert metadata["channel_order"] == "RGB"
    assert len(metadata["resolutions"]) == 3
    for name in ("model_0000003.pth", "model_final.pth"):
        (tmp_path / name).unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    _run(monkeypatch, *arguments, "--resume", *_piip_arguments(tiny_coco, tmp_path))
    assert _losses(tmp_path) == whole
    resumed = torch.load(tmp_path / "model_final.pth", weights_only=True)
    for name, weight in final["ema"]["weights"].items():
        assert torch.equal(weight, resumed["ema"]["weights"][name]), name


def test_moved_run_works_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_coco: TinyCoco
) -> None:
    options = [*_piip_arguments(tiny_coco, tmp_path), "train.max_iter=1"]
    arguments = ["--config-file", QUICK, "--num-gpus", "0", *options]
    _run(monkeypatch, *arguments, "train.seed=7")
    config = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(SystemExit, match="checkpointer.period must be at least 1"):
        _run(monkeypatch, *arguments, "train.checkpointer.period=0")
    assert (tmp_path / "config.yaml").read_bytes() == config
    assert not (tmp_path / "earlier_run").exists()
    # Another model, whose config would not fit the weights of the first.
    _run(monkeypatch, *arguments, "model.roi_heads.box_head.fc_dims=[64,256]")
    aside = tmp_path / "earlier_run"
    assert (aside / "config.yaml").read_bytes() == config
    for folder in (aside, tmp_path):
        predictor = Predictor(folder / "config.yaml", folder / "model_best.pth", device="cpu")
        assert predictor.class_names == ["red", "blue"]
    resumed = ["--resume", "--config-file", f"{aside}/config.yaml", "--num-gpus", "0"]
    _run(monkeypatch, *resumed, f"train.output_dir={aside}", "train.max_iter=2")
    assert len(_losses(aside)) == 2
    assert len(_losses(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["--num-gpus 2", "torchrun"])
def test_piip_on_two_cpu_processes(tmp_path: Path, tiny_coco: TinyCoco, launcher: str) -> None:
    command = [sys.executable]
    if launcher == "torchrun":
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["train_net.py", "--config-file", QUICK]
    if launcher != "torchrun":
        command += launcher.split()
    command += _piip_arguments(tiny_coco, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(_losses(tmp_path)) == 4
    assert "Process 2 of 2 on cpu" in (tmp_path / "log.txt.rank1").read_text()


@pytest.mark.slow
def test_published_config_starts_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_coco: TinyCoco
) -> None:
    config = "configs/mask_rcnn/piip_tsb_1120_896_448_1x.py"
    small = ["train.max_iter=2", "dataloader.train.total_batch_size=1", "train.accumulate=1"]
    arguments = _piip_arguments(tiny_coco, tmp_path)
    _run(monkeypatch, "--config-file", config, "--num-gpus", "0", *arguments, *small)
    assert len(_losses(tmp_path)) == 2

"""Several processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils import comm

from piip_d2.engine import processes
from piip_d2.engine.processes import launch
from tests.engine.runs import metric_lines, run_toy, run_toy_in_two_processes

_OVERRIDES = ["train.accumulate=2", "train.ema.enabled=True", "train.clip_grad.enabled=True"]


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def test_two_processes_share_the_work_of_one(tmp_path: Path) -> None:
    run_toy_in_two_processes(tmp_path / "two", *_OVERRIDES, "model.dropout=0")
    # Batches of 2 are normalised alike if one process takes four of them in turn.
    one = ["dataloader.train.total_batch_size=2", "train.accumulate=4", "model.dropout=0"]
    run_toy(tmp_path / "one", *_OVERRIDES, *one)
    ours, theirs = (
        _load(tmp_path / name / "model_0000003.pth")["model"] for name in ("two", "one")
    )
    for name in ("body.0.weight", "body.1.weight", "head.weight", "head.bias"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    norms = [
        [line.get("grad_norm") for line in metric_lines(tmp_path / name)] for name in ("two", "one")
    ]
    assert norms[0][:6] == pytest.approx(norms[1][:6], rel=1e-4)


def test_two_processes_resume_to_the_bit(tmp_path: Path) -> None:
    run_toy_in_two_processes(tmp_path, *_OVERRIDES)
    whole = _load(tmp_path / "model_final.pth")
    lines = metric_lines(tmp_path)
    for name in ("model_0000011.pth", "model_final.pth"):
        (tmp_path / name).unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000007.pth")
    run_toy_in_two_processes(tmp_path, *_OVERRIDES, resume=True)
    resumed = _load(tmp_path / "model_final.pth")
    assert json.dumps(metric_lines(tmp_path)) == json.dumps(lines)
    for name, weight in whole["model"].items():
        assert torch.equal(weight, resumed["model"][name]), name
    for name, weight in whole["ema"]["weights"].items():
        assert torch.equal(weight, resumed["ema"]["weights"][name]), name


def _note_rank(folder: str) -> None:
    Path(folder, f"{comm.get_local_rank()}_of_{comm.get_world_size()}").write_text("")


def _fail() -> None:
    raise SystemExit("error: a sentence")


@pytest.mark.skipif(torch.cuda.is_available(), reason="starts processes on the CPU")
def test_processes_are_started_where_there_is_no_gpu(tmp_path: Path) -> None:
    launch(_note_rank, 2, args=(str(tmp_path),))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0_of_2", "1_of_2"]


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_one_process_is_this_one(tmp_path: Path, num_gpus: int) -> None:
    launch(_note_rank, num_gpus, args=(str(tmp_path),))
    assert [path.name for path in tmp_path.iterdir()] == ["0_of_1"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="starts processes on the CPU")
def test_failure_in_a_process_ends_all_without_a_traceback() -> None:
    with pytest.raises(SystemExit) as ending:
        launch(_fail, 2)
    assert ending.value.code == 1


def _pretend_gpus(monkeypatch: pytest.MonkeyPatch, gpus: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", "yes".isalpha)
    monkeypatch.setattr(torch.cuda, "device_count", gpus.__len__)


def _pretend_torchrun(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    names = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    for name, value in (names | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}).items():
        monkeypatch.setenv(name, str(value))


def test_more_processes_of_torchrun_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpus(monkeypatch, "x")
    _pretend_torchrun(monkeypatch, 2)
    message = "torchrun --nproc-per-node 2 asks for more GPUs than the 1 there are"
    with pytest.raises(ValueError, match=message):
        launch(_fail, 1)


@pytest.mark.parametrize("torchrun", [True, False])
def test_one_gpu_for_several_processes(monkeypatch: pytest.MonkeyPatch, torchrun: bool) -> None:
    _pretend_gpus(monkeypatch, "eight...")
    if torchrun:
        _pretend_torchrun(monkeypatch, 8)
    with pytest.raises(ValueError, match="train.device=cuda:0 is one GPU, but 8 processes need"):
        launch(_fail, 8, device="cuda:0")


def _note_backend(folder: str) -> None:
    backend = torch.distributed.get_backend()
    Path(folder, f"{backend}_{comm.get_local_rank()}").write_text("")


def test_cpu_processes_on_a_machine_with_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend_gpus(monkeypatch, "x")
    seen = []

    def start(main: object, *rest: object, **options: object) -> None:
        seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(processes, "start_processes", start)
    launch(_fail, 2, device="cpu")
    # The processes see no GPU, which lets Detectron2 take Gloo; this one still does.
    assert seen == [""]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    _pretend_torchrun(monkeypatch, 1)
    launch(_note_backend, 1, device="cpu", args=(str(tmp_path),))
    assert [path.name for path in tmp_path.iterdir()] == ["gloo_0"]


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_gpus(monkeypatch, "x")
    with pytest.raises(ValueError, match="--num-gpus 2 asks for more GPUs than the 1 there are"):
        launch(_fail, 2)


def test_several_machines_need_an_address() -> None:
    with pytest.raises(ValueError, match="--num-machines > 1 needs --dist-url tcp://"):
        launch(_fail, 1, num_machines=2)

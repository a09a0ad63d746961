"""Fully sharded training equals training in one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from piip_d2.engine import evaluate_checkpoint, set_up_run
from tests.conftest import TinyCoco
from tests.engine.runs import (
    Job,
    metric_lines,
    run,
    run_in_processes,
    run_toy,
    run_toy_in_two_processes,
    toy_config,
)

STRUCTURE = "configs/quick/mask_rcnn_h6b_structure_scenes.py"
_SHARDED = ("train.fsdp.enabled=True", "train.fsdp.param_dtype=fp32")
_COMMON = (
    "train.ema.enabled=True",
    "train.clip_grad.enabled=True",
    "train.eval_period=4",
    "train.checkpointer.max_to_keep=2",
    "model.dropout=0.3",
)
_TWO = (*_COMMON, *_SHARDED, "train.accumulate=2")
# Two processes draw what one draws that averages their batches in turn.
_ONE = (*_COMMON, "train.accumulate=4", "dataloader.train.total_batch_size=2")


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def _assert_same_weights(one: Path, other: Path, *, rtol: float, atol: float) -> None:
    ours, theirs = _load(one), _load(other)
    pairs = [(ours["model"], theirs["model"])]
    pairs += [(ours["ema"]["weights"], theirs["ema"]["weights"])] if "ema" in theirs else []
    for weights, expected in pairs:
        assert list(weights) == list(expected)
        for name, weight in expected.items():
            # What stands before a normalisation has no gradient but for rounding, and running
            # averages are each process's own.
            if "running" not in name and "num_batches" not in name and name != "body.0.bias":
                torch.testing.assert_close(weights[name], weight, rtol=rtol, atol=atol, msg=name)


def _assert_same_losses(one: Path, other: Path, *, rel: float) -> None:
    ours, theirs = (
        [line["total_loss"] for line in metric_lines(folder) if "total_loss" in line]
        for folder in (one, other)
    )
    assert len(ours) == len(theirs) > 0
    assert ours == pytest.approx(theirs, rel=rel)


def _forget_checkpoints_behind(folder: Path, name: str) -> None:
    """Leaves a folder as a killed run would have left it."""
    for path in folder.glob("model_*"):
        if path.name > name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "last_checkpoint").write_text(name)


@pytest.fixture(scope="module")
def sharded_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of the toy: thrice sharded, and once with copies of it."""
    root = tmp_path_factory.mktemp("sharded")
    copies = ["train.ddp.bf16_compression=True", "train.ddp.static_graph=True"]
    jobs = [Job(root / "first", _TWO), Job(root / "again", _TWO)]
    jobs.append(Job(root / "copies", [*_COMMON, *copies, "train.accumulate=2"]))
    sparing = ["train.fsdp.cpu_offload=True", "train.fsdp.exchange_every_batch=False"]
    jobs.append(Job(root / "sparing", [*_TWO, *sparing]))
    run_in_processes(2, *jobs)
    run_toy(root / "one", *_ONE)
    return root


def test_two_processes_equal_one(sharded_runs: Path) -> None:
    two, one = sharded_runs / "first", sharded_runs / "one"
    _assert_same_losses(two, one, rel=1e-6)
    _assert_same_weights(two / "model_final.pth", one / "model_final.pth", rtol=1e-5, atol=1e-6)
    norms = [[line["grad_norm"] for line in metric_lines(path)[:12]] for path in (two, one)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_two_processes_repeat_to_the_bit(sharded_runs: Path) -> None:
    first, again = sharded_runs / "first", sharded_runs / "again"
    assert json.dumps(metric_lines(first)) == json.dumps(metric_lines(again))
    _assert_same_weights(first / "model_final.pth", again / "model_final.pth", rtol=0, atol=0)


def test_shares_kept_on_the_host_and_gradients_exchanged_once(sharded_runs: Path) -> None:
    sparing, one = sharded_runs / "sparing", sharded_runs / "one"
    _assert_same_losses(sparing, one, rel=1e-6)
    _assert_same_weights(sparing / "model_final.pth", one / "model_final.pth", rtol=1e-5, atol=1e-6)


def test_copies_of_the_model_with_compressed_gradients(sharded_runs: Path) -> None:
    # bfloat16 has 8 bits, and Adam turns small gradients into large steps.
    _assert_same_losses(sharded_runs / "copies", sharded_runs / "one", rel=5e-2)


def test_folder_of_a_sharded_run(sharded_runs: Path) -> None:
    folder = sharded_runs / "first"
    checkpoints = sorted(path.name for path in folder.glob("model_*"))
    # The first periodic one made room for the others.
    assert checkpoints == [
        "model_0000007",
        "model_0000011",
        "model_best.pth",
        "model_final",
        "model_final.pth",
    ]
    assert (folder / "last_checkpoint").read_text() == "model_final"
    assert _load(folder / "model_best.pth")["best"]["metric"] == "bbox/AP"


def test_final_weights_are_evaluated_in_one_process(sharded_runs: Path, tmp_path: Path) -> None:
    final = sharded_runs / "first" / "model_final.pth"
    cfg = toy_config(tmp_path, *_TWO, f"train.init_checkpoint={final}")
    results = evaluate_checkpoint(cfg, set_up_run(cfg))
    in_training = json.loads((sharded_runs / "first" / "results.json").read_text())
    assert results["bbox"]["AP"] == pytest.approx(in_training["bbox"]["AP"], rel=1e-5)


def test_one_process_goes_on_where_two_ended(sharded_runs: Path, tmp_path: Path) -> None:
    whole = sharded_runs / "first"
    folder = tmp_path / "resumed"
    shutil.copytree(whole, folder)
    _forget_checkpoints_behind(folder, "model_0000007")
    (folder / ".model_0000011.unfinished").mkdir()
    run_toy(folder, *_ONE, *_SHARDED, resume=True)
    _assert_same_losses(folder, whole, rel=1e-6)
    _assert_same_weights(
        folder / "model_final.pth", whole / "model_final.pth", rtol=1e-5, atol=1e-6
    )
    assert not (folder / ".model_0000011.unfinished").exists()


def test_one_process_resumes_to_the_bit(tmp_path: Path) -> None:
    run_toy(tmp_path, *_ONE, *_SHARDED)
    whole, lines = _load(tmp_path / "model_final.pth"), metric_lines(tmp_path)
    _forget_checkpoints_behind(tmp_path, "model_0000007")
    run_toy(tmp_path, *_ONE, *_SHARDED, resume=True)
    assert json.dumps(metric_lines(tmp_path)) == json.dumps(lines)
    for name, weight in whole["model"].items():
        assert torch.equal(weight, _load(tmp_path / "model_final.pth")["model"][name]), name


def _structure_arguments(data: TinyCoco) -> tuple[str, ...]:
    return (
        f"data.train={data.json_file}",
        f"data.val={data.json_file}",
        f"data.images={data.image_root}",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        "train.max_iter=2",
        "train.log_period=1",
        "train.tensorboard=False",
    )


def test_structure_of_the_largest_models(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    arguments = _structure_arguments(tiny_coco)
    two = [*arguments, "dataloader.train.total_batch_size=2"]
    run_in_processes(2, Job(tmp_path / "two", two, config=STRUCTURE))
    one = [*arguments, "dataloader.train.total_batch_size=1", "train.accumulate=2"]
    run(tmp_path / "one", *one, "train.fsdp.enabled=False", config=STRUCTURE)
    _assert_same_losses(tmp_path / "two", tmp_path / "one", rel=1e-6)
    found, expected = (
        json.loads((tmp_path / name / "results.json").read_text())["bbox"]["AP"]
        for name in ("two", "one")
    )
    assert found == pytest.approx(expected, rel=1e-3)
    assert found > 0


@pytest.mark.slow
def test_structure_of_the_largest_models_in_bf16(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    two = [*_structure_arguments(tiny_coco), "dataloader.train.total_batch_size=2"]
    bf16 = [*two, "train.fsdp.param_dtype=bf16", "train.fsdp.reshard_after_forward=False"]
    jobs = [Job(tmp_path / "fp32", two, config=STRUCTURE)]
    run_in_processes(2, *jobs, Job(tmp_path / "bf16", bf16, config=STRUCTURE))
    _assert_same_losses(tmp_path / "bf16", tmp_path / "fp32", rel=5e-2)


@pytest.mark.slow
def test_structure_of_the_largest_models_for_50_steps(tiny_coco: TinyCoco, tmp_path: Path) -> None:
    arguments = [*_structure_arguments(tiny_coco), "train.max_iter=50"]
    size = "dataloader.train.total_batch_size"
    run(
        tmp_path / "one",
        *arguments,
        *(f"{size}=2", "train.accumulate=4", "train.fsdp.enabled=False"),
        config=STRUCTURE,
    )
    two = [*arguments, f"{size}=4", "train.accumulate=2"]
    jobs = [Job(tmp_path / name, two, config=STRUCTURE) for name in ("two", "again")]
    run_in_processes(2, *jobs)
    run_in_processes(4, Job(tmp_path / "four", [*arguments, f"{size}=8"], config=STRUCTURE))
    assert json.dumps(metric_lines(tmp_path / "two")) == json.dumps(
        metric_lines(tmp_path / "again")
    )
    for name in ("two", "four"):
        first, expected = (metric_lines(tmp_path / run)[0]["total_loss"] for run in (name, "one"))
        assert first == pytest.approx(expected, rel=1e-6)
        _assert_same_losses(tmp_path / name, tmp_path / "one", rel=1e-3)


@pytest.mark.slow
def test_two_then_one_then_four_processes(sharded_runs: Path, tmp_path: Path) -> None:
    whole = sharded_runs / "first"
    folder = tmp_path / "resumed"
    shutil.copytree(whole, folder)
    _forget_checkpoints_behind(folder, "model_0000003")
    shutil.rmtree(folder / "model_0000003", ignore_errors=True)
    (folder / "last_checkpoint").unlink()
    run_toy_in_two_processes(folder, *_TWO)
    _forget_checkpoints_behind(folder, "model_0000003")
    run_toy(folder, *_ONE, *_SHARDED, resume=True)
    _forget_checkpoints_behind(folder, "model_0000007")
    four = [*_COMMON, *_SHARDED, "dataloader.train.total_batch_size=8"]
    run_in_processes(4, Job(folder, four, resume=True))
    _assert_same_losses(folder, whole, rel=1e-6)
    _assert_same_weights(
        folder / "model_final.pth", whole / "model_final.pth", rtol=1e-5, atol=1e-6
    )

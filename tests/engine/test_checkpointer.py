"""Checkpoints: whole, checked, and of the right model."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from piip_d2.engine.checkpointer import (
    AtomicCheckpointer,
    BestWeightsCheckpointer,
    CheckpointReadError,
    CheckpointSaveError,
)
from piip_d2.engine.ema import ExponentialMovingAverage


class _Counter:
    """Something to save beside the model."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def state_dict(self) -> dict[str, int]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.value = state["value"]


def _model(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))


def _filled(value: float) -> nn.Module:
    model = _model()
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def _value(model: nn.Module) -> float:
    return model[0].weight[0, 0].item()


def _two_checkpoints(folder: Path) -> None:
    """Checkpoints of iterations 3 and 7, whose weights are those numbers."""
    for iteration in (3, 7):
        checkpointer = AtomicCheckpointer(
            _filled(iteration), str(folder), trainer=_Counter(iteration)
        )
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        os.utime(folder / f"model_{iteration:07d}.pth", (iteration, iteration))


def _fresh(folder: Path) -> AtomicCheckpointer:
    return AtomicCheckpointer(_model(), str(folder), trainer=_Counter())


def test_resume_restores_everything(tmp_path: Path) -> None:
    saving = AtomicCheckpointer(_filled(4.0), str(tmp_path), trainer=_Counter(9))
    saving.metadata = {"class_names": ["tree"]}
    saving.save("model_0000004", iteration=4)
    loading = _fresh(tmp_path)
    rest = loading.resume()
    assert rest is not None and rest["metadata"] == {"class_names": ["tree"]}
    assert _value(loading.model) == 4.0
    assert loading.checkpointables["trainer"].value == 9


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert _fresh(tmp_path).resume() is None


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip_a_bit(path: Path) -> None:
    # The weights are all 7: PyTorch by itself would load a changed one without a word.
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((6,), 7.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip_a_bit, _remove])
def test_resume_falls_back_to_the_checkpoint_before(tmp_path: Path, damage: Any) -> None:
    _two_checkpoints(tmp_path)
    damage(tmp_path / "model_0000007.pth")
    loading = _fresh(tmp_path)
    rest = loading.resume()
    assert rest is not None and rest["iteration"] == 3
    assert _value(loading.model) == 3.0


def test_resume_without_any_readable_checkpoint(tmp_path: Path) -> None:
    _two_checkpoints(tmp_path)
    for path in tmp_path.glob("*.pth"):
        _truncate(path)
    with pytest.raises(CheckpointReadError, match="none of the 2 checkpoints .* can be read"):
        _fresh(tmp_path).resume()


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip_a_bit])
def test_damaged_weights_are_refused(tmp_path: Path, damage: Any) -> None:
    _two_checkpoints(tmp_path)
    path = tmp_path / "model_0000007.pth"
    damage(path)
    checkpointer = AtomicCheckpointer(model := _filled(1.0))
    with pytest.raises(CheckpointReadError, match=f"checkpoint {path} (is damaged|cannot be read)"):
        checkpointer.load_for("initialize", str(path))
    assert _value(model) == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, r"has no weights by name.*it holds \['epoch'\]"),
        ([1, 2], "has no weights by name.*list"),
        ({"model": {"note": "text"}}, r"has no weights by name.*\['model'\]"),
        ({"model": _model}, "cannot be read: .*holds more than tensors"),
    ],
)
def test_file_that_is_no_checkpoint(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointReadError, match=message):
        AtomicCheckpointer(_model()).load_for("initialize", str(tmp_path / "file.pth"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointReadError, match="nowhere.pth does not exist"):
        AtomicCheckpointer(_model()).load_for("initialize", str(tmp_path / "nowhere.pth"))


@pytest.mark.parametrize("wrapper", ["plain", "model", "state_dict", "module."])
def test_ways_to_wrap_weights(tmp_path: Path, wrapper: str) -> None:
    weights: dict[str, Any] = dict(_filled(6.0).state_dict())
    if wrapper == "module.":
        weights = {f"module.{name}": value for name, value in weights.items()}
    elif wrapper != "plain":
        weights = {wrapper: weights, "meta": {"epoch": 12}}
    torch.save(weights, tmp_path / "file.pth")
    checkpointer = AtomicCheckpointer(_model())
    checkpointer.load_for("evaluate", str(tmp_path / "file.pth"))
    assert _value(checkpointer.model) == 6.0


@pytest.mark.parametrize("purpose", ["initialize", "evaluate"])
def test_weights_of_another_model_are_refused(tmp_path: Path, purpose: Any) -> None:
    torch.save({"state_dict": {"backbone.branch1.w": torch.ones(1)}}, tmp_path / "file.pth")
    message = (
        "none of the 1 weights .*has backbone.branch1.w; the model has 0.weight, 0.bias.*"
        "tools/convert_checkpoint"
    )
    with pytest.raises(ValueError, match=message):
        AtomicCheckpointer(_model()).load_for(purpose, str(tmp_path / "file.pth"))


def test_initializing_takes_what_fits(tmp_path: Path) -> None:
    weights = _filled(6.0).state_dict() | {"1.weight": torch.ones(2, 3), "more": torch.ones(1)}
    torch.save(weights, tmp_path / "file.pth")
    checkpointer = AtomicCheckpointer(_model())
    checkpointer.load_for("initialize", str(tmp_path / "file.pth"))
    assert _value(checkpointer.model) == 6.0


def test_evaluation_wants_every_parameter(tmp_path: Path) -> None:
    weights = _filled(6.0).state_dict() | {"1.weight": torch.ones(2, 3)}
    torch.save(weights, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="leaves 1 of 4 parameters untrained.*1.weight"):
        AtomicCheckpointer(_model()).load_for("evaluate", str(tmp_path / "file.pth"))


def test_resumption_wants_the_same_model(tmp_path: Path) -> None:
    _two_checkpoints(tmp_path)
    loading = AtomicCheckpointer(_model(width=4), str(tmp_path), trainer=_Counter())
    message = (
        "of another model than the one to resume.*0.weight.*start without --resume or move the "
        f"folder {tmp_path} away"
    )
    with pytest.raises(ValueError, match=message):
        loading.resume()
    assert loading.checkpointables["trainer"].value == 0


@pytest.mark.parametrize(("prefer_average", "expected"), [(True, 2.0), (False, 6.0)])
def test_moving_average_is_preferred(tmp_path: Path, prefer_average: bool, expected: float) -> None:
    ema = ExponentialMovingAverage(_filled(2.0))
    AtomicCheckpointer(_filled(6.0), str(tmp_path), ema=ema).save("model_final")
    checkpointer = AtomicCheckpointer(_model())
    path = str(tmp_path / "model_final.pth")
    checkpointer.load_for("initialize", path, prefer_average=prefer_average)
    assert _value(checkpointer.model) == expected


def test_resumption_takes_the_weights_themselves(tmp_path: Path) -> None:
    ema = ExponentialMovingAverage(_filled(2.0))
    AtomicCheckpointer(_filled(6.0), str(tmp_path), ema=ema).save("model_final")
    model = _model()
    average = ExponentialMovingAverage(model)
    AtomicCheckpointer(model, str(tmp_path), ema=average).resume()
    assert _value(model) == 6.0
    assert average.weights["0.weight"][0, 0].item() == 2.0


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _two_checkpoints(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = (
        "cannot save .*model_0000011.pth .*No space left on device; .* MiB are free.*"
        "the checkpoint before it, .*model_0000007.pth, is intact"
    )
    with pytest.raises(CheckpointSaveError, match=message):
        _fresh(tmp_path).save("model_0000011")
    monkeypatch.undo()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"last_checkpoint", "model_0000003.pth", "model_0000007.pth"}
    rest = _fresh(tmp_path).resume()
    assert rest is not None and rest["iteration"] == 7


def test_best_weights_are_those_evaluated_and_nothing_else(tmp_path: Path) -> None:
    model = _filled(6.0)
    ema = ExponentialMovingAverage(_filled(2.0))
    best = BestWeightsCheckpointer(model, str(tmp_path), ema)
    assert best.saved_value("model_best", "bbox/AP") is None
    best.save_best("model_best", "bbox/AP", 41.5, 7)
    saved = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert set(saved) == {"model", "metadata", "best"}
    assert saved["model"]["0.weight"][0, 0].item() == 2.0
    assert best.saved_value("model_best", "bbox/AP") == (41.5, 7)
    assert best.saved_value("model_best", "segm/AP") is None
    assert not best.has_checkpoint()


def test_damaged_best_weights_do_not_stop_a_resumption(tmp_path: Path) -> None:
    best = BestWeightsCheckpointer(_model(), str(tmp_path), None)
    best.save_best("model_best", "bbox/AP", 41.5, 7)
    _truncate(tmp_path / "model_best.pth")
    assert best.saved_value("model_best", "bbox/AP") is None

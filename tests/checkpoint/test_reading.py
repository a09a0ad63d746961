"""Checkpoints of foreign formats, and ones that are elsewhere."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from piip_d2.checkpoint.reading import read_checkpoint
from piip_d2.engine.checkpointer import AtomicCheckpointer, CheckpointReadError


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def _weights() -> dict[str, Any]:
    """Weights of the model which are all 6."""
    return {name: torch.full_like(value, 6.0) for name, value in _model().state_dict().items()}


def _pickle(path: Path, weights: dict[str, Any], **extra: Any) -> str:
    arrays = {name: value.numpy() for name, value in weights.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"} | extra))
    return str(path)


def _foreign(folder: Path, kind: str, weights: dict[str, Any]) -> str:
    """A file whose names Detectron2 matches by similarity."""
    if kind == "pth":
        torch.save(weights, folder / "file.pth")
        return f"{folder}/file.pth?matching_heuristics=True"
    return _pickle(folder / "file.pkl", weights, matching_heuristics=True)


@pytest.mark.parametrize("kind", ["pkl", "pth"])
@pytest.mark.parametrize("purpose", ["initialize", "evaluate"])
def test_foreign_weights_are_checked_too(tmp_path: Path, kind: str, purpose: Any) -> None:
    path = _foreign(tmp_path, kind, {"zebra.w": torch.ones(1), "lion.w": torch.ones(1)})
    with pytest.raises(ValueError, match="none of the 2 weights .*has zebra.w, lion.w; the model"):
        AtomicCheckpointer(_model()).load_for(purpose, path)


@pytest.mark.parametrize("kind", ["pkl", "pth"])
def test_foreign_weights_that_fit_by_similar_names(tmp_path: Path, kind: str) -> None:
    # Detectron2 takes names for the same of which one is the end of the other.
    weights = {name: value for name, value in _weights().items() if name[0] == "0"}
    path = _foreign(tmp_path, kind, weights)
    checkpointer = AtomicCheckpointer(nn.ModuleDict({"body": _model()}))
    checkpointer.load_for("initialize", path)
    assert checkpointer.model["body"][0].weight[0, 0] == 6.0
    with pytest.raises(ValueError, match="leaves 2 of 4 parameters untrained.*body.1.weight"):
        checkpointer.load_for("evaluate", path)


def test_pickle_of_the_model_zoo(tmp_path: Path) -> None:
    checkpointer = AtomicCheckpointer(_model())
    path = _pickle(tmp_path / "file.pkl", _weights())
    checkpointer.load_for("evaluate", path)
    assert checkpointer.model[0].weight[0, 0] == 6.0


@pytest.mark.parametrize(("end", "content"), [(-20, None), (0, None), (None, [1, 2])])
def test_pickle_that_cannot_be_used(tmp_path: Path, end: int | None, content: Any) -> None:
    path = Path(_pickle(tmp_path / "file.pkl", _weights()))
    path.write_bytes(pickle.dumps(content) if content else path.read_bytes()[:end])
    with pytest.raises(CheckpointReadError, match=f"the checkpoint {path} cannot be read: it is"):
        AtomicCheckpointer(_model()).load_for("initialize", str(path))


def test_address_that_cannot_be_reached() -> None:
    # Nothing listens at this port.
    address = "http://127.0.0.1:9/model.pth"
    message = f"the checkpoint {address} cannot be fetched: .*refused"
    with pytest.raises(CheckpointReadError, match=message):
        AtomicCheckpointer(_model()).load_for("initialize", address)


def test_file_without_check_sums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": _weights()}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    read = read_checkpoint(str(path))["model"]
    torch.testing.assert_close(read, _weights())

"""Files of other programs: containers, and what is wrong with some files."""

from __future__ import annotations

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from piip_d2.checkpoint.foreign_files import (
    find_checkpoint,
    read_foreign_checkpoint,
    read_foreign_detector,
)
from piip_d2.checkpoint.pickled_names import imported_names
from piip_d2.checkpoint.reading import CheckpointReadError, check_archive

WEIGHTS = {"backbone.w1": torch.ones(()), "neck.bias": torch.zeros(300)}


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("was_run",)


def save(folder: Path, contents: Any, **options: Any) -> Path:
    torch.save(contents, folder / "file.pth", **options)
    return folder / "file.pth"


@pytest.mark.parametrize(
    "contents",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "meta": {"epoch": 12, "seed": np.int64(3)}},
        {"module": WEIGHTS, "ds_config": {"bf16": {"enabled": True}}},
        {"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)},
        {"state_dict": {f"module.{name}": x for name, x in WEIGHTS.items()}},
        {"state_dict": WEIGHTS, "model": {"other": torch.ones(1)}},
        {"model": "vit", "module": WEIGHTS},
    ],
)
@pytest.mark.parametrize("is_zip", [True, False])
def test_containers(tmp_path: Path, contents: Any, is_zip: bool) -> None:
    path = save(tmp_path, contents, _use_new_zipfile_serialization=is_zip)
    weights = read_foreign_checkpoint(path)
    assert list(weights) == list(WEIGHTS)
    assert weights["neck.bias"].shape == (300,)
    check_archive(str(path))


@pytest.mark.parametrize("contents", [{"state_dict": {"a": 1}}, {"optimizer": {}}, [1, 2]])
def test_no_weights(tmp_path: Path, contents: Any) -> None:
    with pytest.raises(CheckpointReadError, match="has no weights by name.* it holds "):
        read_foreign_checkpoint(save(tmp_path, contents))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["zip", "old", 2, 4])
def test_code_is_not_run(tmp_path: Path, kind: str | int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {"state_dict": WEIGHTS, "meta": Code()}
    if isinstance(kind, int):
        path = tmp_path / "file.pth"
        path.write_bytes(pickle.dumps(contents["meta"], protocol=kind))
    else:
        path = save(tmp_path, contents, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointReadError, match="asks for posix.mkdir .*--unsafe"):
        read_foreign_checkpoint(path)
    assert not Path("was_run").exists()


def test_code_is_run_if_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path, {"state_dict": WEIGHTS, "meta": Code()})
    assert list(read_foreign_checkpoint(path, unsafe=True)) == list(WEIGHTS)
    assert Path("was_run").is_dir()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_plain_pickles_are_read_if_asked_for(
    tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pkl"
    # A second time there would be such a folder.
    path.write_bytes(pickle.dumps({"state_dict": WEIGHTS, "meta": Code()}, protocol=protocol))
    assert list(read_foreign_checkpoint(path, unsafe=True)) == list(WEIGHTS)
    assert Path("was_run").is_dir()


def test_what_is_no_pickle_at_all_wants_no_code(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_text("<html>Not found</html>")
    with pytest.raises(CheckpointReadError, match="cannot be read: it is truncated"):
        read_foreign_checkpoint(path, unsafe=True)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_first_harmful_name_is_said(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "file.pkl"
    # The names of the second function's module and of the first value are only referred to.
    contents = OrderedDict(posix=argparse.Namespace(lr=0.1), **WEIGHTS, meta=Code())
    path.write_bytes(pickle.dumps(contents, protocol=protocol))
    names = imported_names(path)
    assert names[0] == "collections.OrderedDict"
    assert names[-1] == "posix.mkdir"
    with pytest.raises(CheckpointReadError, match="asks for posix.mkdir"):
        read_foreign_checkpoint(path)


@pytest.mark.parametrize("config", ["model = dict()", ""])
def test_configuration_of_the_training(tmp_path: Path, config: str) -> None:
    path = save(tmp_path, {"state_dict": WEIGHTS, "meta": {"config": config}})
    assert read_foreign_detector(path).config == config
    assert read_foreign_detector(save(tmp_path, {"state_dict": WEIGHTS})).config == ""


@pytest.mark.parametrize("size", [0, 100, 900])
def test_truncated(tmp_path: Path, size: int) -> None:
    path = save(tmp_path, {"state_dict": WEIGHTS})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointReadError, match="cannot be read: it is truncated") as caught:
        read_foreign_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_text("<html>Not found</html>")
    with pytest.raises(CheckpointReadError, match="not in PyTorch's format"):
        read_foreign_checkpoint(path)


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    path = save(tmp_path, {"state_dict": WEIGHTS})
    contents = path.read_bytes()
    place = contents.index(bytes(1200))
    path.write_bytes(contents[:place] + b"\1" + contents[place + 1 :])
    with pytest.raises(CheckpointReadError, match="is damaged in"):
        check_archive(str(path))


def test_files_are_found(tmp_path: Path) -> None:
    path = save(tmp_path, WEIGHTS)
    assert find_checkpoint(str(path)) == path
    with pytest.raises(CheckpointReadError, match=r"other\.pth does not exist"):
        find_checkpoint(str(tmp_path / "other.pth"))
    with pytest.raises(CheckpointReadError, match="cannot be fetched"):
        find_checkpoint("catalog://NoSuchModel")


def test_folders_of_deepspeed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointReadError, match="holds no mp_rank_00_model_states.pt"):
        find_checkpoint(str(tmp_path))
    inner = tmp_path / "global_step7"
    inner.mkdir()
    file = inner / "mp_rank_00_model_states.pt"
    torch.save({"module": WEIGHTS}, file)
    assert find_checkpoint(str(inner)) == file
    (tmp_path / "latest").write_text("global_step7")
    assert find_checkpoint(str(tmp_path)) == file

"""Files with weights of single networks, of many forms and in many states."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler
from safetensors.torch import save_file
from torch import Tensor

from piip_d2.checkpoint.weight_files import read_weights

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def _check(found: dict[str, Tensor]) -> None:
    assert list(found) == list(WEIGHTS)
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS, "epoch": 3},
        {"state_dict": WEIGHTS, "args": argparse.Namespace(lr=0.1, name="tiny")},
        {"module": WEIGHTS},
        {"model": {"state_dict": WEIGHTS}},
        {**WEIGHTS, "version": 2},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappings(content: Any, zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "weights.any"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    _check(read_weights(str(file)))


def test_safetensors_under_any_name(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    save_file(WEIGHTS, str(file))
    _check(read_weights(str(file)))


def test_addresses_of_detectron2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.pth"
    torch.save(WEIGHTS, file)

    class Cupboard(PathHandler):
        def _get_supported_prefixes(self) -> list[str]:
            return ["cupboard://"]

        def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
            return str(tmp_path / path.removeprefix("cupboard://"))

    monkeypatch.setattr(PathManager, "_path_handlers", dict(PathManager._path_handlers))
    PathManager.register_handler(Cupboard())
    _check(read_weights("cupboard://weights.pth"))


def test_address_that_cannot_be_reached() -> None:
    # Nothing listens at this port.
    address = "http://127.0.0.1:9/weights.pth"
    with pytest.raises(ValueError, match=f"{address} cannot be fetched: .*refused"):
        read_weights(address)


def test_address_of_no_kind() -> None:
    with pytest.raises(ValueError, match="the checkpoint nothing://a does not exist"):
        read_weights("nothing://a")


def test_names_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    network = timm.create_model("vit_tiny_patch16_224", embed_dim=32, depth=1, num_heads=1)

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> torch.nn.Module:
        assert (name, pretrained, num_classes) == ("vit_tiny.some_tag", True, 0)
        return network

    monkeypatch.setattr(timm, "create_model", create_model)
    found = read_weights("timm://vit_tiny.some_tag")
    assert list(found) == list(network.state_dict())


@pytest.mark.parametrize("name", ["vit_nonsense", "vit_tiny_patch16_224.no_such_tag"])
def test_names_that_timm_does_not_know(name: str) -> None:
    with pytest.raises(ValueError, match=f"timm gives no weights for the name '{name}': .+"):
        read_weights(f"timm://{name}")


@pytest.mark.parametrize("end", [0, 5, 40, -30])
@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
def test_truncated_file(end: int, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    if kind == "safetensors":
        save_file(WEIGHTS, str(file))
    else:
        torch.save(WEIGHTS, file, _use_new_zipfile_serialization=kind == "zip")
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(ValueError, match=f"the checkpoint {file} cannot be read: it is trunc"):
        read_weights(str(file))


def test_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.full((64,), 7.0)}, file)
    content = file.read_bytes()
    assert torch.full((64,), 7.0).numpy().tobytes() in content
    file.write_bytes(content.replace(torch.full((9,), 7.0).numpy().tobytes(), bytes(36), 1))
    with pytest.raises(ValueError, match="is damaged in "):
        read_weights(str(file))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**WEIGHTS, "c": _Code()}, "weights.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="could be harmful code"):
        read_weights("weights.pth")
    assert not Path("ran").exists()


def test_plain_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.pth").write_bytes(pickle.dumps(_Code()))
    with pytest.raises(ValueError, match="could be harmful code"):
        read_weights("weights.pth")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "seen"),
    [({"epoch": 3}, r"\['epoch'\]"), ([1, 2], "list"), ({"model": {}}, "model")],
)
def test_file_without_weights(content: Any, seen: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(content, file)
    with pytest.raises(ValueError, match=f"has no weights by name.*it holds .*{seen}"):
        read_weights(str(file))

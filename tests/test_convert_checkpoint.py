"""The tool that converts checkpoints, from its command line."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoint.detectors.foreign import as_detrex
from tests.engine.runs import undone_process_state

ROOT = Path(__file__).resolve().parent.parent
CONFIG = str(ROOT / "tests" / "engine" / "conversion" / "official_config.py")


@pytest.fixture(autouse=True)
def _undone_process_state() -> Iterator[None]:
    with undone_process_state():
        yield


@pytest.fixture(scope="module")
def tool() -> Any:
    return runpy.run_path(str(ROOT / "tools" / "convert_checkpoint.py"))["main"]


def test_way_back_and_there_again(
    tmp_path: Path, tool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from detectron2.config import LazyConfig, instantiate

    model = instantiate(LazyConfig.load(CONFIG).model)
    own, official, again = (tmp_path / name for name in ("own.pth", "official.pth", "again.pth"))
    torch.save({"model": model.state_dict()}, own)
    common = ["--config", CONFIG, "train.max_iter=3"]
    assert tool([str(own), *common, "--output", str(official), "--to-official"]) == 0
    assert tool([str(official), *common, "--output", str(again)]) == 0
    assert f"Wrote {again}" in capsys.readouterr().out
    converted = torch.load(again, weights_only=True)["model"]
    assert all(torch.equal(converted[name], x) for name, x in model.state_dict().items())


def test_what_does_not_fit_is_said_last(
    tmp_path: Path, tool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.ones(1)}}, tmp_path / "other.pth")
    output = tmp_path / "ours.pth"
    assert tool([str(tmp_path / "other.pth"), "--config", CONFIG, "--output", str(output)]) == 1
    text = capsys.readouterr().err
    assert "unexpected         1" in text
    assert text.splitlines()[-1].startswith("error: these are no weights of a detector of")
    assert not output.exists()


@pytest.mark.parametrize(
    ("source", "config", "message"),
    [
        ("nowhere.pth", CONFIG, "the checkpoint nowhere.pth does not exist"),
        (__file__, "nowhere.py", "the config file nowhere.py does not exist"),
        (__file__, CONFIG, "not in PyTorch's format"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    tool: Any,
    capsys: pytest.CaptureFixture[str],
    source: str,
    config: str,
    message: str,
) -> None:
    assert tool([source, "--config", config, "--output", str(tmp_path / "ours.pth")]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error:")]
    assert message in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("merge=single_conv", "error: the reference merges by"),
        ("directions=cycle", 'error: the reference has names for directions="adjacent" alone'),
        ("with_ffn=False", "error: the reference has no interactions without ConvFFNs"),
    ],
)
def test_no_way_back_is_one_sentence(
    tmp_path: Path, tool: Any, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    arguments = [__file__, "--config", CONFIG, "--output", str(tmp_path / "official.pth")]
    assert tool([*arguments, "--to-official", f"+model.backbone.bottom_up.{change}"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(message)
    assert not list(tmp_path.iterdir())


def test_dino_of_another_program(
    tmp_path: Path, tool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from detectron2.config import LazyConfig, instantiate

    config = str(ROOT / "tests" / "engine" / "conversion" / "resnet_dino_config.py")
    biased = "model.backbone.bias=True"
    model = instantiate(LazyConfig.apply_overrides(LazyConfig.load(config), [biased]).model)
    torch.save({"model": as_detrex(model.state_dict())}, tmp_path / "detrex.pth")
    output = str(tmp_path / "ours.pth")
    arguments = [str(tmp_path / "detrex.pth"), "--config", config, "--output", output]

    assert tool(arguments) == 1
    assert "give model.backbone.bias=True (" in capsys.readouterr().err.splitlines()[-1]
    assert tool([*arguments, biased, "--names", "mmdet3"]) == 1
    assert "unexpected" in capsys.readouterr().err
    assert tool([*arguments, biased]) == 0
    remark, written = capsys.readouterr().out.splitlines()[-2:]
    assert remark.startswith("remark: networks of detrex encode positions with the temperature")
    assert written == f"Wrote {output}"
    assert torch.load(output, weights_only=True)["metadata"]["converted_from"] == "detrex.pth"


def test_usage(tool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tool(["file.pth"])
    assert caught.value.code == 2
    assert "--config" in capsys.readouterr().err

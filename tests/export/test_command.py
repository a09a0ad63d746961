"""tools/export_model.py"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from piip_d2.export import Difference, Exported
from tests.export.small import small_dino
from tools import export_model


@pytest.fixture(autouse=True)
def _small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(config: str, checkpoint: str, **options: Any) -> SimpleNamespace:
        assert (config, checkpoint) == ("dino.py", "dino.pth")
        assert options == {"device": "cpu", "overrides": ["a=1"]}
        return SimpleNamespace(model=small_dino(), class_names=["ä", "b", "c"])

    monkeypatch.setattr(export_model, "Predictor", load)
    # Its messages would stand in the output among the results.
    monkeypatch.setattr(export_model, "setup_logger", lambda name: None)


def run(output: Path, *options: str) -> int:
    return export_model.main(
        ["--config-file", "dino.py", "--checkpoint", "dino.pth", "--image-size", "64", "96"]
        + ["--output", str(output), *options, "--opts", "a=1"]
    )


def test_backbone_is_written_compared_and_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "backbone.pt2"
    assert run(output, "--time", "1") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"Wrote {output}"
    assert [line.split(" differs")[0] for line in printed[1:3]] == ["64 x 96: p3", "64 x 96: p4"]
    assert printed[3].startswith("Median of 1 runs: file ")


def test_file_that_differs_is_kept_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(exported: Exported) -> list[Difference]:
        close = Difference("p3", (64, 96), 1e-5, 2.0)
        return [close, dataclasses.replace(close, name="p4", largest=1e-3)]

    monkeypatch.setattr(export_model, "compare", compare)
    output = tmp_path / "backbone.pt2"
    assert run(output) == 1
    printed = capsys.readouterr()
    assert "p4 differs by at most 1.0e-03 (values up to 2)" in printed.out
    assert printed.err.startswith(f"export_model.py: {output} is there, but it computes something")
    assert output.exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("folder/model.onnx", [], "--output must lie in a folder that there is"),
        ("model.pth", [], "must end in .onnx or .pt2 (torch.export), got"),
        ("model.onnx", ["--part", "detector", "--dynamic"], "--dynamic is for --part backbone"),
        ("model.onnx", ["--opset", "11"], "opset must be 18 or higher, got 11"),
    ],
)
def test_refusals(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: list[str],
    message: str,
) -> None:
    assert run(tmp_path / name, *options) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("export_model.py: ") and message in printed
    assert not (tmp_path / name).exists()

"""``tools/estimate_memory.py``."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.analysis.small import CONFIG

ROOT = Path(__file__).resolve().parents[3]
SMALL = ("--config-file", CONFIG, "--image-size", "128", "128", "--batch-size", "1")


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(ROOT)
    main = runpy.run_path(str(ROOT / "tools" / "estimate_memory.py"))["main"]
    return lambda *arguments: main(arguments)


def test_json_says_what_was_asked(
    predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--precision", "fp32", "--strategy", "fsdp", "--world-size", "2", "--json")
    assert predict(*SMALL, *options, "--activation-checkpointing", "stage") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["image_size"], found["batch_size"], found["dtype"]) == ([128, 128], 1, "float32")
    assert found["total"] == sum(found["fixed"].values()) + max(found["phases"].values())
    assert set(found["phases"]) == {"forward", "backward", "update"}


def test_table_of_detection(
    predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(*SMALL, "--mode", "inference") == 0
    text = capsys.readouterr().out
    assert "inference, 1 x 128 x 128 pixels" in text and "total per process" in text
    assert "optimizer" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "configs/missing.py"], "does not exist"),
        ([*SMALL, "--strategy", "single", "--world-size", "2"], "2 processes need the strategy"),
        ([*SMALL, "--opts", "model.unknown=1"], "unknown config key"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    message: str,
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict(*arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("estimate_memory.py: ") and message in error[-1]

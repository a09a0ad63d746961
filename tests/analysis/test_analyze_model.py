"""``tools/analyze_model.py``."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.analysis.small import CONFIG

ROOT = Path(__file__).resolve().parents[2]
TSB = "configs/mask_rcnn/piip_tsb_1120_896_448_1x.py"


@pytest.fixture
def analyze(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(ROOT)
    main = runpy.run_path(str(ROOT / "tools" / "analyze_model.py"))["main"]
    return lambda *arguments: main(arguments)


def test_published_numbers_come_out(
    analyze: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--resolutions", "1568", "1120", "672")
    options = ("--convention", "paper", "--format", "json")
    assert analyze("--config-file", TSB, *sizes, *options) == 0
    paper = json.loads(capsys.readouterr().out)["paper"]
    assert (paper["params"], paper["flops"]) == (148_774_891, 453_253_935_360)


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_all_conventions_in_a_file(
    form: str, analyze: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "costs"
    arguments = ("--config-file", CONFIG, "--format", form, "--output", str(output))
    assert analyze(*arguments, "--image-size", "200", "256") == 0
    assert not capsys.readouterr().out
    document = output.read_text()
    for word in ("paper", "released_script", "actual", "mask_head", "not defined", "ConvStem"):
        assert word in document
    assert ("256 x 256" if form != "json" else '"flops": ') in document


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "configs/missing.py"], "does not exist"),
        (["--config-file", CONFIG, "--convention", "paper"], "with ConvStem"),
        (["--config-file", CONFIG, "--resolutions", "64", "128", "256"], "largest first"),
        (["--config-file", CONFIG, "--opts", "model.unknown=1"], "unknown config key"),
        (["--config-file", CONFIG, "--output", "configs"], "must be a file, got the folder"),
        (
            ["--config-file", CONFIG, "--opts", "model.backbone.bottom_up.merge=none"],
            "one single branch",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    message: str,
    analyze: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert analyze(*arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("analyze_model.py: ") and message in error[-1]


@pytest.mark.parametrize(
    ("output", "message"),
    [("missing/costs.txt", "must lie in a folder that there is"), (".", "got the folder")],
)
def test_the_output_is_looked_at_before_counting(
    output: str,
    message: str,
    analyze: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The configuration is not there either, which would be noticed when it is built.
    assert analyze("--config-file", "configs/missing.py", "--output", output) == 1
    assert message in capsys.readouterr().err


def test_wrong_arguments_end_with_two(
    analyze: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        analyze("--config-file", CONFIG, "--convention", "theirs")
    assert stop.value.code == 2
    assert "invalid choice" in capsys.readouterr().err

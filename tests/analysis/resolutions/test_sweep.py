"""A sweep with random weights on a few pictures."""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from detectron2.config import instantiate

from piip_d2.analysis.resolutions import Sweep, SweepSettings, as_markdown, front_of, sweep
from piip_d2.analysis.resolutions.measure import in_own_process
from piip_d2.engine import load_config
from tests.analysis.small import CONFIG

if TYPE_CHECKING:
    from tests.conftest import TinyCoco

ROOT = Path(__file__).resolve().parents[3]
TRAINED = (128, 64, 32)
SMALLER = (64, 32, 16)
METRICS = ("bbox/AP", "segm/AP")


@pytest.fixture
def overrides(tiny_coco: TinyCoco) -> tuple[str, ...]:
    sizes = [
        f"model.backbone.bottom_up.branches.{number}.img_size={side}"
        for number, side in enumerate(TRAINED)
    ]
    return (
        *sizes,
        *(
            f"dataloader.test.mapper.augmentations.0.{key}=128"
            for key in ("max_size", "short_edge_length")
        ),
        f"data.val={tiny_coco.json_file}",
        f"data.images={tiny_coco.image_root}",
        "dataloader.test.num_workers=0",
        "model.roi_heads.num_classes=2",
        # Random heads find something everywhere.
        "model.roi_heads.box_predictor.test_score_thresh=0.0",
    )


@pytest.fixture
def settings(overrides: tuple[str, ...], tmp_path: Path) -> SweepSettings:
    model = instantiate(load_config(CONFIG, overrides).model)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    return SweepSettings(
        config_file=CONFIG,
        checkpoint=str(tmp_path / "model.pth"),
        overrides=overrides,
        device="cpu",
        num_images=3,
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measures within this process; names of the functions that were called."""
    calls: list[str] = []

    def here(work: Any, *arguments: Any) -> Any:
        calls.append(work.__name__)
        return work(*arguments)

    monkeypatch.setattr(sweep, "in_own_process", here)
    return calls


@pytest.fixture
def tool() -> ModuleType:
    """The script, loaded by its path: Detectron2 brings a package "tools" of its own."""
    path = ROOT / "tools" / "sweep_resolutions.py"
    spec = importlib.util.spec_from_file_location("tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_sweep_is_measured_once(settings: SweepSettings, tmp_path: Path, measured: list[str]):
    first = Sweep(settings, tmp_path / "out")
    assert first.trained == TRAINED
    (point,) = first.run([TRAINED])
    assert point["is_trained"]
    assert max(point["cost"]["image_size"]) == 128
    low, high = point["cost"]["quartiles_s"]
    assert 0 < low <= point["cost"]["median_s"] <= high
    assert point["cost"]["peak_memory"] > 0
    assert set(METRICS) <= set(point["metrics"])
    # Another process goes on where this one ended.
    again = Sweep(settings, tmp_path / "out")
    points = again.run([SMALLER, TRAINED])
    assert measured == ["measure_cost", "measure_accuracy"] * 2
    assert [point["resolutions"] for point in points] == [list(SMALLER), list(TRAINED)]
    assert json.dumps(points[1]) == json.dumps(point)
    Sweep(settings, tmp_path / "out").run([TRAINED], renew_costs=True)
    assert measured[4:] == ["measure_cost"]
    smaller, larger = (point["cost"]["multiply_adds"] for point in points)
    assert smaller < larger


def test_what_was_measured_survives_an_interruption(
    settings: SweepSettings, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
):
    def fail(point: Any) -> None:
        raise KeyboardInterrupt

    accuracy = sweep.measure_accuracy
    monkeypatch.setattr(sweep, "measure_accuracy", fail)
    with pytest.raises(KeyboardInterrupt):
        Sweep(settings, tmp_path / "out").run([TRAINED])
    monkeypatch.setattr(sweep, "measure_accuracy", accuracy)
    Sweep(settings, tmp_path / "out").run([TRAINED])
    assert measured == ["measure_cost", "fail", "measure_accuracy"]


def test_other_settings_need_another_folder(
    settings: SweepSettings, tmp_path: Path, measured: list[str]
):
    Sweep(settings, tmp_path / "out").run([TRAINED])
    torch.save({"model": {}}, settings.checkpoint)
    with pytest.raises(ValueError, match=r"same settings .* differs in checkpoint_sha256"):
        Sweep(settings, tmp_path / "out")


def test_mistakes_show_before_anything_is_measured(
    settings: SweepSettings, tmp_path: Path, measured: list[str]
):
    with pytest.raises(ValueError, match="one side in pixels for each of the 3 branches"):
        Sweep(settings, tmp_path).run([TRAINED, (64, 32)])
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere\.pth'"):
        Sweep(SweepSettings(CONFIG, "nowhere.pth"), tmp_path)
    with pytest.raises(ValueError, match="at least 1 image must be timed, got 0"):
        Sweep(SweepSettings(CONFIG, settings.checkpoint, num_images=0), tmp_path)
    assert measured == []


def _point(sides: tuple[int, ...], ms: float, value: float | None) -> dict[str, Any]:
    cost = {"median_s": ms / 1e3, "quartiles_s": (ms / 1e3, ms / 1e3), "peak_memory": 3 * 2**20}
    return {
        "resolutions": list(sides),
        "is_trained": sides == TRAINED,
        "metrics": {"bbox/AP": value},
        "cost": {**cost, "multiply_adds": 2_000_000_000},
    }


def test_table():
    points = [_point(TRAINED, 20.0, 40.0), _point((96, 64, 32), 30.0, 35.0)]
    points.append(_point(SMALLER, 10.0, 30.0))
    assert front_of(points, "bbox/AP") == [True, False, True]
    rows = as_markdown(points, ["bbox/AP"]).splitlines()[2:]
    assert rows == [
        "| 64 / 32 / 16 | 30.0 | 10.0 | 10.0 to 10.0 | 3 | 2.0 | yes |",
        "| 128 / 64 / 32 (trained) | 40.0 | 20.0 | 20.0 to 20.0 | 3 | 2.0 | yes |",
        "| 96 / 64 / 32 | 35.0 | 30.0 | 30.0 to 30.0 | 3 | 2.0 |  |",
    ]
    with pytest.raises(ValueError, match="the metric must be one of bbox/AP, got 'AP'"):
        front_of(points, "AP")


def test_what_finds_nothing_is_off_the_front():
    points = [_point(TRAINED, 20.0, 40.0), _point(SMALLER, 10.0, None)]
    assert front_of(points, "bbox/AP") == [True, False]
    assert "| 64 / 32 / 16 | – | 10.0 |" in as_markdown(points, ["bbox/AP"])
    # Nor does anything else have a front then.
    assert front_of(points[1:], "bbox/AP") == [False]


def test_a_wrong_metric_is_said_at_the_first_point(
    settings: SweepSettings, tmp_path: Path, measured: list[str]
):
    with pytest.raises(ValueError, match="the metric must be one of"):
        Sweep(settings, tmp_path).run([TRAINED, SMALLER], metric="AP")
    assert len(measured) == 2


def test_tool(
    tool: ModuleType,
    settings: SweepSettings,
    tmp_path: Path,
    measured: list[str],
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    words = ["--config-file", CONFIG, "--checkpoint", settings.checkpoint, "--output", str(out)]
    words += ["--num-images", "2", "--device", "cpu", "--resolutions", "128,64,32"]
    assert tool.main([*words, "64,64,32", "--grid", "--opts", *settings.overrides]) == 0
    assert "| 128 / 64 / 32 (trained) |" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        *("sweep.json", "sweep.md", "pareto.png", "points")
    }
    assert tool.main([*words, "64,x"]) == 1
    assert "sweep_resolutions.py: resolutions must be" in capsys.readouterr().err
    num_measured = len(measured)
    words[words.index(str(out))] = str(out / "sweep.md")
    assert tool.main([*words, "--opts", *settings.overrides]) == 1
    assert "--output must be a folder" in capsys.readouterr().err
    assert len(measured) == num_measured


def test_tool_says_that_a_process_was_ended(
    tool: ModuleType,
    settings: SweepSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def end(*_: Any, **__: Any) -> None:
        raise BrokenProcessPool("a process in the pool was terminated abruptly")

    monkeypatch.setattr(sweep, "in_own_process", end)
    words = ["--config-file", CONFIG, "--checkpoint", settings.checkpoint, "--device", "cpu"]
    words += ["--output", str(tmp_path), "--resolutions", "128,64,32", "--num-images", "2"]
    assert tool.main([*words, "--opts", *settings.overrides]) == 1
    assert "the process of a point was ended" in capsys.readouterr().err


@pytest.mark.slow
def test_every_measurement_has_a_process_of_its_own(settings: SweepSettings, tmp_path: Path):
    (point,) = Sweep(settings, tmp_path / "out").run([SMALLER])
    assert point["cost"]["num_images"] == 3
    assert set(METRICS) <= set(point["metrics"])
    assert in_own_process(_process) != in_own_process(_process)


def _process() -> str:
    # Numbers of processes come again; their start does not.
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]

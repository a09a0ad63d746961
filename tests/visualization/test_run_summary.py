"""What a finished run shows: its table, its pictures and where their images come from."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image

from piip_d2.data import register_coco_json
from piip_d2.engine import AtomicCheckpointer, load_config
from piip_d2.visualization.run_summary import (
    choose_evenly,
    describe_sources,
    find_checkpoint,
    summarize_run,
    tabulate_results,
)
from piip_d2.visualization.training import draw_training

if TYPE_CHECKING:
    from tests.conftest import TinyCoco

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(Path(__file__).with_name("small_config.py"))
DATASET = "dataloader.test.dataset.names=small_summary_test"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, loaded by its path: Detectron2 brings a package "tools" of its own."""
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / "summarize_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "setup_logger", lambda name: None)
    return module


@pytest.fixture
def cfg(tiny_coco: TinyCoco) -> DictConfig:
    register_coco_json("small_summary_test", tiny_coco.json_file, tiny_coco.image_root)
    return load_config(CONFIG, [DATASET])


@pytest.fixture
def run_dir(cfg: DictConfig, tmp_path: Path) -> Path:
    """A folder as a run leaves it, with random weights and invented metrics."""
    folder = tmp_path / "my_run"
    folder.mkdir()
    torch.manual_seed(1)
    for name in ("model_best", "model_final"):
        AtomicCheckpointer(instantiate(cfg.model), str(folder)).save(name)
    lines = [
        {"iteration": 9, "total_loss": 2.0, "bbox/AP": 31.5, "bbox/AP50": 50.25},
        {"iteration": 19, "total_loss": 1.0, "bbox/AP": 30.5, "bbox/AP50": 55.0},
    ]
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    results = {"bbox": {"AP": 30.5, "AP50": 55.0, "APl": None}, "other": {"AP": 1.0}}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def _row(table: str, name: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_best_weights_with_their_own_evaluation(cfg: DictConfig, run_dir: Path) -> None:
    summary = summarize_run(cfg, run_dir, num_images=3, threshold=0.0, device="cpu")
    assert summary.checkpoint.name == "model_best.pth"
    assert _row(summary.table, "box") == ["31.5", "50.2", "-", "-", "-", "-"]
    for picture in (summary.contact_sheet, summary.curves):
        with Image.open(picture) as opened:
            assert opened.format == "PNG" and min(opened.size) > 400
    assert summary.contact_sheet.parent == run_dir
    assert "001.png" in summary.sources.read_text()


def test_curves_say_where_their_numbers_come_from(
    cfg: DictConfig, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(run_dirs: list[Path]) -> Figure:
        drawn.append(draw_training(run_dirs))
        return drawn[0]

    monkeypatch.setattr("piip_d2.visualization.run_summary.draw_training", draw)
    summarize_run(cfg, run_dir, num_images=1, device="cpu")
    texts = " ".join(text.get_text() for text in drawn[0].texts)
    assert "as the run wrote them to metrics.json" in " ".join(texts.split())


def test_sheet_calls_own_data_by_their_file(
    cfg: DictConfig, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg.data = {"val": "somewhere/my_val.json"}
    seen = []

    def draw(*args: Any, subtitle: str, **rest: Any) -> Figure:
        seen.append(subtitle)
        return Figure()

    monkeypatch.setattr("piip_d2.visualization.run_summary.draw_contact_sheet", draw)
    summarize_run(cfg, run_dir, num_images=1, device="cpu")
    assert " images of my_val.json, evenly spaced" in seen[0]


def test_final_weights_with_the_last_evaluation(cfg: DictConfig, run_dir: Path) -> None:
    (run_dir / "model_best.pth").unlink()
    summary = summarize_run(cfg, run_dir, num_images=1, device="cpu")
    assert summary.checkpoint.name == "model_final.pth"
    assert _row(summary.table, "box") == ["30.5", "55.0", "-", "-", "-", "-"]


def test_evaluates_where_nothing_is_written_down(
    cfg: DictConfig, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run_dir / "metrics.json").unlink()
    (run_dir / "results.json").unlink()
    summary = summarize_run(cfg, run_dir, num_images=1, device="cpu")
    assert summary.curves is None
    written = json.loads((run_dir / "results.json").read_text())
    assert _row(summary.table, "box")[0] == f"{written['bbox']['AP']:.1f}"


def test_evaluation_of_a_run_killed_before_its_first(
    cfg: DictConfig, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config is that of the command line: device and seed are not resolved in it."""
    (run_dir / "results.json").unlink()
    for name in ("model_best", "model_final"):
        (run_dir / f"{name}.pth").rename(run_dir / "model_0000009.pth")
    (run_dir / "last_checkpoint").write_text("model_0000009.pth")
    cfg.train.device, cfg.train.seed = "auto", -1
    before = copy.deepcopy(cfg)
    summary = summarize_run(cfg, run_dir, num_images=1, device="cpu")
    assert summary.checkpoint.name == "model_0000009.pth"
    assert _row(summary.table, "box")
    assert cfg == before
    assert not (run_dir / "config.yaml").exists()

    (run_dir / "results.json").unlink()
    devices = []
    cfg.train.device = "cuda:9"

    def note_device(resolved: DictConfig) -> dict[str, dict[str, float]]:
        devices.append(resolved.train.device)
        return {"bbox": {"AP": 1.0}}

    monkeypatch.setattr("piip_d2.visualization.run_summary.evaluate_checkpoint", note_device)
    summarize_run(cfg, run_dir, num_images=1, device="cpu")
    assert devices == ["cpu"]


def test_test_image_that_the_model_cannot_take_is_not_shown(
    cfg: DictConfig,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = run_dir / "line.png"
    Image.new("RGB", (5000, 1)).save(line)

    def with_line(names: str, filter_empty: bool) -> list[dict[str, object]]:
        return [{"file_name": str(line)}, *DatasetCatalog.get(names)]

    monkeypatch.setattr("piip_d2.visualization.run_summary.get_dataset_dicts", with_line)
    summary = summarize_run(cfg, run_dir, num_images=2, device="cpu")
    assert "line.png is not shown: an image of 5000 x 1 pixels" in caplog.text
    assert "line.png" not in summary.sources.read_text()


def test_unreadable_test_image_is_not_shown(
    cfg: DictConfig,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(logging.getLogger("piip_d2"), "propagate", True)
    broken = run_dir / "broken.png"
    broken.write_bytes(b"nothing")

    def with_broken(names: str, filter_empty: bool) -> list[dict[str, object]]:
        records = list(DatasetCatalog.get(names))
        records[0] = records[0] | {"file_name": str(broken)}
        return records

    monkeypatch.setattr("piip_d2.visualization.run_summary.get_dataset_dicts", with_broken)
    summary = summarize_run(cfg, run_dir, num_images=2, device="cpu")
    assert "not shown: " in caplog.text and "broken.png" in caplog.text
    assert "broken.png" not in summary.sources.read_text()


def test_checkpoint_of_a_stopped_run(tmp_path: Path) -> None:
    (tmp_path / "last_checkpoint").write_text("model_0000099.pth")
    with pytest.raises(FileNotFoundError, match=r"looked for .*model_0000099.pth\); train first"):
        find_checkpoint(tmp_path)
    (tmp_path / "model_0000099.pth").touch()
    assert find_checkpoint(tmp_path).name == "model_0000099.pth"


def test_records_are_chosen_evenly() -> None:
    records = [{"image_id": index} for index in range(10)]
    assert [record["image_id"] for record in choose_evenly(records, 4)] == [0, 2, 5, 7]
    assert choose_evenly(records[:2], 8) == records[:2]


def test_table_of_boxes_and_masks() -> None:
    results = {"segm": {"AP": 12.34, "APs": float("nan")}, "bbox": {"AP": 50.0}}
    table = tabulate_results(results)
    assert table.index("box") < table.index("mask")
    assert _row(table, "mask") == ["12.3", "-", "-", "-", "-", "-"]


def test_sources_are_those_of_the_nearest_folder(tmp_path: Path) -> None:
    for name in ("trees/val/a.png", "trees/val/b.png", "own/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "trees" / "SOURCES.txt").write_text("photographs under MIT\n")
    files = [str(tmp_path / name) for name in ("trees/val/a.png", "own/c.png", "trees/val/b.png")]
    text = describe_sources(files)
    assert "  a.png\n  b.png\n\nphotographs under MIT\n" in text
    assert "  c.png\n\nNo SOURCES.txt lies with these images" in text


def test_tool_prints_table_and_paths(
    tool: ModuleType, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config-file", CONFIG, "--run-dir", str(run_dir), "--num-images", "1"]
    assert tool.main([*arguments, "--opts", DATASET]) == 0
    printed = capsys.readouterr().out
    assert _row(printed, "box")[0] == "31.5"
    for name in ("contact_sheet.png", "contact_sheet_sources.txt", "curves.png"):
        assert str(run_dir / name) in printed


def test_tool_without_a_run(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--run-dir", str(tmp_path)]) == 1
    assert "config.yaml does not exist" in capsys.readouterr().err
    assert tool.main(["--config-file", CONFIG, "--run-dir", str(tmp_path)]) == 1
    assert "there is no checkpoint in" in capsys.readouterr().err

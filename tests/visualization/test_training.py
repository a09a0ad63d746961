"""One run drawn alone, several compared, and which data they were evaluated on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.config import LazyConfig
from matplotlib.axes import Axes

from piip_d2.visualization.training import draw_training, read_test_data, shortest_names

CONFIG = Path(__file__).with_name("small_config.py")


def _run(folder: Path, data: str = "small_test", factor: float = 1.0) -> Path:
    """A folder as a run leaves it, with invented numbers."""
    folder.mkdir(parents=True)
    lines = [
        {"iteration": 9, "total_loss": 4 * factor, "loss_cls": 3 * factor, "lr": 0.1},
        {"iteration": 19, "total_loss": 2 * factor, "loss_cls": 1 * factor, "lr": 0.01},
        {"iteration": 9, "bbox/AP": 30 * factor, "segm/AP": 20 * factor},
        {"iteration": 19, "bbox/AP": 20 * factor, "segm/AP": 10 * factor},
    ]
    lines.sort(key=lambda line: line["iteration"])
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    cfg = LazyConfig.load(str(CONFIG))
    cfg.dataloader.test.dataset.names = data
    LazyConfig.save(cfg, str(folder / "config.yaml"))
    return folder


def _legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_one_run(tmp_path: Path) -> None:
    figure = draw_training([_run(tmp_path / "mine")])
    assert figure.get_suptitle() == "mine: losses, AP and learning rate"
    assert "AP measured here, on small_test." in figure.get_supxlabel().replace("\n", " ")
    assert _legend(figure.axes[0]) == ["cls", "total"]


def test_runs_on_the_same_data(tmp_path: Path) -> None:
    runs = [_run(tmp_path / "one"), _run(tmp_path / "two", factor=0.5)]
    figure = draw_training(runs, title="my comparison")
    loss, rate, boxes, masks = figure.axes
    assert figure.get_suptitle() == "my comparison"
    assert boxes.get_title() == "Box AP on small_test"
    assert masks.get_title() == "Mask AP on small_test"
    assert _legend(loss) == _legend(rate) == ["one", "two"]
    assert _legend(boxes) == ["one (best 30.0, last 20.0)", "two (best 15.0, last 10.0)"]
    assert [line.get_ydata().tolist() for line in loss.lines] == [[4.0, 2.0], [2.0, 1.0]]
    assert loss.lines[0].get_color() == boxes.lines[0].get_color() != loss.lines[1].get_color()
    assert "do not compare" not in figure.get_supxlabel()
    assert "AP measured here, on small_test." in figure.get_supxlabel().replace("\n", " ")
    figure.savefig(tmp_path / "comparison.png")


def test_different_data_are_said_to_be_different(tmp_path: Path) -> None:
    figure = draw_training([_run(tmp_path / "one"), _run(tmp_path / "two", data="other")])
    boxes = figure.axes[2]
    assert boxes.get_title() == "Box AP on DIFFERENT test data"
    assert _legend(boxes)[1] == "two on other (best 30.0, last 20.0)"
    caption = figure.get_supxlabel().replace("\n", " ")
    assert "their AP do not compare: one: small_test; two: other." in caption


def test_no_run_is_left_out_unsaid(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.mkdir()
    lines = [{"iteration": 7, "total_loss": 1.0}, {"iteration": 8, "bbox/AP": 5.0}]
    (short / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    loss, rate, boxes, masks = draw_training([_run(tmp_path / "long"), short]).axes
    assert _legend(loss) == ["long", "short"]
    assert [line.get_marker() for line in loss.lines] == ["o", "o"]
    assert _legend(rate)[1] == _legend(masks)[1] == "short: none in metrics.json"
    assert "short" in _legend(boxes)[1] and loss.lines[1].get_color() == rate.lines[1].get_color()


def test_runs_without_evaluation(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text('{"iteration": 9, "total_loss": 1.0}')
    figure = draw_training([tmp_path / "a", tmp_path / "b"])
    assert [text.get_text() for text in figure.axes[2].texts] == ["no evaluation"]


def test_refusals(tmp_path: Path) -> None:
    run = _run(tmp_path / "one")
    with pytest.raises(ValueError, match="at least one run to draw, got none"):
        draw_training([])
    with pytest.raises(ValueError, match="each run must be named once"):
        draw_training([run, run / ".." / "one"])
    with pytest.raises(FileNotFoundError, match=r"no file .*metrics.json"):
        draw_training([tmp_path])


def test_name_of_the_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_test_data(tmp_path / "config.yaml") == ""
    (tmp_path / "config.yaml").write_text("model: {}")
    assert read_test_data(tmp_path / "config.yaml") == ""
    assert "does not say which test data" in caplog.text
    cfg = LazyConfig.load(str(CONFIG))
    cfg.data = {"val": "somewhere/my_val.json"}
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    assert read_test_data(tmp_path / "config.yaml") == "my_val.json"


def test_names_tell_folders_apart() -> None:
    folders = [Path("/x/a/run"), Path("/x/b/run")]
    assert shortest_names(folders) == ["a/run", "b/run"]
    assert shortest_names(folders[:1]) == ["run"]

"""Curves from metrics.json, of whole, resumed and killed runs."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import matplotlib
import pytest

from piip_d2.visualization.curves import draw_curves, group_losses, read_metrics


def _write(folder: Path, *lines: dict[str, float] | str) -> Path:
    path = folder / "metrics.json"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts))
    return path


def test_series_by_name(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        {"iteration": 9, "total_loss": 2.0, "lr": 0.1},
        {"iteration": 19, "total_loss": 1.0, "lr": 0.1},
        {"iteration": 19, "bbox/AP": 30.0},
    )
    assert read_metrics(path) == {
        "total_loss": [(9, 2.0), (19, 1.0)],
        "lr": [(9, 0.1), (19, 0.1)],
        "bbox/AP": [(19, 30.0)],
    }


def test_resumed_run_replaces_what_it_repeats(tmp_path: Path) -> None:
    steps = (9, 19, 29, 39, 24, 34, 39)
    lines = [{"iteration": step, "total_loss": float(n)} for n, step in enumerate(steps)]
    series = read_metrics(_write(tmp_path, *lines))["total_loss"]
    assert series == [(9, 0.0), (19, 1.0), (24, 4.0), (34, 5.0), (39, 6.0)]


def test_evaluations_behind_later_losses_replace_nothing(tmp_path: Path) -> None:
    lines = [
        {"iteration": 7, "total_loss": 1.5, "lr": 0.1},
        {"iteration": 3, "bbox/AP": 19.0},
        {"iteration": 8, "bbox/AP": 34.0},
    ]
    assert read_metrics(_write(tmp_path, *lines)) == {
        "total_loss": [(7, 1.5)],
        "lr": [(7, 0.1)],
        "bbox/AP": [(3, 19.0), (8, 34.0)],
    }


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    path = _write(tmp_path, '{"iteration": 1, "bbox/AP": NaN, "total_loss": Infinity, "lr": 1}')
    assert read_metrics(path) == {"lr": [(1, 1)]}


def test_broken_lines_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("piip_d2"), "propagate", True)
    path = _write(tmp_path, {"iteration": 1, "lr": 0.5}, "", "[1]", '{"iteration": 2, "l')
    with caplog.at_level(logging.WARNING):
        assert read_metrics(path) == {"lr": [(1, 0.5)]}
    assert "2 unreadable lines" in caplog.text


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file .*metrics.json; train first"):
        read_metrics(tmp_path / "metrics.json")


def test_axes_say_what_they_show(tmp_path: Path) -> None:
    metrics = {
        "total_loss": [(9, 2.0), (19, 1.0)],
        "loss_cls": [(9, 1.5), (19, 0.5)],
        "bbox/AP50": [(9, 40.0), (19, 35.0)],
        "lr": [(9, 0.1), (19, 0.1)],
    }
    figure = draw_curves(metrics, "my run")
    loss, average_precision, rate = figure.axes
    assert figure.get_suptitle() == "my run"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["cls", "total"]
    label = average_precision.get_legend().get_texts()[0].get_text()
    assert label == "box AP50 (best 40.0, last 35.0)"
    assert {axes.get_xlabel() for axes in figure.axes} == {"iteration"}
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "AP in %", "learning rate"]
    assert rate.lines[0].get_ydata().tolist() == [0.1, 0.1]


@pytest.mark.parametrize("last", [1, 2, 8, 260])
def test_all_that_is_drawn_is_in_the_axes(last: int) -> None:
    # The last evaluation belongs to the iteration behind the last losses.
    metrics = {"total_loss": [(last - 1, 2.0)], "bbox/AP": [(last, 0.0)], "lr": [(last - 1, 0.0)]}
    figure = draw_curves(metrics, "short")
    figure.canvas.draw()
    for axes in figure.axes:
        (line,) = axes.lines
        assert line.get_marker() == "o"
        left, right = axes.get_xlim()
        low, high = axes.get_ylim()
        (x, y), *_ = line.get_xydata()
        assert left < 0 <= x <= last < right and low < 0 <= y < high
        ticks = axes.get_xticks()
        assert len(ticks) > 1 and all(tick == round(tick) for tick in ticks)


def test_long_lines_have_no_marks() -> None:
    metrics = {"total_loss": [(step, 1.0) for step in range(11)], "lr": [(0, 0.1), (10, 0.1)]}
    loss, _, rate = draw_curves(metrics, "run").axes
    assert loss.lines[0].get_marker() == "None" and rate.lines[0].get_marker() == "o"


def test_many_losses_are_added_up_by_kind() -> None:
    names = [f"loss_giou{end}" for end in ("", "_0", "_1", "_dn", "_dn_0", "_enc")]
    names += [f"loss_cls_stage{stage}" for stage in range(3)]
    metrics = {name: [(9, 1.0), (19, 0.5)] for name in names}
    metrics["loss_giou_1"] = [(19, 0.25)]
    grouped = group_losses(metrics)
    assert grouped == {
        "cls, sum of 3": [(9, 3.0), (19, 1.5)],
        "giou, sum of 3": [(19, 1.25)],
        "giou_dn, sum of 2": [(9, 2.0), (19, 1.0)],
        "giou_enc": [(9, 1.0), (19, 0.5)],
    }
    few = {name: metrics[name] for name in names[:3]}
    assert list(group_losses(few)) == ["giou", "giou_0", "giou_1"]


def test_weights_beside_their_average() -> None:
    metrics = {"bbox/AP": [(9, 40.0)], "model/bbox/AP": [(9, 35.0)]}
    legend = draw_curves(metrics, "run", caption="a caption").axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "box AP (best 40.0, last 40.0)",
        "box AP, not averaged (best 35.0, last 35.0)",
    ]


def test_missing_metrics_are_said_to_be_missing() -> None:
    figure = draw_curves({}, "empty")
    said = [axes.texts[0].get_text() for axes in figure.axes]
    assert said == [
        "no losses in metrics.json",
        "no evaluation in metrics.json",
        "no learning rate in metrics.json",
    ]


def test_picture_and_backend_of_the_user(tmp_path: Path) -> None:
    backend = matplotlib.rcParams._get_backend_or_none()
    with_pyplot = "matplotlib.pyplot" in sys.modules
    path = tmp_path / "curves.png"
    draw_curves({"total_loss": [(1, 1.0)]}, "run").savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert matplotlib.rcParams._get_backend_or_none() == backend
    assert ("matplotlib.pyplot" in sys.modules) == with_pyplot

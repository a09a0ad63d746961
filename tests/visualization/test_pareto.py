from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from piip_d2.visualization.pareto import ParetoPoint, draw_pareto
from piip_d2.visualization.point_labels import covered_area

POINTS = [
    ParetoPoint("fast", 10.0, (9.0, 12.0), 30.0, is_on_front=True),
    ParetoPoint("beaten", 15.0, (14.0, 15.5), 25.0, is_on_front=False),
    ParetoPoint("usual", 20.0, (20.0, 20.0), 40.0, is_on_front=True, is_marked=True),
]


def test_everything_is_named(tmp_path: Path):
    figure = draw_pareto(POINTS, title="A sweep", accuracy="box AP in %", caption="one machine")
    (axes,) = figure.axes
    assert axes.get_title() == "A sweep"
    assert axes.get_ylabel() == "box AP in %"
    assert "latency" in axes.get_xlabel() and "ms" in axes.get_xlabel()
    assert figure.get_supxlabel() == "one machine"
    assert [text.get_text() for text in axes.texts] == ["fast", "beaten", "usual"]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(legend) == 4
    assert {"on the front", "beaten by another", "as trained"} <= set(legend)
    # The line is the front, from the fastest on.
    line = axes.lines[0]
    assert np.asarray(line.get_xydata()).tolist() == [[10.0, 30.0], [20.0, 40.0]]
    figure.savefig(tmp_path / "pareto.png")
    assert Image.open(tmp_path / "pareto.png").size == (990, 660)


def test_a_point_alone_and_none():
    figure = draw_pareto(POINTS[2:], title="", accuracy="", caption="")
    assert len(figure.axes[0].texts) == 1
    with pytest.raises(ValueError, match="at least one point to draw, got none"):
        draw_pareto([], title="", accuracy="", caption="")


def test_labels_of_a_crowd_do_not_overlap() -> None:
    points = [
        ParetoPoint(
            f"{1024 + 64 * number}/{672 + number}/448",
            100.0 + 1.5 * (number % 5),
            (96.0 + number, 112.0 + number),
            40.0 + 0.1 * number,
            is_on_front=number % 3 == 0,
        )
        for number in range(16)
    ]
    # Something far away, so that the others stand close together.
    points.append(ParetoPoint("far", 300.0, (290.0, 310.0), 60.0, is_on_front=True))
    figure = draw_pareto(points, title="A crowd", accuracy="AP in %", caption="")
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    legend, frame = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert len(boxes) == len(points)
    for first, second in itertools.combinations([*boxes, legend], 2):
        assert covered_area(first.extents, second.extents[None]) == 0
    for box in boxes:
        assert covered_area(box.extents, frame.extents[None]) == pytest.approx(
            box.width * box.height
        )

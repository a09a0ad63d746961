"""AP against costs: what stands on which axes, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.axes import Axes

from piip_d2.visualization.tradeoff import Latency, TradeoffPoint, draw_tradeoff
from piip_d2.visualization.tradeoff_points import COCO, FROM_PAPER, MEASURED


def _latency(median: float, device: str = "one CPU") -> Latency:
    return Latency(median, (0.9 * median, 1.2 * median), "quartiles", device)


def _measured(label: str, accuracy: float, giga: float, **changes: object) -> TradeoffPoint:
    parts = {
        "series": "my run",
        "source": MEASURED,
        "dataset": "my_val",
        "flops": {"actual": 1e9 * giga, "paper": 5e8 * giga},
        "latency": _latency(10 * giga),
    }
    return TradeoffPoint(label=label, accuracy=accuracy, **(parts | changes))


def _published(label: str, accuracy: float, flops: float, series: str = "TSB") -> TradeoffPoint:
    return TradeoffPoint(series, label, FROM_PAPER, COCO, accuracy, {"paper": 1e9 * flops})


def _legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def _caption(figure: object) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def test_data_sets_have_axes_of_their_own(tmp_path: Path) -> None:
    points = [_measured("64/32", 30.0, 2), _published("1120/448", 44.0, 243)]
    figure = draw_tradeoff(points)
    flops, latency, published, unused = figure.axes
    assert figure.get_suptitle() == "Box AP against the cost of one image"
    assert flops.get_title() == latency.get_title() == "my_val: measured here"
    assert published.get_title() == f"{COCO}: published, none measured here"
    assert flops.get_xlabel() == "G multiply-adds of one image (whole detector)"
    assert latency.get_xlabel() == "latency of one image in ms on one CPU"
    assert published.get_xlabel().endswith("(backbone, counted as in the paper)")
    assert flops.get_ylabel() == "Box AP in % on my_val"
    assert published.get_ylabel() == f"Box AP in % on {COCO}"
    assert _legend(flops) == ["my run (measured here)"]
    assert _legend(published) == ["TSB (from the paper)"]
    assert not unused.axison
    assert [text.get_text() for text in flops.texts] == ["64/32"]
    assert flops.lines[1].get_xydata().tolist() == [[2.0, 30.0]]
    assert latency.lines[1].get_xydata().tolist() == [[20.0, 30.0]]
    assert "they do not compare" in _caption(figure)
    assert "neither states a latency" in _caption(figure)
    assert "sides of the branches' images in pixels" in _caption(figure)
    assert "Latency: median, with bars between quartiles." in _caption(figure)
    assert "images in brackets" not in _caption(figure).lower()
    figure.savefig(tmp_path / "tradeoff.png")


def test_runs_on_the_paper_s_data_stand_beside_its_points() -> None:
    ours = _measured("1120/448", 40.0, 300, dataset=COCO, latency=None)
    figure = draw_tradeoff([ours, _published("1120/448", 44.0, 243)], metric="segm/AP", title="t")
    (axes,) = (axes for axes in figure.axes if axes.axison)
    assert figure.get_suptitle() == "t"
    assert axes.get_title() == f"{COCO}: published, and measured here"
    assert axes.get_ylabel().startswith("Mask AP")
    # Counted in the paper's way, as its points are.
    assert axes.lines[1].get_xydata().tolist() == [[150.0, 40.0]]
    assert _legend(axes) == ["my run (measured here)", "TSB (from the paper)"]


def test_devices_have_axes_of_their_own_and_what_is_missing_is_named() -> None:
    points = [
        _measured("a", 30.0, 1),
        _measured("b", 31.0, 2, latency=_latency(3.0, "a GPU"), series="fast"),
        _measured("c", 32.0, 2, flops={}, latency=None),
    ]
    figure = draw_tradeoff(points)
    labels = [axes.get_xlabel() for axes in figure.axes if axes.axison]
    assert [label.rpartition(" on ")[2] for label in labels[1:]] == ["one CPU", "a GPU"]
    assert "Not drawn, for lack of costs: my run c." in _caption(figure)


def test_line_joins_what_is_not_beaten() -> None:
    points = [_measured(str(place), accuracy, place, is_marked=place == 2) for place, accuracy in
              ((1, 10.0), (2, 30.0), (3, 20.0), (4, 40.0))]  # fmt: skip
    axes = draw_tradeoff(points).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[1.0, 10.0], [2.0, 30.0], [4.0, 40.0]]
    assert _legend(axes) == ["my run (measured here)", "as trained"]
    systems = [_published(name, 40.0 + n, 100.0 + n) for n, name in enumerate(("ViT-B", "C/C"))]
    assert len(draw_tradeoff(systems).axes[0].lines) == 1


def test_few_images_are_said_to_be_few() -> None:
    points = [
        _measured("64/32", 30.0, 1, latency=Latency(20.0, None, "", "one CPU", 1)),
        _measured("96/48", 31.0, 2, latency=Latency(30.0, (25, 40), "quartiles", "one CPU", 3)),
        _measured("128/64", 32.0, 3, latency=Latency(40.0, (30, 50), "quartiles", "one CPU", 30)),
    ]
    figure = draw_tradeoff(points)
    flops, latency = figure.axes
    assert [text.get_text() for text in flops.texts if text.get_text()] == [
        "64/32", "96/48", "128/64",
    ]  # fmt: skip
    assert [text.get_text() for text in latency.texts if text.get_text()] == [
        "64/32 (1 image)", "96/48 (3 images)", "128/64",
    ]  # fmt: skip
    assert "Images in brackets beside a point: no more were timed" in _caption(figure)
    # A line for the front, the points, and a bar for all but the first.
    assert len(latency.lines) == 4
    alone = draw_tradeoff(points[:1])
    assert "Latency: median. Images in brackets" in _caption(alone)


def test_axes_of_one_point_begin_at_zero() -> None:
    for axes in draw_tradeoff([_measured("64/32", 30.0, 2)]).axes:
        ((cost, accuracy),) = axes.lines[1].get_xydata().tolist()
        assert axes.get_xlim() == pytest.approx((0, cost / 0.6))
        assert axes.get_ylim() == pytest.approx((0, accuracy / 0.6))
    assert draw_tradeoff([_measured("a", 80.0, 2)]).axes[0].get_ylim() == (0, 100)
    low, high = draw_tradeoff([_measured("a", 0.0, 2)]).axes[0].get_ylim()
    assert low < 0 < high
    # Costs that differ by less than a tenth are not spread over the axes.
    nearly = [_measured("a", 30.0, 2), _measured("b", 31.0, 2.001)]
    assert draw_tradeoff(nearly).axes[0].get_xlim()[0] == 0


def test_runs_without_a_cost_are_named() -> None:
    points = [
        _measured("a", 30.0, 1),
        _measured("b", 31.0, 2, latency=None),
        _measured("c", 32.0, 3, flops={}),
    ]
    caption = _caption(draw_tradeoff(points))
    assert "Without a latency, which --latency-images measures: my run b." in caption
    assert "Without multiply-adds, which could not be counted: my run c." in caption
    assert "they do not compare" not in caption


def test_legend_hides_no_point() -> None:
    points = [_measured("1", 30.0, 1), _measured("2", 20.0, 4), _measured("3", 31.0, 4.2)]
    figure = draw_tradeoff(points)
    figure.canvas.draw()
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent()
        for place in axes.lines[1].get_xydata():
            assert not legend.contains(*axes.transData.transform(place))


def test_costs_far_apart_are_logarithmic() -> None:
    figure = draw_tradeoff([_published("1", 40.0, 100), _published("2", 50.0, 20000)])
    assert figure.axes[0].get_xscale() == "log"
    assert figure.axes[0].get_xlabel().endswith("logarithmic")


def test_labels_do_not_lie_on_each_other() -> None:
    points = [
        _published(f"{1024 + number}/672/448", 40 + 0.05 * number, 100.0 + number, "S")
        for number in range(6)
    ]
    points.append(_published("640/320", 45.0, 150.0, "S"))
    figure = draw_tradeoff(points)
    figure.canvas.draw()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    frame = axes.get_window_extent()
    assert len(boxes) == 7
    for index, box in enumerate(boxes):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        for other in boxes[index + 1 :]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(width, height) <= 0


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="none of 1 points has FLOPs or latency"):
        draw_tradeoff([_measured("a", 30.0, 1, flops={}, latency=None)])

"""Pictures of the inside: they say what they show, for networks of every kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from piip_d2.modeling.backbone import PIIPNetwork
from piip_d2.visualization.inside import (
    CostShare,
    Record,
    cost_shares,
    draw_attention,
    draw_features,
    draw_heads,
    draw_pyramid,
    draw_scales,
    looks_at,
    record_network,
    view_branches,
)
from piip_d2.visualization.inside.theme import branch_color, to_picture
from piip_d2.visualization.point_labels import covered_area
from tests.visualization.inside.small_networks import NETWORKS, network, vit

IMAGES = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))


# Each kind of panel is among these; drawing takes longer than running.
DRAWN = ("four ViTs", "ConvNeXt and ViT", "regular attention", "one branch")


def _as_parameter(name: str) -> object:
    return pytest.param(name, marks=[] if name in DRAWN else [pytest.mark.slow])


@pytest.fixture(scope="module", params=[_as_parameter(name) for name in NETWORKS])
def case(request: pytest.FixtureRequest) -> tuple[PIIPNetwork, Record]:
    built = NETWORKS[request.param]()
    return built, record_network(built, IMAGES, (90, 128))


def test_every_picture_of_every_network(case: tuple[PIIPNetwork, Record]) -> None:
    for name, figure in _figures(*case).items():
        assert any("Random" in text for text in _texts(figure)), "the caption says what was shown"
        _check_axes(figure, name)
        legends = [legend for part in _parts(figure) for legend in part.legends]
        labels = [text.get_text() for legend in legends for text in legend.get_texts()]
        assert name == "scales" or "padding" in labels


@pytest.mark.slow
def test_every_picture_of_every_network_is_rendered(
    case: tuple[PIIPNetwork, Record], tmp_path: Path
) -> None:
    for name, figure in _figures(*case).items():
        _save(figure, tmp_path / f"{name}.png")


def test_pictures_are_rendered(tmp_path: Path) -> None:
    built = NETWORKS["two ViTs"]()
    for name, figure in _figures(built, record_network(built, IMAGES, (90, 128))).items():
        _save(figure, tmp_path / f"{name}.png")


def test_without_interactions_there_is_no_attention() -> None:
    record = record_network(NETWORKS["no interactions"](), IMAGES)
    with pytest.raises(ValueError, match="no cross-branch attention to draw"):
        draw_attention(record, [])


def test_samples_are_drawn_where_they_are() -> None:
    record = record_network(NETWORKS["two ViTs"](), IMAGES)
    look = next(look for look in looks_at(record, (0.3, 0.6)) if look.querying == 0)
    assert look.points is not None
    figure = draw_heads(record, look)
    panels = [axes for axes in _axes(figure) if axes.get_title().startswith("head ")]
    assert len(panels) == look.num_heads == 4
    for head, axes in enumerate(panels):
        drawn = np.concatenate([np.asarray(marks.get_offsets()) for marks in axes.collections[2:]])
        expected = look.points[head] * (128, 96)
        np.testing.assert_allclose(np.sort(drawn, 0), np.sort(expected, 0), rtol=1e-5)
        left, right = sorted(axes.get_xlim())
        assert left <= expected[:, 0].min() and expected[:, 0].max() <= right
        weights = ", ".join(f"{weight:.2f}" for weight in sorted(look.weights[head])[::-1])
        assert axes.get_title() == f"head {head + 1} of 4, weights\n{weights}"


def test_features_have_labels() -> None:
    record = record_network(NETWORKS["two ViTs"](), IMAGES)
    panels = [axes for axes in _axes(draw_features(record)) if axes.get_label() != "<colorbar>"]
    maps = [axes for axes in panels if "its image" not in axes.get_title()]
    for axes in maps:
        spec = axes.get_subplotspec()
        assert spec is not None
        assert axes.get_xlabel() == "column of the map" * spec.is_last_row()
    assert [axes.get_ylabel() for axes in maps].count("row of the map") == len(record.branches) + 1
    images = [axes for axes in panels if axes not in maps]
    assert [axes.get_ylabel() for axes in images] == ["y in pixels"] * 2
    assert [axes.get_xlabel() for axes in images] == ["", "x in pixels"]


def test_frame_of_what_is_beside_stays_in_the_image() -> None:
    record = record_network(NETWORKS["two ViTs"](), IMAGES)
    (look, *_) = looks_at(record, (0.3, 0.6))
    assert look.points is not None
    far = replace(look, points=look.points * 50)
    figure = draw_attention(record, [far])
    axes = next(axes for axes in _axes(figure) if "looks at" in axes.get_title())
    (frame,) = (patch for patch in axes.patches if patch.get_linestyle() == "--")
    left, bottom, right, top = frame.get_bbox().extents
    assert 0 < left < right < axes.get_xlim()[1]
    assert 0 < min(bottom, top) < max(bottom, top) < axes.get_ylim()[0]


def test_heads_and_weights_have_legends_of_their_own() -> None:
    record = record_network(NETWORKS["two ViTs"](), IMAGES, (90, 128))
    figure = draw_attention(record, looks_at(record, (0.3, 0.6)))
    legends = [legend for part in _parts(figure) for legend in part.legends]
    found = {
        legend.get_title().get_text(): [text.get_text() for text in legend.get_texts()]
        for legend in legends
    }
    assert found["Head: colour and shape"] == [f"head {head} of 4" for head in (1, 2, 3, 4)]
    assert found["Weight in its head: area"] == ["0.1", "0.25", "0.5", "1"]
    assert {"the cell that looks", "padding"} <= set(found["Also drawn"])
    figure.canvas.draw()
    boxes = [legend.get_window_extent() for legend in legends]
    width, _ = figure.canvas.get_width_height()
    for number, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= width
        assert all(
            covered_area(box.extents, other.extents[None]) == 0 for other in boxes[number + 1 :]
        )


def test_branches_are_described() -> None:
    record = record_network(NETWORKS["four ViTs"](), IMAGES, (90, 128))
    views = view_branches(record)
    assert [view.label for view in views] == [f"{n} px branch" for n in (32, 64, 96, 128)]
    assert [view.image_size for view in views] == [(24, 32), (48, 64), (72, 96), (96, 128)]
    assert [view.grid for view in views] == [(3, 4), (6, 8), (9, 12), (12, 16)]
    assert views[2].windows == (2, None) and views[2].main_window == 2
    assert views[2].attention == "1 block: windows of 2 x 2 cells,\n1 block: global attention"
    assert views[3].attention == "global attention in all blocks"
    assert views[0].content_size == pytest.approx((22.5, 32))


def test_convolutional_branches_are_described() -> None:
    views = view_branches(record_network(NETWORKS["ConvNeXt and ViT"](), IMAGES))
    assert views[1].attention == "convolutions" and views[1].strides == (4, 8)
    assert views[1].main_window is None


def test_branches_of_equal_size_have_different_names() -> None:
    views = view_branches(record_network(NETWORKS["equal sizes"](), IMAGES))
    assert [view.label for view in views] == ["64 px branch (no. 0)", "64 px branch (no. 1)"]


def test_costs_are_those_of_the_count() -> None:
    built = NETWORKS["four ViTs"]()
    shares = cost_shares(built, (96, 128))
    assert [share.branch for share in shares] == [3, 2, 1, 0, None, None]
    params = sum(parameter.numel() for parameter in built.parameters())
    assert sum(share.params for share in shares) == params
    larger = cost_shares(built, (192, 256))
    assert larger[0].flops > 3.9 * shares[0].flops


def test_costs_fill_the_bar() -> None:
    record = record_network(NETWORKS["two ViTs"](), IMAGES)
    shares = [CostShare("64 px branch", 1, 10, 30), CostShare("neck, heads", None, 999, 999)]
    figure = draw_pyramid(record, [CostShare("32 px branch", 0, 30, 10), *shares])
    axes = next(axes for axes in _axes(figure) if axes.get_title().startswith("Cost"))
    assert sorted(text.get_text() for text in axes.texts) == ["25%", "25%", "75%", "75%"]
    texts = " ".join(_texts(figure)).replace("\n", " ")
    assert "Neck and heads behind the network cost" in texts


def test_pictures_come_back_from_what_the_network_got() -> None:
    pixels = torch.randint(0, 256, (3, 16, 24)).float()
    record = Record(network([vit(64), vit(32)]), pixels, (16, 24))
    record.pixel_mean, record.pixel_std = [10.0, 20.0, 30.0], [2.0, 3.0, 4.0]
    mean, std = (torch.tensor(x)[:, None, None] for x in (record.pixel_mean, record.pixel_std))
    shown = to_picture(record, (pixels - mean) / std)
    np.testing.assert_allclose(shown * 255, pixels.permute(1, 2, 0), atol=1e-3)
    record.channel_order = "BGR"
    assert np.array_equal(to_picture(record, (pixels - mean) / std), shown[..., ::-1])


def test_branches_keep_their_colours() -> None:
    colors = {to_hex(branch_color(number)) for number in range(4)}
    assert len(colors) == 4


def _figures(built: PIIPNetwork, record: Record) -> dict[str, Figure]:
    figures = {
        "pyramid": draw_pyramid(record, cost_shares(built, (96, 128)), "Random pixels."),
        "features": draw_features(record, "Random pixels."),
        "scales": draw_scales(built, "Random weights."),
    }
    if record.interactions:
        looks = looks_at(record, (0.3, 0.6))
        figures["attention"] = draw_attention(record, looks, "Random pixels.")
        figures["heads"] = draw_heads(record, looks[0], "Random pixels.")
    return figures


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=40)
    width, height = figure.get_size_inches()
    assert Image.open(path).size == pytest.approx((40 * width, 40 * height), abs=1)


def _check_axes(figure: Figure, name: str) -> None:
    for axes in _axes(figure):
        is_empty = not axes.axison or not axes.has_data()
        is_bar = axes.get_label() == "<colorbar>"
        if not is_empty and not is_bar:
            assert axes.get_title(), name
            spec = axes.get_subplotspec()
            assert spec is not None
            # What panels beside and below one another have in common stands at the edge.
            assert axes.get_xlabel() or not spec.is_last_row(), name
            assert axes.get_ylabel() or not spec.is_first_col() or axes.get_xlabel(), name


def _parts(figure: Figure) -> list:
    found = [figure]
    for part in found:
        found += part.subfigs
    return found


def _axes(figure: Figure) -> list[Axes]:
    return [axes for part in _parts(figure) for axes in part._localaxes]


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for part in _parts(figure) for text in part.texts]

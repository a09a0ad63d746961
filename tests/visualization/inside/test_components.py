"""Colours of features, and scales of exchanges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from piip_d2.visualization.inside import (
    color_maps,
    interaction_scales,
    merge_weights,
    relative_change,
    spread_interactions,
)
from piip_d2.visualization.inside.components import content_cells
from tests.visualization.inside.small_networks import NETWORKS

WHOLE = (1.0, 1.0)


def _maps(seed: int = 0) -> torch.Tensor:
    return torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(seed))


def test_components_are_those_of_the_covariance() -> None:
    x = _maps()
    colored = color_maps([x], WHOLE, with_norm=False)
    cells = x.flatten(0, 1) - x.flatten(0, 1).mean(0)
    variances = torch.linalg.svdvals(cells).square()
    assert colored.explained == pytest.approx(float(variances[:3].sum() / variances.sum()))
    # Each colour is a component but for shift, scale, sign and cut ends.
    projected = cells @ torch.linalg.svd(cells, full_matrices=False).Vh[:3].T
    for channel in range(3):
        shown = colored.pictures[0].reshape(-1, 3)[:, channel]
        inner = (shown > 0) & (shown < 1)
        correlation = np.corrcoef(shown[inner], projected[inner, channel])[0, 1]
        assert abs(correlation) == pytest.approx(1, abs=1e-6)


def test_equal_features_have_equal_colours_in_all_maps() -> None:
    first, second = _maps(0), _maps(1)
    second[2, 3] = first[1, 1]
    one, other = color_maps([first, second], WHOLE).pictures
    np.testing.assert_allclose(other[2, 3], one[1, 1])
    assert one.min() >= 0 and one.max() <= 1


def test_padding_has_no_say() -> None:
    x = _maps()
    spoiled = x.clone()
    spoiled[4:] = 1000 * torch.randn(2, 5, 8)
    share = (4 / 6, 1.0)
    for norm in (True, False):
        clean, other = (color_maps([y], share, with_norm=norm).pictures[0] for y in (x, spoiled))
        np.testing.assert_allclose(clean[:4], other[:4])


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_flat_and_narrow_maps_have_colours(channels: int) -> None:
    for x in (torch.ones(2, 3, channels), torch.randn(2, 3, channels)):
        picture = color_maps([x], WHOLE).pictures[0]
        assert picture.shape == (2, 3, 3) and np.isfinite(picture).all()


def test_maps_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same channels, at least one map; got \[7, 8\]"):
        color_maps([torch.ones(1, 1, 8), torch.ones(1, 1, 7)], WHOLE)
    with pytest.raises(ValueError, match=r"got \[\]"):
        color_maps([], WHOLE)


def test_change_is_relative() -> None:
    before = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    after = before + torch.tensor([[[0.0, 0.0], [0.5, 0.0]]])
    assert relative_change(before, after).tolist() == [[0.0, 0.5]]


def test_cells_with_something_of_the_image() -> None:
    assert content_cells((6, 8), (0.5, 1.0)) == (3, 8)
    assert content_cells((6, 8), (0.51, 0.001)) == (4, 1)
    # 180 of 192 pixels in cells of 12: rounding must not add one.
    assert content_cells((16, 3), (180 / 192, 1 / 3)) == (15, 1)


def test_interactions_are_spread() -> None:
    assert spread_interactions(0) == []
    assert spread_interactions(2) == [0, 1]
    assert spread_interactions(12) == [0, 6, 11]
    assert spread_interactions(12, most=2) == [0, 11]


def test_scales_are_those_of_the_parameters() -> None:
    built = NETWORKS["four ViTs"]()
    scales = interaction_scales(built)
    assert {(scale.querying, scale.attended) for scale in scales} == {
        (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)
    }  # fmt: skip
    found = next(scale for scale in scales if (scale.querying, scale.attended) == (0, 1))
    assert found.interactions == (0, 1)
    for number in (0, 1):
        module = built.interactions[number].units[0].high_to_low
        np.testing.assert_allclose(found.attention[number], module.attn_gamma.detach().abs())
        np.testing.assert_allclose(found.ffn[number], module.ffn_gamma.detach().abs())


def test_directions_that_alternate_have_their_own_depths() -> None:
    scales = interaction_scales(NETWORKS["alternating directions"]())
    assert {(s.querying, s.attended): s.interactions for s in scales} == {
        (0, 1): (0,),
        (1, 0): (1,),
    }


def test_weights_of_merges() -> None:
    built = NETWORKS["some merged"]()
    torch.nn.init.constant_(built.merge.weights[1], 0.25)
    (merge,) = merge_weights(built)
    assert merge.interaction is None and merge.weights == {0: 1.0, 2: 0.25}
    assert merge_weights(NETWORKS["one branch"]()) == []

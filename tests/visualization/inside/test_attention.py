"""Where cells look: compared with what the attention itself gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.layers import CrossAttention, MSDeformAttn
from piip_d2.visualization.inside import (
    AttentionRecord,
    Look,
    locate,
    look,
    looks_at,
    record_network,
)
from tests.visualization.inside.small_networks import NETWORKS

IMAGES = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cell", [(0, 0), (2, 3), (-1, -1)])
@pytest.mark.parametrize("name", ["two ViTs", "four ViTs", "two ConvNeXts", "regular attention"])
def test_points_and_weights_explain_the_output(name: str, cell: tuple[int, int]) -> None:
    record = record_network(NETWORKS[name](), IMAGES)
    for number, seen in record.interactions.items():
        for attention in seen.attentions:
            rows, columns = attention.query.shape[:2]
            place = (cell[0] % rows, cell[1] % columns)
            what = look(number, attention, place)
            np.testing.assert_allclose(
                what.weights.reshape(len(what.weights), -1).sum(-1), 1, atol=1e-5
            )
            actual = _output(attention)[place]
            torch.testing.assert_close(_from_look(what, attention), actual, rtol=1e-3, atol=1e-4)


def test_point_of_an_image_is_found_in_the_padded_one() -> None:
    record = record_network(NETWORKS["two ViTs"](), IMAGES, (48, 64))
    # The image came in double size.
    assert locate((64, 48), (96, 128), record) == (0.25, 0.25)
    looks = looks_at(record, (0.25, 0.25))
    assert {(seen.querying, seen.cell) for seen in looks} == {(0, (1, 2)), (1, (3, 4))}
    assert next(seen for seen in looks if seen.querying == 0).center == (2.5 / 8, 1.5 / 6)


@pytest.mark.parametrize("point", [(-1, 0), (0, -0.1), (200, 0), (0, 100), (float("nan"), 0)])
def test_points_outside_the_image_are_refused(point: tuple[float, float]) -> None:
    record = record_network(NETWORKS["two ViTs"](), IMAGES)
    with pytest.raises(ValueError, match="image of 200 x 100 pixels, so x from 0 to 199 and y"):
        locate(point, (100, 200), record)
    with pytest.raises(ValueError, match=r"shares in \[0, 1\)"):
        looks_at(record, (1.0, 0.5))


def test_points_that_read_zeros_are_known() -> None:
    # Half a cell is 1/8 of the map's width and 1/4 of its height.
    points = [(0.5, 0.5), (-0.02, 0.5), (-0.125, 0.5), (1.12, 0.5), (1.13, 0.5)]
    points += [(0.5, 1.2), (0.5, 1.3), (0.5, -0.25)]
    places = np.array([points])
    what = Look(0, 0, 1, (0, 0), (2, 2), (2, 4), places, np.ones((1, len(points))))
    grid = torch.tensor(places[None], dtype=torch.float32) * 2 - 1
    read = F.grid_sample(torch.ones(1, 1, 2, 4), grid, align_corners=False)[0, 0, 0]
    assert what.outside is not None
    assert what.outside[0].tolist() == (read == 0).tolist()
    assert what.outside[0].tolist() == [False, False, True, False, True, False, True, True]
    assert what.num_heads == 1


def _output(attention: AttentionRecord) -> Tensor:
    """What the attention gives for all cells: the module without its residuals."""
    module = attention.module
    feature = module.feat_norm(module.feat_proj(attention.feature[None]))
    with torch.no_grad():
        return module.attn(module.query_norm(attention.query[None]), feature)[0]


@torch.no_grad()
def _from_look(what: Look, attention: AttentionRecord) -> Tensor:
    module = attention.module
    feature = module.feat_norm(module.feat_proj(attention.feature[None]))
    weights = torch.tensor(what.weights)
    attn = module.attn
    if isinstance(attn, CrossAttention):
        value = attn.v_proj(feature[0]).unflatten(-1, (attn.num_heads, -1))  # (H, W, M, D)
        return attn.proj(torch.einsum("mhw,hwmd->md", weights, value).flatten())
    deform = attn.deform
    assert isinstance(deform, MSDeformAttn) and what.points is not None
    value = deform.value_proj(feature[0]).unflatten(-1, (deform.num_heads, -1)).permute(2, 3, 0, 1)
    points = torch.tensor(what.points, dtype=torch.float32)[:, None] * 2 - 1  # (M, 1, P, 2)
    sampled = F.grid_sample(value, points, align_corners=False)[:, :, 0]  # (M, D, P)
    return deform.output_proj((sampled * weights[:, None]).sum(-1).flatten())

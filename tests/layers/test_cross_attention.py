"""Attention between maps, reference points and the ConvFFN."""

from __future__ import annotations

import pytest
import torch

from piip_d2.layers import (
    ConvFFN,
    CrossAttention,
    DeformableCrossAttention,
    MSDeformAttn,
    make_reference_points,
)


def test_reference_points_are_cell_centres_row_by_row() -> None:
    points = make_reference_points(2, 4, device="cpu")
    assert points.shape == (1, 8, 1, 2)
    assert points[0, 0, 0].tolist() == [0.125, 0.25]
    assert points[0, 5, 0].tolist() == [0.375, 0.75]


def test_deformable_attention_samples_the_same_relative_position() -> None:
    """With no offsets and identity projections, equal grids give the feature itself."""
    deform = MSDeformAttn(4, num_heads=2)
    torch.nn.init.zeros_(deform.sampling_offsets.bias)
    for projection in (deform.value_proj, deform.output_proj):
        torch.nn.init.eye_(projection.weight)
    feature = torch.randn(2, 3, 5, 4)
    output = DeformableCrossAttention(deform)(torch.randn(2, 3, 5, 4), feature)
    torch.testing.assert_close(output, feature)


def test_deformable_attention_between_grids() -> None:
    attention = DeformableCrossAttention(MSDeformAttn(8, num_heads=2, value_ratio=0.5, kv_dim=6))
    output = attention(torch.randn(2, 3, 5, 8), torch.randn(2, 7, 4, 6))
    assert output.shape == (2, 3, 5, 8)


def test_regular_attention_to_a_uniform_map_is_its_projection() -> None:
    attention = CrossAttention(8, num_heads=2, kv_dim=6)
    cell = torch.randn(6)
    output = attention(torch.randn(1, 2, 3, 8), cell.expand(1, 4, 4, 6))
    expected = attention.proj(attention.v_proj(cell))
    torch.testing.assert_close(output, expected.expand(1, 2, 3, 8))


def test_regular_attention_checks_heads() -> None:
    with pytest.raises(ValueError, match="divisible by num_heads"):
        CrossAttention(8, num_heads=3)


def test_conv_ffn_sees_neighbours_and_no_more() -> None:
    ffn = ConvFFN(4, 8)
    x = torch.randn(1, 5, 5, 4)
    changed = x.clone()
    changed[0, 2, 2] += 1.0
    difference = (ffn(changed) - ffn(x)).abs().amax(dim=-1)[0] > 1e-7
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[1:4, 1:4] = True
    assert torch.equal(difference, expected)

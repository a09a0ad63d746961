"""Attention between maps, reference points and the ConvFFN."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from piip_d2.layers import (
    ConvFFN,
    CrossAttention,
    DeformableCrossAttention,
    MSDeformAttn,
    make_reference_points,
)
from piip_d2.ops import has_extension


def test_reference_points_are_cell_centres_row_by_row() -> None:
    points = make_reference_points(2, 4, device="cpu")
    assert points.shape == (1, 8, 1, 2)
    assert points[0, 0, 0].tolist() == [0.125, 0.25]
    assert points[0, 5, 0].tolist() == [0.375, 0.75]


def make_transparent() -> DeformableCrossAttention:
    """With no offsets and identity projections, an equal grid gives the feature itself."""
    deform = MSDeformAttn(4, num_heads=2)
    torch.nn.init.zeros_(deform.sampling_offsets.bias)
    for projection in (deform.value_proj, deform.output_proj):
        torch.nn.init.eye_(projection.weight)
    return DeformableCrossAttention(deform)


def test_deformable_attention_samples_the_same_relative_position(implementation: str) -> None:
    feature = torch.randn(2, 3, 5, 4)
    output = make_transparent()(torch.randn(2, 3, 5, 4), feature)
    torch.testing.assert_close(output, feature)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_positions_are_exact_in_16_bit(implementation: str, dtype: torch.dtype) -> None:
    """Of 600 columns, 16 bit could tell only a part apart."""
    feature = torch.randn(1, 2, 600, 4).to(dtype)
    output = make_transparent().to(dtype)(torch.randn(1, 2, 600, 4).to(dtype), feature)
    torch.testing.assert_close(output, feature, atol=1e-3, rtol=0.01)


def test_deformable_attention_between_grids(implementation: str) -> None:
    attention = DeformableCrossAttention(MSDeformAttn(8, num_heads=2, value_ratio=0.5, kv_dim=6))
    output = attention(torch.randn(2, 3, 5, 8), torch.randn(2, 7, 4, 6))
    assert output.shape == (2, 3, 5, 8)


def test_one_graph_for_all_grids() -> None:
    if not has_extension():
        pytest.skip("the compiled operators are not there, and compiling the reference takes long")
    attention = DeformableCrossAttention(MSDeformAttn(24, num_heads=6, kv_dim=12))
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(attention, fullgraph=True, dynamic=True, backend=counter)
    graphs = []
    for height, width in ((5, 7), (8, 9), (14, 10)):
        query = torch.randn(2, height, width, 24, requires_grad=True)
        feature = torch.randn(2, height + 3, width * 2, 12)
        output = compiled(query, feature)
        torch.testing.assert_close(output, attention(query, feature))
        output.sum().backward()
        graphs.append(counter.frame_count)
    assert graphs == graphs[:1] * 3


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

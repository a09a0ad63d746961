"""How work is divided among threads: by queries, by heads, and by queries of the same heads."""

from __future__ import annotations

import pytest
import torch

from piip_d2.ops import has_extension, ms_deform_attn
from piip_d2.ops.reference import ms_deform_attn_reference

SHAPES = [(4, 5), (3, 2)]


@pytest.mark.skipif(not has_extension(), reason="the compiled operators are not installed")
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("batch", "heads", "queries"), [(1, 1, 1), (1, 1, 13), (2, 1, 6), (1, 5, 11), (3, 2, 2)]
)
def test_every_share_is_done_once(threads: int, batch: int, heads: int, queries: int) -> None:
    """With more threads than heads, some add to copies of the value's gradient."""
    value = torch.randn(batch, 26, heads, 12)
    locations = torch.rand(batch, queries, heads, 2, 4, 2) * 1.4 - 0.2
    weights = torch.rand(batch, queries, heads, 2, 4)
    gradient = torch.randn(batch, queries, heads * 12)
    torch.set_num_threads(threads)
    leaves = [x.requires_grad_() for x in (value, locations, weights)]
    output = ms_deform_attn(leaves[0], SHAPES, leaves[1], leaves[2])
    gradients = torch.autograd.grad(output, leaves, gradient)
    wide = [x.detach().double().requires_grad_() for x in leaves]
    expected = ms_deform_attn_reference(wide[0], SHAPES, wide[1], wide[2])
    right = torch.autograd.grad(expected, wide, gradient.double())
    for result, reference in zip((output, *gradients), (expected, *right), strict=True):
        torch.testing.assert_close(result.double(), reference, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not has_extension(), reason="the compiled operators are not installed")
@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize(
    ("batch", "heads", "levels", "points"),
    [(2, 8, 4, 4), (1, 5, 1, 8), (1, 12, 2, 4), (1, 8, 1, 4)],
)
def test_shares_of_any_number_of_heads_have_room(
    threads: int, batch: int, heads: int, levels: int, points: int
) -> None:
    """Fewer heads at a time can mean more points, as whole vectors take more queries then."""
    shapes = [(3, 4)] * levels
    value = torch.randn(batch, 12 * levels, heads, 4)
    locations = torch.rand(batch, 40, heads, levels, points, 2)
    weights = torch.rand(batch, 40, heads, levels, points)
    leaves = [x.requires_grad_() for x in (value, locations, weights)]
    torch.set_num_threads(1)
    one = torch.autograd.grad(ms_deform_attn(value, shapes, locations, weights).sum(), leaves)
    torch.set_num_threads(threads)
    several = torch.autograd.grad(ms_deform_attn(value, shapes, locations, weights).sum(), leaves)
    for first, second in zip(one, several, strict=True):
        torch.testing.assert_close(first, second)

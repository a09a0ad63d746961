"""Samples at the very borders of maps, and numbers at the ends of what a type can hold."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from piip_d2.ops import has_extension, ms_deform_attn_fused

# One image, query, head and point at the reference point of the first pixel; four channels.


def sample(value: Tensor, size: int, x: float, y: float, dtype: torch.dtype) -> Tensor:
    reference = torch.full((1, 1, 1, 2), 0.5 / size, dtype=dtype, device=value.device)
    offsets = torch.tensor([x, y], dtype=dtype, device=value.device).reshape(1, 1, 1, 1, 1, 2)
    logits = torch.zeros(1, 1, 1, 1, 1, dtype=dtype, device=value.device)
    return ms_deform_attn_fused(value, [(size, size)], offsets, logits, reference_points=reference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 32, 64])
def test_last_number_before_the_border(
    device: torch.device, size: int, axis: int, dtype: torch.dtype
) -> None:
    """Half of it rounds up to the border itself when 1 is added; what stands behind is not read."""
    last = torch.nextafter(torch.tensor(float(size), dtype=dtype), torch.tensor(0.0, dtype=dtype))
    place = [0.0, 0.0]
    place[axis] = last.item()
    pixels = torch.full((size * size + 4 * size, 4), math.nan, dtype=dtype)
    pixels[: size * size] = 1.0
    value = pixels.to(device)[: size * size].reshape(1, -1, 1, 4).requires_grad_()
    output = sample(value, size, place[0], place[1], dtype)
    # The share of the last pixel is what is missing to the border.
    expected = torch.full_like(output, size - last.item())
    torch.testing.assert_close(output, expected, rtol=0.0, atol=torch.finfo(dtype).eps * size)
    output.sum().backward()
    assert value.grad is not None and value.grad.sum().item() <= 4 * torch.finfo(dtype).eps * size


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_boxes_without_a_size_give_no_gradient(device: torch.device, bad: float) -> None:
    value = torch.randn(1, 12, 1, 4, device=device)
    offsets = torch.randn(1, 1, 1, 1, 2, 2, device=device, requires_grad=True)
    boxes = torch.tensor([[[[0.5, 0.5, bad, 0.2]]]], device=device, requires_grad=True)
    logits = torch.zeros(1, 1, 1, 1, 2, device=device)
    output = ms_deform_attn_fused(value, [(3, 4)], offsets, logits, reference_points=boxes)
    output.sum().backward()
    assert output.abs().sum() == 0
    assert offsets.grad is not None and (offsets.grad == 0).all()
    assert boxes.grad is not None and (boxes.grad == 0).all()


def test_any_nan_among_logits_is_seen(device: torch.device) -> None:
    """Also one whose bits are not those that calculations produce."""
    odd = torch.tensor([0x7FC001FF], dtype=torch.int32).view(torch.float32).item()
    logits = torch.zeros(1, 1, 1, 1, 4, device=device)
    for nan in (math.nan, odd):
        logits[..., 0] = nan
        offsets = torch.zeros(1, 1, 1, 1, 4, 2, device=device)
        value = torch.ones(1, 1, 1, 4, device=device)
        output = ms_deform_attn_fused(value, [(1, 1)], offsets, logits, query_grid=(1, 1))
        assert output.isnan().all()


@pytest.mark.skipif(not has_extension(), reason="the compiled operators are not installed")
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([2**32, 2**32, 2, 2], "from 1 to 16777216, got 4294967296 x 4294967296"),
        ([0, 4], "from 1 to 16777216, got 0 x 4"),
        ([2, 2, 2], "a height and a width per level, got 3 numbers"),
        ([2, 3], "value must have 6 entries in dimension 1, got 4"),
    ],
)
def test_operators_themselves_keep_memory_safe(shapes: list[int], message: str) -> None:
    levels = max(len(shapes) // 2, 1)
    arguments = torch.rand(1, 1, 1, levels, 1, 2), torch.rand(1, 1, 1, levels, 1)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.piip_d2.ms_deform_attn(torch.randn(1, 4, 1, 4), shapes, *arguments)

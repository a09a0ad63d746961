"""Multi-scale deformable attention against loops written out, by hand, and on odd inputs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from piip_d2.ops import has_extension, ms_deform_attn


def oracle(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sample by sample and corner by corner."""
    batch, queries, heads, levels, points, _ = locations.shape
    output = torch.zeros(batch, queries, heads, value.shape[-1], dtype=torch.float64)
    starts = [sum(h * w for h, w in shapes[:level]) for level in range(levels)]
    for b, q, m, level, p in torch.cartesian_prod(
        *(torch.arange(n) for n in (batch, queries, heads, levels, points))
    ).tolist():
        height, width = shapes[level]
        x = float(locations[b, q, m, level, p, 0]) * width - 0.5
        y = float(locations[b, q, m, level, p, 1]) * height - 0.5
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                    read = value[b, starts[level] + row * width + column, m].double()
                    output[b, q, m] += float(weights[b, q, m, level, p]) * share * read
    return output.flatten(2)


def make_inputs(
    batch: int = 2,
    queries: int = 5,
    heads: int = 2,
    width: int = 3,
    points: int = 2,
    shapes: tuple[tuple[int, int], ...] = ((3, 4), (2, 1)),
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, list[tuple[int, int]], Tensor, Tensor]:
    positions = sum(h * w for h, w in shapes)
    value = torch.randn(batch, positions, heads, width, dtype=dtype)
    # A part of the samples falls outside on every side.
    locations = torch.rand(batch, queries, heads, len(shapes), points, 2, dtype=dtype) * 1.6 - 0.3
    weights = torch.rand(batch, queries, heads, len(shapes), points, dtype=dtype)
    return value, list(shapes), locations, weights


def test_by_hand() -> None:
    """A 2 x 2 map [[1, 2], [3, 4]] sampled at pixel (0.5, 0.25).

    Rows 0 and 1 hold 1.5 and 3.5 halfway between their columns, so three quarters of the first
    and one of the second are 2.0; the weight 0.5 makes it 1.0. A location maps to the pixel
    location * size - 0.5, so x = (0.5 + 0.5) / 2 and y = (0.25 + 0.5) / 2.
    """
    value = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
    locations = torch.tensor([0.5, 0.375]).reshape(1, 1, 1, 1, 1, 2)
    weights = torch.tensor(0.5).reshape(1, 1, 1, 1, 1)
    assert ms_deform_attn(value, [(2, 2)], locations, weights).item() == 1.0


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("width", [1, 5, 8])
@pytest.mark.parametrize("shapes", [((5, 5),), ((4, 3), (1, 1), (2, 5))])
def test_equals_oracle(
    device: torch.device, batch: int, width: int, shapes: tuple[tuple[int, int], ...]
) -> None:
    value, sizes, locations, weights = make_inputs(batch=batch, width=width, shapes=shapes)
    output = ms_deform_attn(value.to(device), sizes, locations.to(device), weights.to(device))
    torch.testing.assert_close(output.cpu(), oracle(value, sizes, locations, weights))


def test_no_queries() -> None:
    value, sizes, locations, weights = make_inputs(queries=0)
    assert ms_deform_attn(value, sizes, locations, weights).shape == (2, 0, 6)


def test_non_contiguous_inputs() -> None:
    value, sizes, locations, weights = make_inputs()
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (value, locations, weights)]
    output = ms_deform_attn(strided[0], sizes, strided[1], strided[2])
    torch.testing.assert_close(output, ms_deform_attn(value, sizes, locations, weights))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_unreachable_locations_read_zero_and_spoil_no_gradient(bad: float) -> None:
    value, sizes, locations, weights = make_inputs()
    locations[:, 0] = bad
    tensors = [x.requires_grad_() for x in (value, locations, weights)]
    output = ms_deform_attn(tensors[0], sizes, tensors[1], tensors[2])
    assert (output[:, 0] == 0).all()
    output.sum().backward()
    assert all(x.grad.isfinite().all() for x in tensors)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_only_rounds_its_input_and_output(dtype: torch.dtype) -> None:
    """With 64 x 64 cells, 16-bit arithmetic on the indices would lose its way."""
    value, sizes, locations, weights = make_inputs(width=8, shapes=((64, 64),), queries=50)
    value = value.to(dtype)
    output = ms_deform_attn(value, sizes, locations.float(), weights.float())
    expected = ms_deform_attn(value.double(), sizes, locations, weights)
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), expected, atol=2e-2, rtol=1e-2)


def test_gradients() -> None:
    value, sizes, locations, weights = make_inputs(batch=1, queries=3)
    tensors = [x.requires_grad_() for x in (value, locations, weights)]

    def function(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn(value, sizes, locations, weights)

    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.zeros(2, 14, 6)}, r"value must be \(B, S, M, D\)"),
        ({"locations": torch.zeros(2, 5, 2, 2, 2)}, "sampling_locations must be"),
        ({"shapes": [(3, 4), (2, 2)]}, "value holds 14 positions, but .* has 16"),
        ({"value": torch.zeros(1, 14, 2, 3)}, "for 2 images, 2 heads and 2 levels"),
        ({"weights": torch.zeros(2, 5, 2, 2, 3)}, "without its last dimension"),
        ({"weights": torch.zeros(2, 5, 2, 2, 2, device="meta")}, "on one device"),
    ],
)
def test_messages(change: dict[str, object], message: str) -> None:
    value, shapes, locations, weights = make_inputs(dtype=torch.float32)
    arguments = {"value": value, "shapes": shapes, "locations": locations, "weights": weights}
    with pytest.raises(ValueError, match=message):
        ms_deform_attn(*{**arguments, **change}.values())


def test_extension_can_be_asked_for() -> None:
    assert has_extension() is hasattr(torch.ops.piip_d2, "ms_deform_attn")

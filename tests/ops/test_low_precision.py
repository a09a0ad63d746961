"""Errors of the operators against float64, compared with those of plain PyTorch.

The rule: at most twice the error of plain PyTorch in the same types. Samples stand an eighth of a
pixel from the kinks of bilinear interpolation, where a derivative has no one value.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.ops.cases import REFERENCES, Case, make_case, with_gradients

FORMS = ("plain", *REFERENCES)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((16, 24), (8, 12), (4, 6))
GRID = (8, 12)


def make_exact_case(form: str, dtype: torch.dtype, device: torch.device) -> Case:
    """Pixel coordinates that are odd eighths, and inputs that hold them in every type."""
    case = make_case(form, grid=GRID, heads=3, width=12, points=4, shapes=SHAPES, dtype=dtype)
    value, points, weights = case.tensors[:3]
    sizes = torch.tensor([[width, height] for height, width in SHAPES])[:, None]
    shifts = torch.randint(-8, 8, points.shape) / 4 + 0.125
    if form == "plain":
        pixels = (torch.rand(points.shape) * sizes).floor() + shifts
        tensors = [value, (pixels + 0.5) / sizes, weights]
    elif form == "grid":
        # A cell of the grid is 2, 1 and 1/2 pixels; their centres are on quarters of a pixel.
        tensors = [value, shifts, weights]
    elif form == "points":
        tensors = [value, shifts, weights, make_centers()]
    else:
        # Boxes as wide as 8 / W of the map, of which one unit of the offset is a pixel.
        boxes = 8.0 / sizes.expand(2, 96, 3, 1, 2).squeeze(3)
        tensors = [value, shifts, weights, torch.cat((make_centers(), boxes), dim=-1)]
    types = [x.dtype for x in case.tensors]
    tensors = [x.to(device, dtype) for x, dtype in zip(tensors, types, strict=True)]
    return Case(tensors, case.shapes, case.query_grid, case.is_fused)


def make_centers() -> Tensor:
    """(B, Q, L, 2), multiples of 1/2 pixel on every level, as is the centre of the first pixel."""
    rows_and_columns = torch.tensor([SHAPES[-1][1], SHAPES[-1][0]])
    return (torch.rand(2, 96, 3, 2) * rows_and_columns).round() / rows_and_columns


def errors(case: Case, run: Callable[..., Tensor]) -> list[float]:
    """Of the output and of all gradients, relative to their norm in float64."""
    exact = case.converted(torch.float64)
    actual = with_gradients(run, case.tensors)
    expected = with_gradients(exact.run_reference, exact.tensors)
    return [
        ((one.double() - other).norm() / other.norm()).item()
        for one, other in zip(actual, expected, strict=True)
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_at_most_twice_the_error_of_plain_pytorch(
    device: torch.device, compiled: None, form: str, dtype: torch.dtype
) -> None:
    case = make_exact_case(form, dtype, device)
    allowed = errors(case, case.run_reference)
    for error, limit in zip(errors(case, case.run), allowed, strict=True):
        # Either may happen to be exact; then what counts is the precision of the arithmetic.
        assert error <= max(2 * limit, torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_only_what_is_stored_is_rounded(
    device: torch.device, implementation: str, form: str, dtype: torch.dtype
) -> None:
    """All sums are in float32: the error of a 16-bit result is that of one rounding."""
    case = make_exact_case(form, dtype, device)
    for error in errors(case, case.run):
        assert error <= max(torch.finfo(dtype).eps / 2, 4e-6)


@pytest.mark.parametrize("form", FORMS)
def test_many_queries_read_one_pixel(device: torch.device, implementation: str, form: str) -> None:
    """A sum of thousands of gradients, which 16 bit would stop adding to at 256."""
    size = {"batch": 1, "grid": (40, 50), "heads": 1, "width": 4, "shapes": ((1, 1),)}
    case = make_case(form, dtype=torch.bfloat16, device=device, **size)
    case.tensors[1].zero_()
    if form == "plain":
        case.tensors[1].fill_(0.5)
    elif form != "grid":
        case.tensors[3].fill_(0.5)
    value = case.tensors[0].requires_grad_()
    case.run(*case.tensors).sum().backward()
    exact = case.converted(torch.float64)
    exact_value = exact.tensors[0].detach().requires_grad_()
    exact.run_reference(exact_value, *exact.tensors[1:]).sum().backward()
    assert exact_value.grad.min() > 300
    torch.testing.assert_close(value.grad.double(), exact_value.grad, rtol=0.004, atol=0)

"""The plain PyTorch reference against loops, by hand, and on what must not leak."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from piip_d2.ops.reference import (
    cell_centers,
    compute_dtype,
    ms_deform_attn_fused_reference,
    ms_deform_attn_reference,
)
from tests.ops.cases import FIVE_SHAPES, REFERENCES, Case, loops, make_case, with_gradients


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("shapes", [((5, 5),), ((4, 3), (1, 1), (2, 5))])
def test_equals_loops(
    device: torch.device, batch: int, shapes: tuple[tuple[int, int], ...]
) -> None:
    case = make_case(batch=batch, width=5, shapes=shapes)
    value, locations, weights = case.tensors
    output = case.run_reference(*(x.to(device) for x in case.tensors))
    torch.testing.assert_close(output.cpu(), loops(value, shapes, locations, weights))


@pytest.mark.parametrize(("points", "broadcast"), [(1, False), (3, True)])
@pytest.mark.parametrize("form", REFERENCES)
def test_fused_equals_loops_at_its_locations(form: str, points: int, broadcast: bool) -> None:
    case = make_case(form, points=points, shapes=FIVE_SHAPES, broadcast=broadcast)
    value, offsets, logits = case.tensors[:3]
    if form == "grid":
        reference = cell_centers(*(case.query_grid or ()), device="cpu", dtype=torch.float64)
    else:
        reference = case.tensors[3]
    locations = torch.empty_like(offsets)
    for level, (rows, columns) in enumerate(case.shapes):
        at = reference[:, :, min(level, reference.shape[2] - 1), None, None]
        if form == "boxes":
            step = at[..., 2:] / 2 / points
        else:
            step = torch.tensor([1 / columns, 1 / rows], dtype=torch.float64)
        locations[:, :, :, level] = at[..., :2] + offsets[:, :, :, level] * step
    weights = logits.flatten(3).softmax(-1).reshape(logits.shape)
    expected = loops(value, case.shapes, locations, weights)
    torch.testing.assert_close(case.run_reference(), expected)


@pytest.mark.parametrize("form", ["plain", *REFERENCES])
def test_first_and_second_derivatives(form: str) -> None:
    case = make_case(form, batch=1, grid=(1, 2), width=2, broadcast=form == "boxes")
    tensors = [x.requires_grad_() for x in case.tensors]
    assert torch.autograd.gradcheck(case.run_reference, tensors)
    assert torch.autograd.gradgradcheck(case.run_reference, tensors)


@pytest.mark.parametrize("form", ["plain", "points"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_only_rounds_the_result(form: str, dtype: torch.dtype) -> None:
    """With 64 x 64 cells, 16-bit arithmetic on the indices would lose its way."""
    case = make_case(form, width=8, shapes=((64, 64),), grid=(5, 10), dtype=dtype)
    output = case.run_reference()
    expected = case.converted(torch.float64).run_reference()
    assert output.dtype == dtype
    half_a_step = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1.01 * half_a_step)


def test_autocast_does_not_lower_the_precision(device: torch.device) -> None:
    case = make_case("points", dtype=torch.float32, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        output = case.run_reference()
    torch.testing.assert_close(output, case.run_reference())


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bad", [-0.5, 1.5, -0.75, math.nan, math.inf])
def test_a_pixel_outside_and_further_nothing_is_read(bad: float, axis: int) -> None:
    """The first two are exactly one pixel from the only pixel, where half of a gradient waits."""
    locations = torch.full((1, 1, 1, 1, 1, 2), 0.5)
    locations[..., axis] = bad
    value, weights = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1)
    for tensor in with_gradients(
        lambda *tensors: ms_deform_attn_reference(tensors[0], [(1, 1)], *tensors[1:]),
        [value, locations, weights],
        torch.ones(1, 1, 1),
    ):
        assert (tensor == 0).all()


def test_pixels_that_no_sample_reads_do_not_matter() -> None:
    """Corners of the map are NaN; samples stand in the middle, far outside and on the border."""
    value = torch.randn(1, 16, 1, 3)
    value[0, [0, 3, 12, 15]] = math.nan
    locations = torch.tensor([[0.45, 0.55], [7.0, 0.5], [-0.125, -0.125], [math.nan, 0.0]])
    locations = locations.reshape(1, 1, 1, 1, 4, 2)
    weights = torch.tensor([1.0, math.inf, math.nan, 1.0]).reshape(1, 1, 1, 1, 4)
    case = Case([value, locations, weights], [(4, 4)])
    assert all(x.isfinite().all() for x in with_gradients(case.run_reference, case.tensors))


@pytest.mark.parametrize("place", ["offset", "box"])
def test_infinite_offsets_and_boxes_do_not_spoil_gradients(place: str) -> None:
    case = make_case("boxes", broadcast=True)
    _, offsets, _, boxes = case.tensors
    if place == "offset":
        offsets[:, 0] = math.inf
    else:
        boxes[:, 0, :, 2:] = math.inf
    assert all(x.isfinite().all() for x in with_gradients(case.run_reference, case.tensors))


def test_reference_points_per_head_have_gradients_of_their_own() -> None:
    case = make_case("boxes", broadcast=True)
    value, offsets, logits, boxes = case.tensors
    per_head = boxes[:, :, None].expand(*offsets.shape[:4], -1)

    def run(*tensors: Tensor) -> Tensor:
        return ms_deform_attn_fused_reference(
            tensors[0], case.shapes, *tensors[1:3], reference_points=tensors[3]
        )

    actual = with_gradients(run, [value, offsets, logits, per_head])
    expected = with_gradients(case.run_reference, case.tensors)
    assert actual[4].shape == per_head.shape
    actual[4] = actual[4].sum(2).sum((0, 2), keepdim=True)
    torch.testing.assert_close(actual, expected)


def test_cell_centers_are_in_rows() -> None:
    centers = cell_centers(2, 4, device="cpu", dtype=torch.float64)
    assert centers.shape == (1, 8, 1, 2)
    assert centers[0, 0, 0].tolist() == [0.125, 0.25]
    assert centers[0, 5, 0].tolist() == [0.375, 0.75]


def test_compute_type() -> None:
    sixteen_bit_and_single = (torch.float16, torch.bfloat16, torch.float32)
    assert {compute_dtype(dtype) for dtype in sixteen_bit_and_single} == {torch.float32}
    assert compute_dtype(torch.float64) == torch.float64

"""The operators against the reference: sizes, strides and inputs that are out of the ordinary."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from piip_d2.ops import ms_deform_attn
from tests.ops.cases import (
    FIVE_SHAPES,
    REFERENCES,
    assert_same,
    loops,
    make_case,
    make_grad_output,
    with_gradients,
)

FORMS = ("plain", *REFERENCES)
WIDTHS = (1, 5, 6, 12, 24, 32, 40, 64, 100)
LEVELS_AND_POINTS = ((1, 1), (1, 8), (2, 3), (3, 4), (4, 7), (5, 2), (3, 6), (2, 5), (5, 8))
TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-5}


def test_by_hand(device: torch.device, implementation: str) -> None:
    """A 2 x 2 map [[1, 2], [3, 4]] sampled at pixel (0.5, 0.25).

    Rows 0 and 1 hold 1.5 and 3.5 halfway between their columns, so three quarters of the first
    and one of the second are 2.0; the weight 0.5 makes it 1.0. A location maps to the pixel
    location * size - 0.5, so x = (0.5 + 0.5) / 2 and y = (0.25 + 0.5) / 2.
    """
    value = torch.tensor([1.0, 2.0, 3.0, 4.0], device=device).reshape(1, 4, 1, 1)
    locations = torch.tensor([0.5, 0.375], device=device).reshape(1, 1, 1, 1, 1, 2)
    weights = torch.tensor(0.5, device=device).reshape(1, 1, 1, 1, 1)
    assert ms_deform_attn(value, [(2, 2)], locations, weights).item() == 1.0


@pytest.mark.parametrize("shapes", [((5, 5),), ((4, 3), (1, 1), (2, 5))])
def test_equals_loops(
    device: torch.device, implementation: str, shapes: tuple[tuple[int, int], ...]
) -> None:
    case = make_case(width=5, shapes=shapes)
    value, locations, weights = case.tensors
    output = case.run(*(x.to(device) for x in case.tensors))
    torch.testing.assert_close(output.cpu(), loops(value, shapes, locations, weights))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", WIDTHS)
def test_head_widths(
    device: torch.device, compiled: None, width: int, form: str, dtype: torch.dtype
) -> None:
    case = make_case(form, width=width, heads=3, points=3, dtype=dtype, device=device)
    actual = with_gradients(case.run, case.tensors)
    assert_same(actual, with_gradients(case.run_reference, case.tensors), TOLERANCES[dtype])


@pytest.mark.parametrize(("levels", "points"), LEVELS_AND_POINTS)
@pytest.mark.parametrize("form", ["plain", "boxes"])
def test_levels_and_points(
    device: torch.device, compiled: None, form: str, levels: int, points: int
) -> None:
    case = make_case(form, width=7, points=points, shapes=FIVE_SHAPES[:levels], device=device)
    actual = with_gradients(case.run, case.tensors)
    assert_same(actual, with_gradients(case.run_reference, case.tensors), 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("form", FORMS)
def test_all_sizes(device: torch.device, compiled: None, form: str, width: int) -> None:
    """Every width with all numbers of levels and points, in both types."""
    for levels in range(1, 6):
        for points in range(1, 9):
            for dtype, tolerance in TOLERANCES.items():
                shapes = FIVE_SHAPES[:levels]
                size = {"width": width, "points": points, "shapes": shapes}
                case = make_case(form, grid=(1, 5), dtype=dtype, device=device, **size)
                actual = with_gradients(case.run, case.tensors)
                expected = with_gradients(case.run_reference, case.tensors)
                assert_same(actual, expected, tolerance)


@pytest.mark.parametrize("queries", [1, 2, 13, 127])
@pytest.mark.parametrize(("batch", "heads"), [(1, 1), (3, 5)])
def test_numbers_of_queries_images_and_heads(
    device: torch.device, compiled: None, queries: int, batch: int, heads: int
) -> None:
    for form in ("plain", "grid"):
        size = {"batch": batch, "heads": heads, "grid": (1, queries)}
        case = make_case(form, width=6, device=device, **size)
        actual = with_gradients(case.run, case.tensors)
        assert_same(actual, with_gradients(case.run_reference, case.tensors), 1e-11)


@pytest.mark.parametrize("shapes", [((1, 1),), ((1, 1), (1, 1)), ((1, 7), (6, 1)), ((64, 64),)])
@pytest.mark.parametrize("form", ["plain", "points"])
def test_shapes_of_maps(
    device: torch.device, compiled: None, form: str, shapes: tuple[tuple[int, int], ...]
) -> None:
    case = make_case(form, width=4, shapes=shapes, device=device)
    actual = with_gradients(case.run, case.tensors)
    assert_same(actual, with_gradients(case.run_reference, case.tensors), 1e-11)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("empty", ["batch", "queries"])
def test_nothing_to_do(device: torch.device, implementation: str, form: str, empty: str) -> None:
    if empty == "queries" and form == "grid":
        pytest.skip("a grid has a cell")
    size = {"batch": 0} if empty == "batch" else {"grid": (0, 3)}
    case = make_case(form, device=device, **size)
    output, *gradients = with_gradients(case.run, case.tensors)
    assert output.shape == (case.tensors[0].shape[0], case.tensors[1].shape[1], 6)
    for gradient, tensor in zip(gradients, case.tensors, strict=True):
        assert gradient.shape == tensor.shape
        assert not gradient.any()


@pytest.mark.parametrize("form", FORMS)
def test_strided_inputs(device: torch.device, implementation: str, form: str) -> None:
    """Transposed in memory, cut out of a larger tensor, and with a strided gradient."""
    case = make_case(form, device=device)
    expected = with_gradients(case.run_reference, case.tensors)
    grad_output = make_grad_output(expected[0]).transpose(0, 1).contiguous().transpose(0, 1)
    transposed = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in case.tensors]
    wider = [torch.nn.functional.pad(x, (1, 1)) for x in case.tensors]
    cut = [x[..., 1:-1] for x in wider]
    for tensors in (transposed, cut):
        assert not tensors[0].is_contiguous()
        assert_same(with_gradients(case.run, tensors, grad_output), expected, 1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_expanded_inputs(device: torch.device, implementation: str, form: str) -> None:
    """One image, shown twice without a copy; and a gradient that is one number."""
    case = make_case(form, batch=1, device=device)
    expanded = [x.expand(2, *x.shape[1:]) for x in case.tensors]
    copied = [x.contiguous() for x in expanded]
    one = torch.ones((), dtype=torch.float64, device=device).expand(2, 6, 6)
    actual = with_gradients(case.run, expanded, one)
    assert_same(actual, with_gradients(case.run_reference, copied, one), 1e-11)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -3e9])
def test_unreachable_points_read_zero_and_spoil_no_gradient(
    device: torch.device, implementation: str, form: str, bad: float
) -> None:
    case = make_case(form, dtype=torch.float32, device=device)
    case.tensors[1][:, 0] = bad
    output, *gradients = with_gradients(case.run, case.tensors)
    assert (output[:, 0] == 0).all()
    assert all(x.isfinite().all() for x in gradients)
    assert (gradients[1][:, 0] == 0).all()
    assert (gradients[2][:, 0] == 0).all()
    expected = with_gradients(case.run_reference, case.tensors)
    assert_same([output, *gradients], expected, 2e-5)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bad", [-0.5, 1.5])
def test_exactly_one_pixel_outside_nothing_is_read(
    device: torch.device, implementation: str, bad: float, axis: int
) -> None:
    size = {"batch": 1, "grid": (1, 1), "heads": 1, "width": 1, "points": 1}
    case = make_case(**size, shapes=((1, 1),), device=device)
    case.tensors[1].fill_(0.5)[..., axis] = bad
    assert all((x == 0).all() for x in with_gradients(case.run, case.tensors))


def test_pixels_that_no_sample_reads_do_not_matter(
    device: torch.device, implementation: str
) -> None:
    """Corners of the map are NaN; samples stand in its middle, on its border and outside."""
    weights = torch.tensor([1.0, 1.0, math.inf, 1.0]).reshape(1, 1, 1, 1, 4)
    value = torch.randn(1, 16, 1, 5)
    value[0, [0, 3, 12, 15]] = math.nan
    locations = torch.tensor([[0.45, 0.55], [0.5, 0.01], [7.0, 0.5], [-0.125, -0.125]])
    locations = locations.reshape(1, 1, 1, 1, 4, 2)
    case = dataclasses.replace(make_case(), shapes=[(4, 4)])
    tensors = [x.to(device) for x in (value, locations, weights)]
    assert all(x.isfinite().all() for x in with_gradients(case.run, tensors))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_locations_and_weights_of_other_types_are_converted(
    device: torch.device, implementation: str, dtype: torch.dtype
) -> None:
    case = make_case(dtype=dtype, device=device)
    mixed = case.converted(dtype, dtype, torch.float64)
    rounded = [case.tensors[0], mixed.tensors[1].float(), mixed.tensors[2].float()]
    actual, *gradients = with_gradients(mixed.run, mixed.tensors)
    assert actual.dtype == dtype
    assert [x.dtype for x in gradients] == [dtype, dtype, torch.float64]
    torch.testing.assert_close(actual, case.run(*rounded), rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_only_wanted_gradients(device: torch.device, implementation: str, form: str) -> None:
    """What a graph does not need is neither computed nor returned."""
    case = make_case(form, broadcast=True, device=device)
    expected = with_gradients(case.run_reference, case.tensors)[1:]
    for wanted, gradient in enumerate(expected):
        tensors = [x.detach().requires_grad_(i == wanted) for i, x in enumerate(case.tensors)]
        output = case.run(*tensors)
        output.backward(make_grad_output(output))
        others: list[Tensor | None] = [x.grad for x in tensors]
        assert_same([others.pop(wanted)], [gradient], 1e-11)
        assert all(x is None for x in others)


def test_nothing_is_recorded_without_a_gradient(device: torch.device, implementation: str) -> None:
    case = make_case(device=device)
    assert not case.run().requires_grad
    with torch.no_grad():
        assert not case.run(*(x.requires_grad_() for x in case.tensors)).requires_grad

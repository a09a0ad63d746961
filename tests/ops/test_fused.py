"""The fused form: that it equals the plain form after the usual steps before it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from piip_d2.ops import ms_deform_attn, ms_deform_attn_fused
from piip_d2.ops.reference import cell_centers
from tests.ops.cases import FIVE_SHAPES, REFERENCES, Case, assert_same, make_case, with_gradients


def plain_form(
    case: Case, value: Tensor, offsets: Tensor, logits: Tensor, reference: Tensor
) -> Tensor:
    """Locations and weights in PyTorch, as modules without a fused operator make them."""
    weights = logits.flatten(3).softmax(-1).reshape(logits.shape)
    points = reference[:, :, None, :, None]
    if reference.shape[-1] == 4:
        locations = points[..., :2] + offsets / offsets.shape[-2] * points[..., 2:] * 0.5
    else:
        sizes = torch.tensor([[width, height] for height, width in case.shapes]).to(offsets)
        locations = points + offsets / sizes[:, None]
    return ms_deform_attn(value, case.shapes, locations, weights)


@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize("form", ["points", "boxes"])
def test_equals_plain_form(
    device: torch.device, implementation: str, form: str, broadcast: bool
) -> None:
    case = make_case(form, shapes=FIVE_SHAPES, broadcast=broadcast, device=device)
    expected = with_gradients(lambda *tensors: plain_form(case, *tensors), case.tensors)
    assert_same(with_gradients(case.run, case.tensors), expected, 1e-11)


@pytest.mark.parametrize("leading", [(2, 1), (1, 2)], ids=["one level", "one image"])
@pytest.mark.parametrize("size", [2, 4])
def test_images_or_levels_may_share_reference_points(
    device: torch.device, implementation: str, leading: tuple[int, int], size: int
) -> None:
    case = make_case("boxes", device=device)
    images, levels = leading
    reference = case.tensors[3][:images, :, :levels, :size]
    tensors = [*case.tensors[:3], reference]
    expected = with_gradients(case.run, [*case.tensors[:3], reference.expand(2, -1, 2, -1)])
    actual = with_gradients(case.run, tensors)
    expected[4] = expected[4].sum_to_size(reference.shape)
    assert_same(actual, expected, 1e-12)


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (7, 1)])
def test_grid_of_queries_is_their_cell_centres(
    device: torch.device, implementation: str, grid: tuple[int, int]
) -> None:
    case = make_case("grid", grid=grid, device=device)
    centers = cell_centers(*grid, device=device, dtype=torch.float64)

    def with_points(*tensors: Tensor) -> Tensor:
        value, offsets, logits = tensors
        return ms_deform_attn_fused(value, case.shapes, offsets, logits, reference_points=centers)

    expected = with_gradients(with_points, case.tensors)
    assert_same(with_gradients(case.run, case.tensors), expected, 1e-12)


@pytest.mark.parametrize("projected", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", REFERENCES)
def test_types_of_offsets_and_logits(
    device: torch.device, implementation: str, form: str, projected: torch.dtype
) -> None:
    """Gradients have the types of their tensors; all that is rounded is what is stored."""
    case = make_case(form, dtype=torch.bfloat16, projected=projected, device=device)
    actual = with_gradients(case.run, case.tensors)
    wanted = [torch.bfloat16, torch.bfloat16, projected, projected, torch.float32]
    assert [x.dtype for x in actual] == wanted[: len(actual)]
    exact = case.converted(torch.float32)
    for rounded, expected in zip(actual, with_gradients(exact.run, exact.tensors), strict=True):
        torch.testing.assert_close(rounded.float(), expected, rtol=0.01, atol=1e-4)


def test_different_types_of_offsets_and_logits_are_unified(
    device: torch.device, implementation: str
) -> None:
    case = make_case("points", dtype=torch.bfloat16, device=device)
    mixed = case.converted(torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16)
    rounded = mixed.converted(torch.bfloat16, torch.float32, torch.float32, torch.float32)
    output, *gradients = with_gradients(mixed.run, mixed.tensors)
    assert [x.dtype for x in gradients] == [x.dtype for x in mixed.tensors]
    torch.testing.assert_close(output, rounded.run(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("dtype", "projected"), [(torch.bfloat16, torch.float16), (torch.float32, torch.float64)]
)
def test_any_type_of_offsets_and_logits(
    device: torch.device, implementation: str, dtype: torch.dtype, projected: torch.dtype
) -> None:
    case = make_case("points", dtype=dtype, projected=projected, device=device)
    output, *gradients = with_gradients(case.run, case.tensors)
    assert [x.dtype for x in gradients] == [dtype, projected, projected, torch.float32]
    converted = case.converted(dtype, torch.float32, torch.float32, torch.float32)
    torch.testing.assert_close(output, converted.run(), rtol=0, atol=0)


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_great_logits_do_not_overflow(
    device: torch.device, implementation: str, shift: float
) -> None:
    case = make_case("grid", dtype=torch.float32, device=device)
    value, offsets, logits = case.tensors
    logits = (logits * 8).round() / 8  # so that the shift loses nothing
    expected = with_gradients(case.run, [value, offsets, logits])
    assert_same(with_gradients(case.run, [value, offsets, logits + shift]), expected, 1e-5)


def test_a_logit_of_minus_infinity_switches_a_point_off(
    device: torch.device, implementation: str
) -> None:
    case = make_case("grid", points=3, device=device)
    value, offsets, logits = case.tensors
    logits[..., 2] = -torch.inf
    fewer = [value, offsets[..., :2, :], logits[..., :2]]
    actual = with_gradients(case.run, [value, offsets, logits])
    expected = with_gradients(case.run, fewer)
    assert (actual[3][..., 2] == 0).all()
    actual[2:] = [actual[2][..., :2, :], actual[3][..., :2]]
    assert_same(actual, expected, 1e-11)


def test_saves_what_it_was_given(device: torch.device, compiled: None) -> None:
    """Neither locations nor softmax are kept for the backward pass."""
    case = make_case("boxes", dtype=torch.bfloat16, device=device)
    tensors = [x.requires_grad_() for x in case.tensors]
    saved: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        case.run(*tensors)
    assert sorted(saved) == sorted(x.data_ptr() for x in tensors)

"""Derivatives of the operators: first, second and third, and of many outputs at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.ops.cases import REFERENCES, Case, assert_same, make_case

FORMS = ("plain", *REFERENCES)


def tiny(form: str, device: torch.device) -> Case:
    case = make_case(form, batch=1, grid=(1, 2), width=2, broadcast=form == "boxes", device=device)
    for tensor in case.tensors:
        tensor.requires_grad_()
    return case


@pytest.mark.parametrize("form", FORMS)
def test_first(device: torch.device, compiled: None, form: str) -> None:
    case = tiny(form, device)
    assert torch.autograd.gradcheck(case.run, case.tensors)


@pytest.mark.parametrize("form", FORMS)
def test_second(device: torch.device, compiled: None, form: str) -> None:
    case = tiny(form, device)
    assert torch.autograd.gradgradcheck(case.run, case.tensors, fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_second(device: torch.device, compiled: None, form: str) -> None:
    case = tiny(form, device)
    assert torch.autograd.gradgradcheck(case.run, case.tensors)


@pytest.mark.parametrize("form", FORMS)
def test_third(device: torch.device, compiled: None, form: str) -> None:
    case = tiny(form, device)
    assert_same(thrice(case.run, case.tensors), thrice(case.run_reference, case.tensors), 1e-9)


def thrice(run: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    total = run(*tensors).sin().sum()
    for _ in range(2):
        gradients = torch.autograd.grad(total, tensors, create_graph=True)
        total = sum((x.sin().sum() for x in gradients), torch.zeros_like(total))
    return torch.autograd.grad(total, tensors)


@pytest.mark.parametrize("form", ["plain", "boxes"])
def test_second_derivative_for_one_tensor(device: torch.device, compiled: None, form: str) -> None:
    """A penalty on the gradient for the value alone, and so on, with the others frozen."""
    case = make_case(form, device=device)
    for wanted, tensor in enumerate(case.tensors):
        results = []
        for run in (case.run, case.run_reference):
            leaf = tensor.detach().requires_grad_()
            output = run(*case.tensors[:wanted], leaf, *case.tensors[wanted + 1 :]).square()
            (gradient,) = torch.autograd.grad(output.sum(), leaf, create_graph=True)
            results.append(torch.autograd.grad(gradient.square().sum(), leaf))
        assert_same(*results, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_second_derivative_in_low_precision(
    device: torch.device, compiled: None, dtype: torch.dtype
) -> None:
    """It keeps the types; its numbers are those of float64 within the precision."""
    case = make_case("points", dtype=dtype, device=device)
    results = []
    for tested in (case, case.converted(torch.float64)):
        tensors = [x.requires_grad_() for x in tested.tensors]
        gradients = torch.autograd.grad(tested.run(*tensors).sum(), tensors, create_graph=True)
        total = sum((x.double().square().sum() for x in gradients), torch.zeros(()).to(device))
        results.append(torch.autograd.grad(total, tensors))
    assert [x.dtype for x in results[0]] == [x.dtype for x in case.tensors]
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    assert_same([x.double() for x in results[0]], results[1], tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_many_outputs_at_once(device: torch.device, compiled: None, form: str) -> None:
    """The rows of a Jacobian in one backward pass, which maps it over gradients."""
    case = tiny(form, device)
    rows = torch.eye(8, dtype=torch.float64, device=device).reshape(8, 1, 2, 4)
    results = []
    for run in (case.run, case.run_reference):
        output = run(*case.tensors)
        results.append(torch.autograd.grad(output, case.tensors, rows, is_grads_batched=True))
    assert_same(*results, 1e-11)

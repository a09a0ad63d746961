"""Transposed convolutions of kernel and stride 2."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.ops import doubling


def _inputs(dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = ((2, 6, 5, 3), (6, 4, 2, 2), (4,))
    x, *others = (torch.randn(shape, dtype=dtype) for shape in shapes)
    x = x.to(memory_format=torch.channels_last)
    return [tensor.requires_grad_() for tensor in (x, *others)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk_elements", [1, 200, 1 << 22])
@pytest.mark.parametrize("is_expanded", [True, False])
def test_values_and_gradients(
    dtype: torch.dtype, chunk_elements: int, is_expanded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["piip_d2.ops.doubling"], "_CHUNK_ELEMENTS", chunk_elements)
    gradient = torch.randn((1, 4, 1, 1) if is_expanded else (2, 4, 10, 6), dtype=dtype)
    results = []
    for function in (doubling, lambda x, weight, bias: F.conv_transpose2d(x, weight, bias, 2)):
        inputs = _inputs(dtype)
        output = function(*inputs)
        assert output.is_contiguous(memory_format=torch.channels_last)
        gradients = torch.autograd.grad(output, inputs, gradient.expand_as(output))
        results.append([output, *gradients])
    torch.testing.assert_close(*results)


def test_second_derivative() -> None:
    inputs = _inputs(torch.float32)
    results = []
    for function in (doubling, lambda x, weight, bias: F.conv_transpose2d(x, weight, bias, 2)):
        first = torch.autograd.grad(function(*inputs).pow(3).sum(), inputs[:2], create_graph=True)
        results.append(torch.autograd.grad([x.square().sum() for x in first], inputs))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-2)


def test_autocast_and_transforms() -> None:
    x, weight, bias = _inputs(torch.float32)
    expected = F.conv_transpose2d(x, weight, bias, 2)
    with torch.autocast("cpu", torch.bfloat16):
        output = doubling(x, weight, bias)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, atol=0.1, rtol=0.05)
    plain = [tensor.detach() for tensor in (x, weight, bias)]
    gradient = torch.func.grad(lambda x: doubling(x, *plain[1:]).square().sum())(plain[0])
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected.square().sum(), x)[0], rtol=1e-4, atol=1e-4
    )

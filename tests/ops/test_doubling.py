"""Transposed convolutions of kernel and stride 2."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from piip_d2 import ops
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


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (1,), (2,)])
def test_nothing_is_computed_for_what_is_frozen(
    frozen: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = _inputs(torch.float32)
    for number in frozen:
        inputs[number].requires_grad_(False)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    expected = torch.autograd.grad(F.conv_transpose2d(*inputs, 2).square().sum(), wanted)
    output = doubling(*inputs)
    products = mock.Mock(wraps=ops.linear)
    monkeypatch.setattr(sys.modules["piip_d2.ops.doubling"], "linear", products)
    with _Operators() as operators:
        found = torch.autograd.grad(output.square().sum(), wanted)
    torch.testing.assert_close(found, expected)
    # One product for each row of the kernel, and one sum for each after that of the square.
    assert products.call_count == (0 if 0 in frozen else 2)
    assert operators.names.count("addmm_") == (0 if 1 in frozen else 2)
    assert operators.names.count("sum") == (1 if 2 in frozen else 5)


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

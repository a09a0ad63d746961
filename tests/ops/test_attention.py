"""Attention with few keys in 16 bits against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.ops import attention


def _heads(num_queries: int, num_keys: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    sizes = (num_queries, num_keys, num_keys)
    # Queries, keys and values stand side by side, as projections give them.
    return [torch.randn(2, size, 3, 8).to(dtype).transpose(1, 2) for size in sizes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bias_shape", [None, (1, 3, 5, 7), (2, 1, 1, 7)])
@pytest.mark.parametrize("use_autocast", [False, True])
def test_values_and_gradients(
    dtype: torch.dtype, bias_shape: tuple[int, ...] | None, use_autocast: bool, device: torch.device
) -> None:
    heads = [tensor.to(device).requires_grad_() for tensor in _heads(5, 7, dtype)]
    bias = None if bias_shape is None else torch.randn(bias_shape, device=device)
    exact = [tensor.detach().double().requires_grad_() for tensor in heads]
    with torch.autocast(device.type, torch.bfloat16, enabled=use_autocast):
        output = attention(*heads, bias)
    expected = F.scaled_dot_product_attention(
        *exact, attn_mask=None if bias is None else bias.double()
    )
    weight = torch.randn(output.shape, device=device).to(dtype)
    gradients = torch.autograd.grad(output, heads, weight.to(output.dtype))
    expected_gradients = torch.autograd.grad(expected, exact, weight.double())
    is_narrow = use_autocast or dtype == torch.bfloat16
    tolerance = {"atol": 4e-2, "rtol": 4e-2} if is_narrow else {"atol": 2e-5, "rtol": 2e-5}
    torch.testing.assert_close(output.double(), expected, **tolerance)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours.double(), theirs, **tolerance)


def test_autocast_takes_nothing_to_32_bits() -> None:
    heads = _heads(4, 6, torch.bfloat16)
    expected = attention(*heads)
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(*heads)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, expected, atol=0, rtol=0)


def test_many_keys_make_no_matrix_of_weights() -> None:
    heads = _heads(2, 1025, torch.bfloat16)
    expected = F.scaled_dot_product_attention(*heads)
    torch.testing.assert_close(attention(*heads), expected, atol=0, rtol=0)


def test_exported_programs_hold_for_any_number_of_keys() -> None:
    class Attention(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attention(query, key, value)

    keys = torch.export.Dim("keys", min=2, max=5000)
    program = torch.export.export(
        Attention(),
        tuple(_heads(5, 7, torch.bfloat16)),
        dynamic_shapes={"query": None, "key": {2: keys}, "value": {2: keys}},
    )
    heads = _heads(5, 2000, torch.bfloat16)
    torch.testing.assert_close(program.module()(*heads), attention(*heads), atol=2e-2, rtol=2e-2)

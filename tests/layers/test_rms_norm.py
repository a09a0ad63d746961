"""RMSNorm against its formula."""

from __future__ import annotations

import warnings

import pytest
import torch

from piip_d2.layers import RMSNorm


def test_formula() -> None:
    norm = RMSNorm(6, eps=0.5).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    mean_square = (x * x).sum(dim=-1, keepdim=True) / 6
    torch.testing.assert_close(norm(x), x / (mean_square + 0.5).sqrt() * norm.weight)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_16_bit_features_are_normalised_in_32(dtype: torch.dtype) -> None:
    """What autocast hands to the norm, and what a model of 16 bits does."""
    norm = RMSNorm(64, eps=1e-6).to(dtype)
    x = 100 * torch.randn(8, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = norm(x.bfloat16())
    assert output.dtype == dtype
    exact = RMSNorm(64, eps=1e-6)(x.bfloat16().float())
    torch.testing.assert_close(output.float(), exact, atol=0, rtol=torch.finfo(dtype).eps)

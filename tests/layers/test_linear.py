"""Calls of linear layers, and of what users put in their place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm

from piip_d2.layers import DeformableCrossAttention, Linear, MSDeformAttn
from piip_d2.modeling.backbone.interaction import CrossBranchAttention


def _prune(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.5)


def _listen(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda module, inputs, output: output * 2.0)


@pytest.mark.parametrize("part", ["feat_proj", "attn.deform.sampling_offsets"])
@pytest.mark.parametrize("change", [spectral_norm, _prune, _listen])
def test_hooks_of_layers_are_heeded(part: str, change: Callable[[nn.Module], object]) -> None:
    torch.manual_seed(0)
    deform = MSDeformAttn(32, num_heads=4, kv_dim=32)
    attention = CrossBranchAttention(
        32, 32, DeformableCrossAttention(deform), feat_proj=Linear(16, 32)
    )
    nn.init.ones_(attention.attn_gamma)
    nn.init.normal_(deform.sampling_offsets.weight)
    layer = attention.get_submodule(part)
    change(layer)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    layer.register_forward_hook(count)
    # Large enough for the ways that save memory.
    query = torch.randn(1, 48, 48, 32, requires_grad=True)
    feature = torch.randn(1, 24, 24, 16, requires_grad=True)
    for step in range(1, 3):
        attention(query, feature).square().mean().backward()
        assert calls == step
    learned = dict(layer.named_parameters())
    weight = learned.get("weight_orig", learned.get("weight"))
    assert weight is not None and weight.grad is not None and weight.grad.abs().sum() > 0

"""Maps keep their channels last in memory on the way through the network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.modeling.backbone import (
    ConvStem,
    FeatureMaps,
    PIIPNetwork,
    ViTBranch,
    build_network,
)


def _network() -> PIIPNetwork:
    branches = [
        ViTBranch(
            img_size=side,
            embed_dim=width,
            depth=2,
            num_heads=2,
            window_size=3,
            pretrain_img_size=64,
            patch_embed=ConvStem(width) if use_stem else None,
        )
        for side, width, use_stem in ((128, 32, True), (64, 64, False))
    ]
    return build_network(branches, num_interactions=2)


@pytest.mark.parametrize("is_training", [True, False])
def test_no_layer_changes_the_layout(is_training: bool) -> None:
    network = _network().train(is_training)
    images = torch.randn(2, 3, 128, 160)
    with torch.set_grad_enabled(is_training):
        seen = [x for maps in network.forward_intermediates(images).values() for x in maps]
        seen += network(images).values()
    assert seen
    for x in seen:
        assert x.is_contiguous(memory_format=torch.channels_last), (x.shape, x.stride())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("is_training", [True, False])
def test_doubling_is_a_transposed_convolution(
    dtype: torch.dtype, is_training: bool, device: torch.device
) -> None:
    layer = FeatureMaps(32, 8, ["res2"]).maps["res2"].to(device, dtype)
    x = torch.randn(2, 32, 3, 5, device=device, dtype=dtype)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    results: list[list[Tensor]] = []
    for function in (layer, lambda x: F.conv_transpose2d(x, layer[0].weight, layer[0].bias, 2)):
        with torch.set_grad_enabled(is_training):
            output = function(x)
        results.append([output])
        if is_training:
            wanted = [x, layer[0].weight, layer[0].bias]
            results[-1] += torch.autograd.grad(output.square().sum(), wanted)
    torch.testing.assert_close(*results)
    assert results[0][0].is_contiguous(memory_format=torch.channels_last)

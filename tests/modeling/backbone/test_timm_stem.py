"""Stages of a network of timm as a patch embedding."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from piip_d2.modeling.backbone import TimmStem, ViTBranch


def test_equals_the_stages_of_the_network() -> None:
    stem = TimmStem(12, stride=8)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    weights = {k.removeprefix("model."): v for k, v in stem.body.state_dict().items()}
    assert network.load_state_dict(weights, strict=False).unexpected_keys == []
    images = torch.rand(2, 3, 64, 48)
    expected = network.blocks[:3](network.bn1(network.conv_stem(images)))
    torch.testing.assert_close(stem.body(images)[0], expected)
    assert stem(images).shape == (2, 8, 6, 12)


@pytest.mark.parametrize("stride", [4, 16])
def test_map_has_the_stride(stride: int) -> None:
    # 70 and 45 pixels are no multiples: the rest is dropped.
    stem = TimmStem(6, stride=stride)
    assert stem(torch.rand(1, 3, 70, 45)).shape == (1, 70 // stride, 45 // stride, 6)


@pytest.mark.parametrize("frozen", [True, False])
def test_what_training_changes(frozen: bool) -> None:
    stem = TimmStem(8, frozen=frozen).train()
    before = copy.deepcopy(stem.body.state_dict())
    optimizer = torch.optim.SGD([p for p in stem.parameters() if p.requires_grad], lr=0.1)
    stem(torch.rand(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    unchanged = {k for k, v in stem.body.state_dict().items() if torch.equal(v, before[k])}
    assert (unchanged == set(before)) == frozen
    assert stem.proj.weight.grad is not None


def test_other_networks_and_strides() -> None:
    assert TimmStem(8, network="convnext_atto")(torch.rand(1, 3, 32, 32)).shape == (1, 4, 4, 8)
    with pytest.raises(ValueError, match=r"stages of the strides \[2, 4, 8, 16, 32\], got stride"):
        TimmStem(8, stride=5)


def test_in_a_branch() -> None:
    stem = TimmStem(16)
    branch = ViTBranch(img_size=64, embed_dim=16, depth=1, num_heads=2, patch_embed=stem)
    assert branch.embed(torch.rand(1, 3, 64, 64)).shape == (1, 8, 8, 16)

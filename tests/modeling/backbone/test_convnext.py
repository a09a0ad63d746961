"""ConvNeXt as a branch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from piip_d2.modeling.backbone.convnext import ConvNeXtBranch

SIZES: dict[str, Any] = {"depths": (1, 2, 3, 1), "dims": (8, 12, 16, 16)}


@pytest.fixture
def branch() -> ConvNeXtBranch:
    branch = ConvNeXtBranch(img_size=64, **SIZES).eval()
    for parameter in branch.parameters():
        nn.init.normal_(parameter, std=0.3)
    return branch


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (71, 98)])
def test_equals_timm(branch: ConvNeXtBranch, size: tuple[int, int]) -> None:
    network = timm.create_model("convnext_tiny", num_classes=0, **SIZES).eval()
    loaded = network.load_state_dict(branch.state_dict(), strict=False)
    assert loaded.missing_keys == ["head.norm.weight", "head.norm.bias"]
    assert not loaded.unexpected_keys
    images = torch.rand(2, 3, *size)
    found = branch.forward_blocks(branch.embed(images), 0, branch.num_blocks)
    torch.testing.assert_close(found.permute(0, 3, 1, 2), network.forward_features(images))


def test_down_sampling_layers_are_blocks(branch: ConvNeXtBranch) -> None:
    assert branch.num_blocks == sum(SIZES["depths"]) + 3
    strides = [branch.stride_after(block) for block in range(branch.num_blocks)]
    assert strides == [4, *[8] * 3, *[16] * 4, *[32] * 2]
    channels = [branch.channels_after(block) for block in range(branch.num_blocks)]
    assert channels == [8, *[12] * 3, *[16] * 6]
    assert [isinstance(block, nn.Sequential) for block in branch.block_list] == [
        before < after for before, after in pairwise([4, *strides])
    ]


def test_sizes_are_those_that_are_told(branch: ConvNeXtBranch) -> None:
    x = branch.embed(torch.rand(1, 3, 64, 128))
    assert x.shape == (1, 16, 32, 8)
    for block in range(branch.num_blocks):
        x = branch.forward_blocks(x, block, block + 1)
        stride = branch.stride_after(block)
        assert x.shape == (1, 64 // stride, 128 // stride, branch.channels_after(block))


def test_drop_path_grows_over_the_residual_blocks() -> None:
    branch = ConvNeXtBranch(img_size=64, drop_path_rate=0.6, **SIZES)
    paths = [module for module in branch.modules() if isinstance(module, DropPath)]
    # The first block drops nothing.
    assert [path.drop_prob for path in paths] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_recomputing_activations_changes_nothing(branch: ConvNeXtBranch) -> None:
    images = torch.rand(1, 3, 64, 64)

    def gradients() -> list[Tensor]:
        branch.zero_grad()
        branch.forward_blocks(branch.embed(images), 0, branch.num_blocks).square().sum().backward()
        return [p.grad.clone() for p in branch.parameters() if p.grad is not None]

    branch.train()
    expected = gradients()
    branch.use_act_checkpoint = True
    for found, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        branch = ConvNeXtBranch(
            img_size=64, depths=(3, 3, 27, 3), dims=(192, 384, 768, 1536), drop_path_rate=0.4
        )
    # The published ConvNeXt-L without its final norm and its classifier.
    assert sum(p.numel() for p in branch.parameters()) == 197767336 - 2 * 1536 - 1537 * 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (1, 2)}, "one entry for each stage, got 2 and 4"),
        ({"depths": (), "dims": ()}, "one entry for each stage, got 0 and 0"),
        ({"depths": (1, 0, 1, 1)}, r"must be positive, got \(1, 0, 1, 1\)"),
        ({"drop_path_rate": 1.0}, r"must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_sizes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvNeXtBranch(img_size=64, **{**SIZES, **change})

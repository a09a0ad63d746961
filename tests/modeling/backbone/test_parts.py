"""Branch, patch embedding, interactions, merge and feature maps, each alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from piip_d2.modeling.backbone import (
    BranchMerge,
    ConvStem,
    FeatureMaps,
    InteractionStage,
    LightBranchMerge,
    PatchEmbed,
    SingleConvBranchMerge,
    StageFeatureMaps,
    UnmergedBranch,
    ViTBranch,
    build_interactions,
    build_vit_branch,
)


def make_branch(**options: Any) -> ViTBranch:
    sizes = {"img_size": 64, "embed_dim": 32, "depth": 3, "num_heads": 2, "pretrain_img_size": 64}
    return ViTBranch(**{**sizes, **options})


def test_branch_equals_timm() -> None:
    """timm's transformer without class token and final norm is the oracle."""
    branch = make_branch(init_values=0.5).eval()
    oracle = VisionTransformer(
        img_size=64,
        embed_dim=32,
        depth=3,
        num_heads=2,
        init_values=0.5,
        class_token=False,
        global_pool="",
        num_classes=0,
    ).eval()
    oracle.norm = nn.Identity()
    oracle.load_state_dict(branch.state_dict())
    images = torch.randn(2, 3, 64, 64)
    output = branch.forward_blocks(branch.embed(images), 0, 3)
    torch.testing.assert_close(output.flatten(1, 2), oracle(images), atol=1e-5, rtol=1e-5)


def test_branch_drops_left_over_pixels() -> None:
    branch = make_branch()
    images = torch.randn(1, 3, 70, 95)
    assert branch.embed(images).shape == (1, 4, 5, 32)
    torch.testing.assert_close(branch.embed(images), branch.embed(images[:, :, :64, :80]))


def test_branch_runs_in_pieces() -> None:
    branch = make_branch(window_size=[2, None, 3]).eval()
    x = branch.embed(torch.randn(1, 3, 64, 64))
    in_pieces = branch.forward_blocks(branch.forward_blocks(x, 0, 1), 1, 3)
    torch.testing.assert_close(in_pieces, branch.forward_blocks(x, 0, 3))


def test_activation_checkpointing_changes_nothing() -> None:
    branch = make_branch(window_size=2)
    images = torch.randn(1, 3, 64, 64)
    gradients = []
    for use_act_checkpoint in (False, True):
        branch.use_act_checkpoint = use_act_checkpoint
        branch.zero_grad()
        branch.forward_blocks(branch.embed(images), 0, 3).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in branch.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [0.2, 0.2, 0.2]), ("linear", [0.0, 0.1, 0.2])]
)
def test_drop_path_schedules(schedule: str, expected: list[float]) -> None:
    branch = make_branch(drop_path_rate=0.2, drop_path_schedule=schedule)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in branch.blocks]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 0}, "img_size must be positive"),
        ({"act": "relu"}, "act must be one of"),
        ({"window_size": [2, 2]}, "one entry for each of the 3 blocks, got 2"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\)"),
        ({"drop_path_schedule": "cosine"}, "drop_path_schedule must be one of"),
    ],
)
def test_branch_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_branch(**options)


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="preset must be one of.*'vit_huge'"):
        build_vit_branch("vit_huge", img_size=224)


@pytest.mark.parametrize("stride", [2, 8, 16])
def test_conv_stem_has_the_grid_of_a_patch_embedding(stride: int) -> None:
    images = torch.randn(1, 3, 70, 95)
    stem = ConvStem(48, stride=stride)
    assert stem(images).shape == PatchEmbed(48, patch_size=stride)(images).shape


@pytest.mark.parametrize("stride", [1, 12])
def test_conv_stem_stride(stride: int) -> None:
    with pytest.raises(ValueError, match="stride must be a power of two"):
        ConvStem(32, stride=stride)


@pytest.mark.parametrize("attention", ["deformable", "regular"])
@pytest.mark.parametrize("with_projection", [True, False])
def test_new_interactions_are_the_identity(attention: str, with_projection: bool) -> None:
    (stage,) = build_interactions(
        [[64, 32, 16]], attention=attention, num_heads=4, with_projection=with_projection
    )
    maps = [torch.randn(1, 2, 3, 64), torch.randn(1, 4, 5, 32), torch.randn(1, 6, 7, 16)]
    for before, after in zip(maps, stage.eval()(maps), strict=True):
        torch.testing.assert_close(before, after)


def test_news_travel_down_within_a_stage_and_up_only_one_step() -> None:
    """Pairs are updated from the highest resolution down, both directions from old values."""
    (stage,) = build_interactions([[16, 16, 16]], num_heads=4, drop_path_rate=0.0)
    for name, parameter in stage.named_parameters():
        if "gamma" in name:
            nn.init.ones_(parameter)
    maps = [torch.randn(1, 2, 2, 16) for _ in range(3)]

    def touched_by(index: int) -> list[bool]:
        changed = [x + (number == index) for number, x in enumerate(maps)]
        pairs = zip(stage(maps), stage(changed), strict=True)
        return [not torch.equal(before, after) for before, after in pairs]

    assert touched_by(2) == [True, True, True]
    assert touched_by(1) == [True, True, True]
    assert touched_by(0) == [True, True, False]


def test_interaction_without_ffn_has_no_ffn_parameters() -> None:
    (stage,) = build_interactions([[16, 16]], num_heads=4, with_ffn=False)
    assert not any("ffn" in name for name, _ in stage.named_parameters())
    assert stage([torch.zeros(1, 2, 2, 16)] * 2)[0].shape == (1, 2, 2, 16)


def test_interaction_messages() -> None:
    with pytest.raises(ValueError, match="attention must be one of"):
        build_interactions([[16, 16]], attention="sparse")
    with pytest.raises(ValueError, match="1 units join 2 branches, got 3 maps"):
        build_interactions([[16, 16]], num_heads=4)[0]([torch.zeros(1, 1, 1, 16)] * 3)
    assert isinstance(build_interactions([[16]])[0], InteractionStage)


@pytest.mark.parametrize("merge_type", [BranchMerge, SingleConvBranchMerge, LightBranchMerge])
def test_merge_is_the_weighted_sum(merge_type: type[nn.Module]) -> None:
    merge = merge_type([64, 32])
    maps = [torch.randn(2, 64, 3, 4), torch.randn(2, 32, 3, 4)]
    with torch.no_grad():
        for weight, value in zip(merge.weights, (2.0, -1.0), strict=True):
            weight.fill_(value)
    expected = 2 * merge.projections[0](maps[0]) - merge.projections[1](maps[1])
    torch.testing.assert_close(merge(maps), expected)


def test_merge_takes_the_last_grid() -> None:
    merge = BranchMerge([64, 32, 32])
    maps = [torch.randn(1, 64, 2, 3), torch.randn(1, 32, 3, 4), torch.randn(1, 32, 5, 7)]
    assert merge(maps).shape == (1, 64, 5, 7)


@pytest.mark.parametrize("merge_type", [BranchMerge, SingleConvBranchMerge, LightBranchMerge])
def test_merge_of_some_branches(merge_type: type[nn.Module]) -> None:
    """The others are not read, but the last still sets the grid."""
    merge = merge_type([64, 32, 32], merged=[1])
    maps = [torch.randn(1, 64, 2, 3), torch.randn(1, 32, 3, 4), torch.randn(1, 32, 5, 7)]
    output = merge(maps)
    assert output.shape == (1, 64, 5, 7)
    assert len(merge.projections) == len(merge.weights) == 1
    others = [maps[0] + 1, maps[1], maps[2] + 1]
    torch.testing.assert_close(merge(others), output)


def test_merge_width_can_be_chosen() -> None:
    merge = SingleConvBranchMerge([32, 64], out_dim=64)
    assert merge([torch.randn(1, 32, 2, 2), torch.randn(1, 64, 4, 4)]).shape == (1, 64, 4, 4)
    # Only a first branch of the common width goes without a convolution.
    assert [type(projection[0]) for projection in merge.projections] == [nn.Conv2d, nn.Conv2d]
    narrow = SingleConvBranchMerge([32, 64]).projections
    assert [type(projection[0]) for projection in narrow] == [nn.GroupNorm, nn.Conv2d]


def test_unmerged_branch_passes_its_map_on() -> None:
    x = torch.randn(1, 20, 2, 2)
    assert UnmergedBranch([20])([x]) is x
    with pytest.raises(ValueError, match="one single branch.*got branches of \\[20, 10\\]"):
        UnmergedBranch([20, 10])


def test_merge_messages() -> None:
    with pytest.raises(ValueError, match=r"different numbers from 0 to 1.*got \[2\]"):
        BranchMerge([32, 32], merged=[2])
    with pytest.raises(ValueError, match="multiple of 32"):
        BranchMerge([48, 32])
    with pytest.raises(ValueError, match="built for 1 branches, got 2"):
        BranchMerge([32])([torch.zeros(1, 32, 1, 1)] * 2)


@pytest.mark.parametrize(("in_stride", "side"), [(16, 8), (8, 16), (4, 32)])
def test_feature_maps_have_the_promised_strides(in_stride: int, side: int) -> None:
    outputs = FeatureMaps(32, in_stride)(torch.randn(1, 32, side, side))
    assert {name: x.shape[-1] for name, x in outputs.items()} == {
        "res2": 32,
        "res3": 16,
        "res4": 8,
        "res5": 4,
    }


def test_stage_feature_maps_scale_each_map_by_itself() -> None:
    maps = StageFeatureMaps([32, 64, 96, 128], [4, 16, 16, 32])
    merged = [
        torch.randn(1, dim, 128 // stride, 128 // stride)
        for dim, stride in ((32, 4), (64, 16), (96, 16), (128, 32))
    ]
    outputs = maps(merged)
    assert {name: tuple(x.shape[1:]) for name, x in outputs.items()} == {
        "res2": (32, 32, 32),
        "res3": (64, 16, 16),
        "res4": (96, 8, 8),
        "res5": (128, 4, 4),
    }
    assert outputs["res2"] is merged[0]
    assert list(maps.channels.values()) == [32, 64, 96, 128]
    with pytest.raises(ValueError, match="need one merged map each, got 2"):
        StageFeatureMaps([32, 64], [4, 8])


def test_norm_of_feature_maps() -> None:
    # A layer norm takes any number of channels and looks at one cell at a time.
    maps = FeatureMaps(20, 16, norm="layer").maps["res2"]
    x = torch.randn(1, 20, 3, 3)
    expected = nn.functional.layer_norm(x.permute(0, 2, 3, 1), (20,), eps=1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(maps[1](x), expected, atol=1e-5, rtol=1e-5)


def test_feature_maps_messages() -> None:
    with pytest.raises(ValueError, match="norm must be one of"):
        FeatureMaps(32, norm="batch")
    with pytest.raises(ValueError, match="in this order"):
        FeatureMaps(32, 16, ["res3", "res2"])
    with pytest.raises(ValueError, match="cannot be made from the merged map of stride 32"):
        FeatureMaps(32, 32, ["res2"])

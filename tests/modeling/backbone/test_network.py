"""The whole network for one to four branches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from piip_d2.modeling.backbone import ConvNeXtBranch, PIIPNetwork, ViTBranch, build_network
from piip_d2.modeling.backbone.patch_embed import PatchEmbed

IMG_SIZES = (128, 96, 64, 32)
DIMS = (16, 32, 32, 64)


def make_branches(count: int, **options: Any) -> list[ViTBranch]:
    """The last ``count`` of four branches, largest resolution first."""
    return [
        ViTBranch(
            img_size=img_size,
            embed_dim=dim,
            depth=4,
            num_heads=2,
            pretrain_img_size=64,
            window_size=[2, None, 3, 2],
            **options,
        )
        for img_size, dim in zip(IMG_SIZES[-count:], DIMS[-count:], strict=True)
    ]


def make_network(count: int, **options: Any) -> PIIPNetwork:
    arguments = {"num_interactions": 2, "num_heads": 4, **options}
    network = build_network(make_branches(count), **arguments)
    # Interactions start as the identity; here they are to do something.
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    return network


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "regular"},
        {"with_projection": False, "with_norm": False},
        {"num_interactions": 0},
        {"num_interactions": 4},
        {"out_features": ["res3", "res4", "res5"]},
        {"merge": "single_conv", "out_interactions": [0], "out_features": ["res3", "res4"]},
        {"directions": "alternating"},
        {"directions": "all_pairs"},
    ],
    ids=str,
)
def test_shapes_and_gradients(count: int, options: dict[str, Any]) -> None:
    """Every parameter gets a gradient: distributed training needs that."""
    network = make_network(count, drop_path_rate=0.0, **options)
    images = torch.randn(2, 3, 160, 128)
    outputs = network(images)
    assert list(outputs) == options.get("out_features", ["res2", "res3", "res4", "res5"])
    for name, output in outputs.items():
        stride = network.feature_maps.strides[name]
        assert output.shape == (2, 64, 160 // stride, 128 // stride)
    torch.stack([output.square().sum() for output in outputs.values()]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("merge", ["conv", "light"])
def test_merges(merge: str) -> None:
    branches = [
        ViTBranch(img_size=64, embed_dim=32, depth=2, num_heads=2),
        ViTBranch(img_size=32, embed_dim=64, depth=2, num_heads=2),
    ]
    network = build_network(branches, num_interactions=2, num_heads=4, merge=merge)
    assert network(torch.randn(1, 3, 64, 64))["res4"].shape == (1, 64, 4, 4)


def test_order_inside_and_outside() -> None:
    network = make_network(3)
    assert [branch.img_size for branch in network.branches] == [32, 64, 96]


def test_images_of_a_batch_do_not_mix() -> None:
    network = make_network(3).eval()
    images = torch.randn(2, 3, 128, 128)
    swapped = network(images.flip(0))
    for name, output in network(images).items():
        torch.testing.assert_close(output.flip(0), swapped[name], atol=1e-4, rtol=1e-4)


def test_intermediates() -> None:
    network = make_network(3).eval()
    images = torch.randn(1, 3, 128, 128)
    intermediates = network.forward_intermediates(images)
    assert list(intermediates) == ["embed", "pre", "post", "final"]
    for maps in intermediates.values():
        shapes = [tuple(x.shape) for x in maps]
        assert shapes == [(1, 64, 2, 2), (1, 32, 5, 5), (1, 32, 8, 8)]
    outputs = network.feature_maps(network.merge(intermediates["final"]))
    torch.testing.assert_close(outputs["res4"], network(images)["res4"])


def test_uneven_pyramid_rounds_down() -> None:
    """A third of 100 pixels is 33: two whole cells of 16."""
    network = build_network(
        [
            ViTBranch(img_size=96, embed_dim=32, depth=1, num_heads=2),
            ViTBranch(img_size=32, embed_dim=32, depth=1, num_heads=2),
        ],
        num_interactions=1,
        num_heads=4,
    )
    low, high = network.forward_intermediates(torch.randn(1, 3, 100, 100))["embed"]
    assert (low.shape[-1], high.shape[-1]) == (2, 6)


def test_even_split_of_blocks() -> None:
    branches = [
        ViTBranch(img_size=64, embed_dim=32, depth=5, num_heads=2),
        ViTBranch(img_size=32, embed_dim=32, depth=8, num_heads=2),
    ]
    network = build_network(branches, num_interactions=3, num_heads=4)
    assert network.interaction_block_indexes == [[1, 4, 7], [0, 2, 4]]


def test_activation_checkpointing_changes_nothing() -> None:
    network = make_network(3, drop_path_rate=0.0)
    images = torch.randn(1, 3, 128, 128)
    gradients = []
    for use_act_checkpoint in (False, True):
        network.use_act_checkpoint = use_act_checkpoint
        network.zero_grad()
        network(images)["res4"].square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_bfloat16_autocast_stays_close() -> None:
    network = make_network(3).eval()
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = network(images)["res4"]
        with torch.autocast("cpu", torch.bfloat16):
            output = network(images)["res4"]
    assert (output.float() - expected).norm() / expected.norm() < 0.05


def test_too_small_images() -> None:
    network = make_network(3)
    with pytest.raises(
        ValueError, match=r"are too small: the branch at 32 pixels sees them at 10 x 42"
    ):
        network(torch.randn(1, 3, 32, 128))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(3, 64, 64), ValueError, r"\(B, 3, h, w\), got \(3, 64, 64\); images\[None\]"),
        (torch.zeros(64, 64), ValueError, r"\(B, 3, h, w\), got \(64, 64\); stack images"),
        (torch.zeros(1, 1, 64, 64), ValueError, r"got \(1, 1, 64, 64\); images\.expand\(-1, 3, -1"),
        (torch.zeros(1, 4, 64, 64), ValueError, r"got \(1, 4, 64, 64\); .*branch\.in_chans = 4"),
        (torch.zeros(1, 64, 64, 3), ValueError, r"got \(1, 64, 64, 3\); images\.permute\(0, 3, 1"),
        (
            torch.zeros(1, 3, 64, 64).byte(),
            TypeError,
            r"floating point.* got torch\.uint8; .*float",
        ),
    ],
)
def test_what_are_no_images(images: torch.Tensor, error: type[Exception], message: str) -> None:
    network = make_network(2)
    for run in (network, network.forward_intermediates):
        with pytest.raises(error, match=message):
            run(images)


def test_branches_may_take_other_channels() -> None:
    network = make_network(2)
    with torch.no_grad():
        for branch in network.branches:
            branch.in_chans = 1
            branch.patch_embed = PatchEmbed(branch.channels_after(0), in_chans=1)
    assert network(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match=r"\(B, 1, h, w\), got \(1, 3, 64, 64\); .*in_chans"):
        network(torch.zeros(1, 3, 64, 64))


def test_too_small_images_for_the_last_stage() -> None:
    branch = ConvNeXtBranch(img_size=64, depths=[1, 1, 1, 1], dims=[8, 8, 8, 32])
    network = build_network([branch], num_interactions=0, merge="none", out_features=["res5"])
    assert network(torch.randn(1, 3, 32, 32))["res5"].shape == (1, 32, 1, 1)
    with pytest.raises(ValueError, match="sees them at 16 x 40, less than one cell of 32 pixels"):
        network(torch.randn(1, 3, 16, 40))


def build_with(**changes: Any) -> PIIPNetwork:
    network = make_network(2)
    parts = {
        "branches": list(network.branches),
        "interaction_block_indexes": network.interaction_block_indexes,
        "interactions": list(network.interactions),
        "merge": network.merge,
        "feature_maps": network.feature_maps,
    }
    return PIIPNetwork(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"branches": []}, "at least one branch"),
        ({"branches": make_branches(2)}, "must ascend in resolution"),
        ({"interaction_block_indexes": [[1, 3]]}, "one list for each of the 2 branches"),
        (
            {"interaction_block_indexes": [[1], [3]]},
            "as many interactions, here 2, but the branch at 32 pixels has 1",
        ),
        ({"interaction_block_indexes": [[1, 1], [1, 3]]}, "must ascend from 0 on"),
        ({"interaction_block_indexes": [[1, 4], [1, 3]]}, "the branch at 32 pixels has 4 blocks"),
    ],
)
def test_network_messages(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_with(**changes)


def test_maps_from_other_depths() -> None:
    """Merges behind chosen interactions read the maps as they are there."""
    network = make_network(2, num_interactions=4, merge="single_conv", out_interactions=[0, 1, 2])
    images = torch.randn(1, 3, 128, 128)
    network.eval()
    seen = network.forward_intermediates(images)
    outputs = network(images)
    expected = network.stage_merges["0"](seen["post"])
    torch.testing.assert_close(network.feature_maps.maps["res2"](expected), outputs["res2"])
    torch.testing.assert_close(
        network.feature_maps.maps["res5"](network.merge(seen["final"])), outputs["res5"]
    )


def test_plain_network() -> None:
    """One branch, nothing to exchange and nothing to merge: a simple feature pyramid."""
    network = make_network(1, num_interactions=0, merge="none", feature_norm="layer")
    images = torch.randn(1, 3, 64, 64)
    (branch,) = network.branches
    expected = branch.forward_blocks(branch.embed(images), 0, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(network(images)["res4"], expected)
    assert not list(network.merge.parameters())


def test_stage_merges_need_an_interaction() -> None:
    with pytest.raises(ValueError, match=r"after the interactions 0 to 1, got \[2\]"):
        build_with(stage_merges={2: nn.Identity()})


def test_builder_messages() -> None:
    with pytest.raises(ValueError, match=r"numbers of the 2 interactions.*\[2\]"):
        build_network(make_branches(2), num_interactions=2, out_interactions=[2])
    with pytest.raises(ValueError, match="the branch at 64 pixels has 4 blocks"):
        build_network(make_branches(2), interaction_block_indexes=[[4], [3]])
    with pytest.raises(ValueError, match="at least one branch"):
        build_network([])
    with pytest.raises(ValueError, match=r"merged_branches must be places .* 0 to 1, got \[2\]"):
        build_network(make_branches(2), num_interactions=2, merged_branches=[2])
    with pytest.raises(ValueError, match=r"largest resolution first.*reverse the list"):
        build_network(make_branches(2)[::-1])
    with pytest.raises(ValueError, match="num_interactions must be from 0 to 4"):
        build_network(make_branches(2), num_interactions=5)
    with pytest.raises(ValueError, match="merge must be one of"):
        build_network(make_branches(2), num_interactions=2, merge="sum")

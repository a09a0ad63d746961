"""Networks of timm as branches, against timm's own forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from piip_d2.modeling.backbone.timm_branch import TimmBranch

_ViT: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2}
_CONVNEXT: dict[str, Any] = {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32)}
# What makes timm build the same network without class and register tokens.
_NO_PREFIX: dict[str, Any] = {"class_token": False, "global_pool": "avg", "dynamic_img_size": True}
_NO_REGISTERS = {**_NO_PREFIX, "reg_tokens": 0}
_NO_EVA_REGISTERS = {**_NO_PREFIX, "num_reg_tokens": 0}

# Name, patch size, sizes, and the options of timm's network to compare with.
NETWORKS = [
    ("vit_tiny_patch16_224", 16, _ViT, _NO_PREFIX),
    ("vit_medium_patch16_gap_240", 16, _ViT, {"dynamic_img_size": True}),
    ("deit_tiny_distilled_patch16_224", 16, _ViT, None),
    ("deit3_small_patch16_224", 16, _ViT, _NO_PREFIX),
    ("vit_small_patch14_reg4_dinov2", 14, _ViT, _NO_REGISTERS),
    ("vit_base_patch16_clip_224", 16, _ViT, _NO_PREFIX),
    ("eva02_tiny_patch14_224", 14, _ViT, _NO_PREFIX),
    ("vit_small_patch16_dinov3", 16, _ViT, _NO_EVA_REGISTERS),
    ("vit_small_patch16_rope_mixed_ape_224", 16, _ViT, _NO_PREFIX),
    ("vit_small_patch16_18x2_224", 16, _ViT, _NO_PREFIX),
    ("vit_base_patch16_xp_224", 16, _ViT, _NO_PREFIX),
    ("vit_pwee_patch16_reg1_gap_256", 16, _ViT, _NO_REGISTERS),
    ("vit_dpwee_patch16_reg1_gap_256", 16, _ViT, _NO_REGISTERS),
    ("convnext_tiny", 4, _CONVNEXT, {}),
    ("convnextv2_atto", 4, _CONVNEXT, {}),
    ("convnext_zepto_rms_ols", 4, _CONVNEXT, {}),
]


def _random_branch(name: str, **options: Any) -> TimmBranch:
    branch = TimmBranch(name, img_size=64, **options).eval()
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return branch


def _last_map_of_timm(network: Any, images: Tensor) -> Tensor:
    """Features before the final norm, as (B, C, H, W) or as tokens (B, N, C)."""
    network.norm = nn.Identity()
    features: Tensor = network.eval().forward_features(images)
    return features


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
@pytest.mark.parametrize(
    ("name", "patch_size", "sizes", "others"), NETWORKS, ids=[row[0] for row in NETWORKS]
)
def test_equals_timm_without_prefix_tokens(
    name: str, patch_size: int, sizes: Any, others: Any, grid: tuple[int, int]
) -> None:
    if others is None:
        # The distilled network cannot be built without its tokens: another one has its blocks.
        compared, options = "vit_tiny_patch16_224", _NO_PREFIX
    else:
        compared, options = name, others
    branch = _random_branch(name, **sizes)
    network = timm.create_model(compared, num_classes=0, **sizes, **options)
    loaded = network.load_state_dict(branch.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    assert all("norm" in key for key in loaded.missing_keys), "norms behind the blocks"
    stride = branch.stride_after(branch.num_blocks - 1)
    images = torch.rand(2, 3, *(cells * max(stride, patch_size) for cells in grid))
    half = branch.forward_blocks(branch.embed(images), 0, 2)
    found = branch.forward_blocks(half, 2, branch.num_blocks)
    assert found.shape == (2, *grid, 32)
    expected = _last_map_of_timm(network, images)
    layout = found.permute(0, 3, 1, 2) if expected.dim() == 4 else found.flatten(1, 2)
    torch.testing.assert_close(layout, expected)


def test_strides_and_channels_of_a_convnext() -> None:
    branch = TimmBranch("convnextv2_atto", img_size=64, **_CONVNEXT)
    assert branch.num_blocks == 8
    assert [branch.stride_after(block) for block in range(8)] == [4, 8, 8, 8, 16, 16, 32, 32]
    assert [branch.channels_after(block) for block in range(8)] == [8, *[16] * 3, *[24] * 2, 32, 32]


def test_pixels_beyond_the_last_patch_are_dropped() -> None:
    branch = _random_branch("vit_tiny_patch16_224", **_ViT)
    images = torch.rand(1, 3, 70, 95)
    torch.testing.assert_close(branch.embed(images), branch.embed(images[:, :, :64, :80]))


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "convnext_tiny"])
def test_recomputing_activations_changes_nothing(name: str) -> None:
    branch = _random_branch(name, **(_CONVNEXT if name == "convnext_tiny" else _ViT)).train()
    images = torch.rand(1, 3, 64, 64)

    def gradients() -> list[Tensor]:
        branch.zero_grad()
        branch.forward_blocks(branch.embed(images), 0, branch.num_blocks).square().sum().backward()
        return [p.grad.clone() for p in branch.parameters() if p.grad is not None]

    expected = gradients()
    branch.use_act_checkpoint = True
    for found, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_pretrained_weights_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    create_model, asked = timm.create_model, []

    def record(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
        asked.append(pretrained)
        network: nn.Module = create_model(name, **options)
        return network

    monkeypatch.setattr(timm, "create_model", record)
    TimmBranch("vit_tiny_patch16_224", img_size=64, pretrained=True, **_ViT)
    assert asked == [False, True], "first without memory for weights, to learn its class"


def test_pretrained_weights_are_not_fetched_where_there_is_no_memory_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_model = timm.create_model

    def without_net(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
        assert not pretrained
        network: nn.Module = create_model(name, **options)
        return network

    monkeypatch.setattr(timm, "create_model", without_net)
    with torch.device("meta"):
        branch = TimmBranch("vit_tiny_patch16_224", img_size=64, pretrained=True, **_ViT)
    assert branch.num_blocks == 3


def test_pretrained_weights_that_there_are_none_of() -> None:
    # Sizes for tests have none, and of this network timm has none at all.
    name = "vit_small_patch16_36x1_224"
    with pytest.raises(ValueError, match=f"timm gives no weights for the name '{name}': .+"):
        TimmBranch(name, img_size=64, pretrained=True, **_ViT)


def test_every_parameter_is_used() -> None:
    branch = _random_branch("vit_small_patch14_reg4_dinov2", **_ViT)
    branch.forward_blocks(branch.embed(torch.rand(1, 3, 56, 56)), 0, 3).sum().backward()
    assert all(parameter.grad is not None for parameter in branch.parameters())


def test_drop_path_grows() -> None:
    branch = TimmBranch("vit_tiny_patch16_224", img_size=64, drop_path_rate=0.2, **_ViT)
    paths = [module.drop_prob for module in branch.modules() if isinstance(module, DropPath)]
    assert paths == pytest.approx([0.1, 0.1, 0.2, 0.2])


def test_can_be_built_and_run_without_memory() -> None:
    with torch.device("meta"):
        branch = TimmBranch("vit_7b_patch16_dinov3", img_size=512, drop_path_rate=0.4)
        x = branch.forward_blocks(branch.embed(torch.empty(1, 3, 64, 96)), 0, 1)
    assert x.shape == (1, 4, 6, 4096) and x.device.type == "meta"
    assert sum(p.numel() for p in branch.parameters()) > 6.7e9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swin_tiny_patch4_window7_224", "can be any VisionTransformer, Eva, ConvNeXt of timm, "),
        ("beit_base_patch16_224", "but beit_base_patch16_224 is a Beit"),
        ("resnet18", "but resnet18 is a ResNet"),
        ("vit_nonsense", "timm has no network of the name 'vit_nonsense'"),
    ],
)
def test_other_networks(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmBranch(name, img_size=64)


def test_patches_cannot_be_dropped() -> None:
    with pytest.raises(ValueError, match="patch_drop_rate must be 0"):
        TimmBranch("vit_tiny_patch16_224", img_size=64, patch_drop_rate=0.5)


def test_patches_must_be_square() -> None:
    with pytest.raises(ValueError, match="patches must be square.*8 x 16"):
        TimmBranch("vit_tiny_patch16_224", img_size=64, patch_size=(8, 16), **_ViT)

"""Weights of single networks in branches."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from piip_d2.checkpoint.branch_weights import load_branch_weights
from piip_d2.modeling.backbone import Branch, ViTBranch
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.timm_branch import TimmBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from tests.checkpoint.foreign_networks import (
    SMALL_CONVNEXT,
    SMALL_VIT,
    as_deit3,
    as_dinov2_with_registers,
    as_hf_convnext,
    as_mae,
    as_original_convnext,
    beit,
    randomize,
    timm_convnext,
    timm_vit,
    uniperceiver,
)

# Name, side of the pre-training's images, patch size, and the change to the layout of a file.
_VITS = [
    ("deit_tiny_patch16_224", 64, 16, dict),
    ("deit3_small_patch16_224", 64, 16, dict),
    ("deit3_small_patch16_224", 64, 16, as_deit3),
    ("vit_tiny_patch16_384", 96, 16, dict),
    ("vit_base_patch16_224.mae", 64, 16, as_mae),
    ("vit_small_patch14_dinov2", 70, 14, dict),
    ("vit_small_patch14_reg4_dinov2", 70, 14, as_dinov2_with_registers),
]


def _vit(img_size: int = 64, patch_size: int = 16, **options: Any) -> ViTBranch:
    options = {"pretrain_img_size": img_size, "patch_size": patch_size, **SMALL_VIT, **options}
    return ViTBranch(img_size=img_size, **options).eval()


def _features(branch: Branch, images: Tensor) -> Tensor:
    return branch.forward_blocks(branch.embed(images), 0, branch.num_blocks)


@pytest.mark.parametrize(("name", "side", "patch_size", "layout"), _VITS)
def test_vit_equals_timm_at_the_size_of_its_training(
    name: str, side: int, patch_size: int, layout: Any
) -> None:
    state, network = timm_vit(name, img_size=side)
    branch = _vit(side, patch_size)
    report = load_branch_weights(branch, layout(state))
    images = torch.rand(2, 3, side, side)
    expected = network.forward_features(images)
    torch.testing.assert_close(_features(branch, images).flatten(1, 2), expected)
    assert report.family == "a plain vision transformer"
    assert not report.resized and not report.unknown
    layer_scales = [key for key in branch.state_dict() if key.endswith("gamma")]
    assert report.missing in ([], layer_scales)
    left_out = {"cls_token", "norm", "head", "mask_token", "register_tokens"}
    assert {key.partition(".")[0] for key in report.dropped} <= left_out | {
        key.partition(".")[0] for key in as_mae({})
    }


def test_internvit_in_larger_patches() -> None:
    options: dict[str, Any] = {
        "norm": "rms",
        "qk_norm": True,
        "qkv_bias": False,
        "init_values": 0.1,
    }
    original = randomize(_vit(70, 14, **options))
    state = {
        **original.state_dict(),
        "cls_token": torch.randn(1, 1, 32),
        "clip_projector.norm1_q.weight": torch.randn(32),
    }
    state["pos_embed"] = torch.cat([torch.randn(1, 1, 32), state["pos_embed"]], dim=1)
    images = torch.rand(1, 3, 70, 70)
    same = _vit(70, 14, **options)
    report = load_branch_weights(same, state)
    torch.testing.assert_close(_features(same, images), _features(original, images))
    assert report.unknown == ["clip_projector.norm1_q.weight"]
    larger = _vit(70, 16, **options)
    report = load_branch_weights(larger, state)
    assert report.resized == [
        "pos_embed 5x5 -> 4x4",
        "patch_embed.proj.weight 14x14 -> 16x16",
    ]
    assert larger.pos_embed.shape == (1, 16, 32)
    rest = {key for key in state if key.startswith("blocks")} | {"patch_embed.proj.bias"}
    for key in rest:
        assert torch.equal(larger.state_dict()[key], state[key])


@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder."])
@pytest.mark.parametrize("shared", [False, True])
def test_beit_in_larger_windows(prefix: str, shared: bool) -> None:
    state = beit(4, shared=shared)
    branch = BEiTBranch(
        img_size=64, embed_dim=32, depth=2, num_heads=2, window_size=[4, 8], init_values=1e-6
    )
    report = load_branch_weights(branch, {prefix + name: x for name, x in state.items()})
    assert report.family == "a BEiT"
    name = "attn.relative_position_bias_table"
    assert report.resized == [f"blocks.1.{name} 7x7 -> 15x15"]
    assert not report.missing and not report.unknown
    source = "rel_pos_bias.relative_position_bias_table" if shared else f"blocks.0.{name}"
    tables = [branch.get_parameter(f"blocks.{block}.{name}") for block in range(2)]
    assert torch.equal(tables[0], state[source][:-3])
    # The centre of the table is that of the larger one.
    row = state[source if shared else f"blocks.1.{name}"][24]
    torch.testing.assert_close(tables[1][112], row)
    assert torch.equal(branch.get_parameter("blocks.1.ls2.gamma"), state["blocks.1.gamma_2"])
    assert torch.equal(branch.get_parameter("blocks.1.attn.q_bias"), state["blocks.1.attn.q_bias"])


def test_uniperceiver() -> None:
    state = uniperceiver()
    branch = UniPerceiverBranch(
        img_size=64, pretrain_img_size=64, embed_dim=32, depth=2, num_heads=2
    )
    report = load_branch_weights(branch, state)
    assert not report.missing and report.unknown == ["logit_scale"]
    pairs = {
        "pos_embed": state["visual_embed.patch_embed.spatial_pos_embed.weight"][None],
        "temporal_embed": state["visual_embed.patch_embed.temporal_pos_embed.weight"][None, :1],
        "embed_norm.bias": state["visual_embed.embeddings_norm.bias"],
        "patch_embed.proj.weight": state["visual_embed.patch_embed.proj.weight"],
        "blocks.1.attn.qkv.weight": state["layers.1.self_attn.in_proj.weight"],
        "blocks.1.attn.proj.bias": state["layers.1.self_attn.out_proj.bias"],
        "blocks.0.mlp.fc1.weight": state["layers.0.linear1.weight"],
        "blocks.0.mlp.fc2.weight": state["layers.0.linear2.weight"],
        "blocks.0.norm2.weight": state["layers.0.norm2.weight"],
        "blocks.0.ls1.gamma": state["layers.0.gamma_1"],
    }
    for name, expected in pairs.items():
        assert torch.equal(branch.get_parameter(name), expected), name


@pytest.mark.parametrize("layout", [dict, as_original_convnext, as_hf_convnext])
@pytest.mark.parametrize("kind", ["own", "timm"])
def test_convnext_equals_timm(layout: Any, kind: str) -> None:
    state, network = timm_convnext()
    branch = (
        ConvNeXtBranch(img_size=64, **SMALL_CONVNEXT)
        if kind == "own"
        else TimmBranch("convnext_tiny", img_size=64, **SMALL_CONVNEXT)
    ).eval()
    report = load_branch_weights(branch, layout(state))
    assert report.family.startswith("a ConvNeXt")
    assert len(report.dropped) == 4 and not report.missing and not report.unknown
    images = torch.rand(2, 3, 64, 96)
    expected = network.forward_features(images)
    torch.testing.assert_close(_features(branch, images).permute(0, 3, 1, 2), expected)


def test_timm_branch_takes_its_own_names() -> None:
    # EVA's LayerScale is called as DeiT III's is in files, and must stay so.
    parallel = [
        randomize(TimmBranch(name, img_size=64, **SMALL_VIT))
        for name in ("vit_small_patch16_18x2_224", "vit_base_patch16_xp_224")
    ]
    original = randomize(TimmBranch("eva02_tiny_patch14_224", img_size=70, **SMALL_VIT))
    options = {**SMALL_VIT, "init_values": 1.0}
    scaled = randomize(TimmBranch("vit_small_patch16_dinov3", img_size=64, **options))
    for branch in (original, scaled, *parallel):
        state = {"cls_token": torch.randn(1, 1, 32), **branch.state_dict()}
        copy = TimmBranch(
            branch.model_name, img_size=64, **(options if branch is scaled else SMALL_VIT)
        )
        report = load_branch_weights(copy, state)
        assert not report.missing and report.dropped == ["cls_token"]
        for name, expected in branch.state_dict().items():
            assert torch.equal(copy.state_dict()[name], expected), name


def test_one_cell_convolutions_are_linear_layers() -> None:
    state, _ = timm_convnext()
    for name in state:
        if ".mlp.fc" in name and name.endswith("weight"):
            state[name] = state[name][:, :, None, None]
    branch = ConvNeXtBranch(img_size=64, **SMALL_CONVNEXT)
    load_branch_weights(branch, state)
    name = "stages.1.blocks.1.mlp.fc2.weight"
    assert torch.equal(branch.get_parameter(name), state[name][:, :, 0, 0])


def test_half_precision_is_taken_in_full() -> None:
    state, _ = timm_vit("deit_tiny_patch16_224", img_size=64)
    branch = _vit(96)
    load_branch_weights(branch, {name: x.bfloat16() for name, x in state.items()})
    assert branch.pos_embed.dtype == torch.float32
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(branch.get_parameter(name), state[name].bfloat16().float())


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    state, _ = timm_vit("vit_small_patch14_reg4_dinov2", img_size=70)
    with caplog.at_level(logging.INFO, "piip_d2"):
        load_branch_weights(_vit(70, 16), state, name="branch 2")
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.message == (
        "Loaded the given weights into branch 2: 45 weights of a plain vision transformer; "
        "resized: pos_embed 5x5 -> 4x4, patch_embed.proj.weight 14x14 -> 16x16; "
        "left out: cls_token, reg_token, norm, head."
    )


def test_what_may_matter_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    state, _ = timm_vit("deit_tiny_patch16_224", img_size=64)
    del state["pos_embed"]
    state["norm_pre.weight"] = torch.ones(32)
    branch = _vit()
    report = load_branch_weights(branch, state)
    assert report.missing == ["pos_embed", *(k for k in branch.state_dict() if "gamma" in k)]
    assert report.unknown == ["norm_pre.weight"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "kept as they were: pos_embed, blocks.*.ls1.gamma" in record.message
    assert "left out although unknown: norm_pre" in record.message

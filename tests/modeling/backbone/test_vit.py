"""Plain vision transformers of all kinds against timm's."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from timm.layers import RmsNorm
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.pos_embed import resize_pos_embed
from piip_d2.modeling.backbone.vit import ViTBranch
from piip_d2.modeling.backbone.vit_block import build_vit_block

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 3}
RMS_NORM = partial(RmsNorm, eps=1e-6)


def run(branch: Branch, images: Tensor) -> Tensor:
    """All blocks, (B, H, W, C)."""
    return branch.forward_blocks(branch.embed(images), 0, branch.num_blocks)


@pytest.mark.parametrize(
    ("options", "timm_options"),
    [
        (
            {"num_heads": 4, "init_values": None, "mlp_ratio": 2.0, "act": "gelu_tanh"},
            {"num_heads": 4, "mlp_ratio": 2.0, "act_layer": partial(nn.GELU, approximate="tanh")},
        ),
        ({"num_heads": 4, "norm": "rms"}, {"num_heads": 4, "norm_layer": RMS_NORM}),
        # Norms of timm's queries are those of single heads: with one head, the same.
        (
            {"num_heads": 1, "norm": "rms", "qk_norm": True, "qkv_bias": False},
            {"num_heads": 1, "norm_layer": RMS_NORM, "qk_norm": True, "qkv_bias": False},
        ),
        ({"num_heads": 1, "qk_norm": True}, {"num_heads": 1, "qk_norm": True}),
    ],
    ids=["mae", "rms_norm", "intern_vit", "qk_layer_norm"],
)
def test_families_equal_timm(options: dict[str, Any], timm_options: dict[str, Any]) -> None:
    options = {"init_values": 0.5, **options}
    branch = ViTBranch(img_size=64, pretrain_img_size=64, **SIZES, **options).double().eval()
    for parameter in branch.parameters():
        nn.init.normal_(parameter, std=0.3)
    oracle = VisionTransformer(
        img_size=64,
        class_token=False,
        global_pool="",
        num_classes=0,
        init_values=options["init_values"],
        **SIZES,
        **timm_options,
    )
    oracle.norm = nn.Identity()
    oracle = oracle.double().eval()
    oracle.load_state_dict(branch.state_dict())
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(run(branch, images).flatten(1, 2), oracle(images))


def test_positions_are_stretched_as_timm_stretches_them_without_antialiasing() -> None:
    table = torch.randn(1, 9, 4)
    expected = torch.nn.functional.interpolate(
        table.reshape(1, 3, 3, 4).permute(0, 3, 1, 2), size=(5, 2), mode="bicubic"
    )
    torch.testing.assert_close(resize_pos_embed(table, 5, 2), expected.permute(0, 2, 3, 1))
    assert torch.equal(resize_pos_embed(table, 3, 3), table.reshape(1, 3, 3, 4))


def test_positions_of_16_bit_are_stretched_in_32() -> None:
    table = torch.randn(1, 9, 4).bfloat16()
    stretched = resize_pos_embed(table, 4, 7)
    assert stretched.dtype == torch.float32
    assert torch.equal(stretched, resize_pos_embed(table.float(), 4, 7))


@pytest.mark.parametrize(("pretrain_img_size", "side"), [(224, 14), (384, 24), (518, 32)])
def test_position_table_has_the_grid_of_the_new_patches(pretrain_img_size: int, side: int) -> None:
    branch = ViTBranch(
        img_size=64, num_heads=2, pretrain_img_size=pretrain_img_size, patch_size=16, **SIZES
    )
    assert branch.pos_embed.shape == (1, side * side, 32)


@pytest.mark.parametrize("use_autocast", [True, False])
def test_16_bit(use_autocast: bool) -> None:
    branch = ViTBranch(
        img_size=64, num_heads=2, window_size=2, norm="rms", qk_norm=True, **SIZES
    ).eval()
    images = torch.randn(1, 3, 80, 48)
    exact = run(branch, images)
    if use_autocast:
        with torch.autocast("cpu", torch.bfloat16):
            output = run(branch, images)
    else:
        output = run(branch.bfloat16(), images.bfloat16())
        assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, atol=0.05, rtol=0.05)


def test_compiles_in_one_piece() -> None:
    branch = ViTBranch(img_size=64, num_heads=2, window_size=[2, None, 2], qk_norm=True, **SIZES)
    images = torch.randn(1, 3, 64, 48)
    compiled = torch.compile(partial(run, branch.eval()), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), run(branch, images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, r"norm must be one of \['layer', 'rms'\], got 'batch'"),
        ({"act": "relu"}, r"act must be one of \['gelu', 'gelu_tanh'\], got 'relu'"),
        ({"window_padding": "never"}, "window_padding must be one of"),
        ({"window_size": -1}, "window_size must be at least 1"),
    ],
)
def test_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTBranch(img_size=64, num_heads=2, **SIZES, **options)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'qkv_norm'"):
        ViTBranch(img_size=64, num_heads=2, qkv_norm=True, **SIZES)


def test_a_block_alone() -> None:
    block = build_vit_block(8, 2, norm="rms", qk_norm=True, init_values=None)
    assert {name for name, _ in block.named_parameters()} == {
        *("norm1.weight", "attn.qkv.weight", "attn.qkv.bias", "attn.q_norm.weight"),
        *("attn.k_norm.weight", "attn.proj.weight", "attn.proj.bias", "norm2.weight"),
        *("mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"),
    }
    assert block(torch.randn(1, 2, 3, 8)).shape == (1, 2, 3, 8)

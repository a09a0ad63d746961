"""Uni-Perceiver as a branch, against PyTorch's own encoder layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 4, "pretrain_img_size": 48}


def make_branch(**options: Any) -> UniPerceiverBranch:
    branch = UniPerceiverBranch(**{"img_size": 64, **SIZES, **options}).double().eval()
    for parameter in branch.parameters():
        nn.init.normal_(parameter, std=0.3)
    return branch


def run(branch: UniPerceiverBranch, images: Tensor) -> Tensor:
    return branch.forward_blocks(branch.embed(images), 0, branch.num_blocks)


def make_layer(weights: dict[str, Tensor]) -> nn.Module:
    """A layer of PyTorch, whose outputs are scaled by their weights."""
    layer = nn.TransformerEncoderLayer(
        32, 4, 128, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    attention, mlp = weights["ls1.gamma"], weights["ls2.gamma"]
    layer.double().eval().load_state_dict(
        {
            "self_attn.in_proj_weight": weights["attn.qkv.weight"],
            "self_attn.in_proj_bias": weights["attn.qkv.bias"],
            "self_attn.out_proj.weight": weights["attn.proj.weight"] * attention[:, None],
            "self_attn.out_proj.bias": weights["attn.proj.bias"] * attention,
            "linear1.weight": weights["mlp.fc1.weight"],
            "linear1.bias": weights["mlp.fc1.bias"],
            "linear2.weight": weights["mlp.fc2.weight"] * mlp[:, None],
            "linear2.bias": weights["mlp.fc2.bias"] * mlp,
            **{name: value for name, value in weights.items() if name.startswith("norm")},
        }
    )
    return layer


@pytest.mark.parametrize("size", [(48, 48), (64, 96)])
def test_equals_encoder_layers(size: tuple[int, int]) -> None:
    branch = make_branch()
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    grid = (size[0] // 16, size[1] // 16)
    patches = F.conv2d(
        images, branch.patch_embed.proj.weight, branch.patch_embed.proj.bias, stride=16
    )
    places = branch.pos_embed[0].T.reshape(1, 32, 3, 3)
    if grid != (3, 3):
        places = F.interpolate(places, size=grid, mode="bicubic", align_corners=False)
    tokens = (patches + places).flatten(2).transpose(1, 2) + branch.temporal_embed[0, 0]
    norm = branch.embed_norm
    tokens = F.layer_norm(tokens, (32,), norm.weight, norm.bias, 1e-5)
    for block in branch.blocks:
        tokens = make_layer(block.state_dict())(tokens)
    torch.testing.assert_close(run(branch, images).flatten(1, 2), tokens)


def test_names_outside_the_blocks() -> None:
    shapes = {
        name: tuple(value.shape)
        for name, value in make_branch().state_dict().items()
        if not name.startswith("blocks.")
    }
    assert shapes == {
        "pos_embed": (1, 9, 32),
        "temporal_embed": (1, 1, 32),
        "patch_embed.proj.weight": (32, 3, 16, 16),
        "patch_embed.proj.bias": (32,),
        "embed_norm.weight": (32,),
        "embed_norm.bias": (32,),
    }


def test_windows_and_stochastic_depth() -> None:
    branch = make_branch(window_size=[2, None], drop_path_rate=0.4)
    assert [block.attn.window_size for block in branch.blocks] == [2, None]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in branch.blocks]
    assert rates == pytest.approx([0.0, 0.4])
    assert run(branch, torch.zeros(1, 3, 80, 48, dtype=torch.float64)).shape == (1, 5, 3, 32)


def test_new_blocks_are_the_identity() -> None:
    branch = UniPerceiverBranch(img_size=64, **SIZES)
    x = torch.randn(1, 3, 3, 32)
    assert torch.equal(branch.forward_blocks(x, 0, 2), x)


def test_messages() -> None:
    with pytest.raises(ValueError, match="one entry for each of the 2 blocks, got 1"):
        make_branch(window_size=[2])
    with pytest.raises(ValueError, match="drop_path_schedule must be one of"):
        make_branch(drop_path_schedule="cosine")

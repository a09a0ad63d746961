"""BEiT as a branch, against timm's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import DropPath
from timm.models.beit import Beit
from torch import Tensor, nn

from piip_d2.modeling.backbone.beit import BEiTBranch

SIZES: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 4}


def make_branch(**options: Any) -> BEiTBranch:
    options = {"img_size": 64, "window_size": 4, "init_values": 0.5, **options}
    branch = BEiTBranch(**{**SIZES, **options}).double().eval()
    for parameter in branch.parameters():
        nn.init.normal_(parameter, std=0.3)
    return branch


def run(branch: BEiTBranch, images: Tensor) -> Tensor:
    return branch.forward_blocks(branch.embed(images), 0, branch.num_blocks)


def to_timm(weights: dict[str, Tensor], oracle: Beit) -> dict[str, Tensor]:
    """Our weights under timm's names, with a class token that no cell attends to."""
    converted = {key: value for key, value in oracle.state_dict().items() if "cls" in key}
    for name, value in weights.items():
        name = name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")
        if name.endswith("bias_table"):
            # The last rows are for: class to cell, cell to class, class to class.
            value = torch.cat([value, torch.full_like(value[:3], float("-inf"))])
            value[-1] = 0.0
        converted[name] = value
    return converted


@pytest.mark.parametrize("use_windows", [True, False])
def test_equals_timm(use_windows: bool) -> None:
    branch = make_branch(use_windows=use_windows)
    oracle = Beit(
        img_size=64,
        num_classes=0,
        global_pool="",
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        init_values=0.5,
        **SIZES,
    )
    oracle.norm = nn.Identity()
    oracle = oracle.double().eval()
    missing, unexpected = oracle.load_state_dict(to_timm(branch.state_dict(), oracle), strict=False)
    assert not unexpected
    assert not [name for name in missing if "relative_position_index" not in name]
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(run(branch, images).flatten(1, 2), oracle(images)[:, 1:])


def test_names_and_shapes() -> None:
    branch = make_branch(depth=1)
    shapes = {name: tuple(value.shape) for name, value in branch.state_dict().items()}
    assert shapes == {
        "patch_embed.proj.weight": (32, 3, 16, 16),
        "patch_embed.proj.bias": (32,),
        "blocks.0.norm1.weight": (32,),
        "blocks.0.norm1.bias": (32,),
        "blocks.0.attn.q_bias": (32,),
        "blocks.0.attn.v_bias": (32,),
        "blocks.0.attn.relative_position_bias_table": (49, 4),
        "blocks.0.attn.qkv.weight": (96, 32),
        "blocks.0.attn.proj.weight": (32, 32),
        "blocks.0.attn.proj.bias": (32,),
        "blocks.0.ls1.gamma": (32,),
        "blocks.0.norm2.weight": (32,),
        "blocks.0.norm2.bias": (32,),
        "blocks.0.mlp.fc1.weight": (128, 32),
        "blocks.0.mlp.fc1.bias": (128,),
        "blocks.0.mlp.fc2.weight": (32, 128),
        "blocks.0.mlp.fc2.bias": (32,),
        "blocks.0.ls2.gamma": (32,),
    }
    assert (branch.stride_after(0), branch.channels_after(0)) == (16, 32)


def test_settings_by_block() -> None:
    branch = make_branch(window_size=[2, 3, 4], use_windows=[True, True, False])
    tables = [block.attn.relative_position_bias_table.shape[0] for block in branch.blocks]
    assert tables == [9, 25, 49]
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    assert run(branch, images).shape == (1, 4, 4, 32)
    with pytest.raises(ValueError, match="of a 4 x 4 map was given a map of 4 x 5"):
        run(branch, torch.randn(1, 3, 64, 80, dtype=torch.float64))


def test_stochastic_depth_grows() -> None:
    rates = [
        getattr(block.drop_path, "drop_prob", 0.0)
        for block in make_branch(drop_path_rate=0.4).blocks
    ]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
    constant = make_branch(drop_path_rate=0.4, drop_path_schedule="constant")
    assert isinstance(constant.blocks[0].drop_path, DropPath)


def test_trains_with_activation_checkpointing() -> None:
    branch = make_branch(window_size=3, use_act_checkpoint=True).train()
    run(branch, torch.randn(1, 3, 80, 64, dtype=torch.float64)).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in branch.named_parameters()}
    assert all(grad is not None and grad.abs().max() > 0 for grad in gradients.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_size": [4, 4]}, "window_size must have one entry for each of the 3 blocks"),
        ({"use_windows": [True]}, "use_windows must have one entry for each of the 3 blocks"),
        ({"window_size": 0}, "window_size must be at least 1"),
        ({"drop_path_schedule": "cosine"}, "drop_path_schedule must be one of"),
        ({"num_heads": 5}, r"embed_dim \(32\) must be divisible by num_heads \(5\)"),
        ({"act": "relu"}, "act must be one of"),
    ],
)
def test_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_branch(**options)

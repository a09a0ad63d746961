"""Small random networks in the layouts that single pre-trained networks are published in."""

from __future__ import annotations

import re
from typing import Any

import timm
import torch
from torch import Tensor, nn

State = dict[str, Tensor]

SMALL_VIT: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2}
SMALL_CONVNEXT: dict[str, Any] = {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32)}
# What makes timm build a network without class and register tokens.
NO_PREFIX: dict[str, Any] = {"class_token": False, "global_pool": "avg", "fc_norm": False}


def randomize(network: nn.Module) -> Any:
    """Gives every weight a random value, in evaluation mode."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def timm_vit(name: str, **options: Any) -> tuple[State, nn.Module]:
    """Weights of a small network of timm, and the same network that has cells alone as tokens."""
    network: Any = randomize(timm.create_model(name, num_classes=7, **SMALL_VIT, **options))
    cells: Any = timm.create_model(
        name, num_classes=0, **SMALL_VIT, **{**options, **NO_PREFIX, "reg_tokens": 0}
    ).eval()
    state = dict(network.state_dict())
    prefix = 0 if network.no_embed_class else network.num_prefix_tokens
    cells.load_state_dict({**state, "pos_embed": state["pos_embed"][:, prefix:]}, strict=False)
    cells.norm = nn.Identity()
    return state, cells


def as_deit3(state: State) -> State:
    """The names of DeiT III's own files, whose position table has no row for the class token."""
    renamed = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): x for name, x in state.items()}
    return {**renamed, "pos_embed": state["pos_embed"]}


def as_mae(state: State) -> State:
    """What MAE's pre-training leaves: a decoder instead of a head."""
    kept = {name: x for name, x in state.items() if not name.startswith("head")}
    return {
        **kept,
        "mask_token": torch.randn(1, 1, 16),
        "decoder_pos_embed": torch.randn(1, 17, 16),
        "decoder_embed.weight": torch.randn(16, 32),
        "decoder_blocks.0.norm1.weight": torch.randn(16),
        "decoder_pred.bias": torch.randn(768),
    }


def as_dinov2_with_registers(state: State) -> State:
    """The names of DINOv2's own files; registers have no rows, the class token has one."""
    state = {name.replace("reg_token", "register_tokens"): x for name, x in state.items()}
    rows = torch.cat([torch.randn(1, 1, 32), state["pos_embed"]], dim=1)
    return {**state, "pos_embed": rows, "mask_token": torch.randn(1, 32)}


def beit(window: int, depth: int = 2, *, shared: bool = False) -> State:
    """A BEiTv2 as its authors' files have it, with tables for a class token, for 2 heads."""
    network = timm.create_model(
        "beitv2_base_patch16_224",
        img_size=16 * window,
        embed_dim=32,
        depth=depth,
        num_heads=2,
        num_classes=5,
    )
    state = dict(randomize(network).state_dict())
    rows = (2 * window - 1) ** 2 + 3
    for block in range(depth):
        name = f"blocks.{block}.attn.relative_position_bias_table"
        assert state[name].shape == (rows, 2)
        if shared:
            del state[name]
        state[f"blocks.{block}.attn.relative_position_index"] = torch.zeros(3, 3).long()
    if shared:
        state["rel_pos_bias.relative_position_bias_table"] = torch.randn(rows, 2)
        state["rel_pos_bias.relative_position_index"] = torch.zeros(3, 3).long()
    return {"mask_token": torch.randn(1, 1, 32), **state}


def uniperceiver(depth: int = 2) -> State:
    """A Uni-Perceiver encoder of 32 channels, with a table of 4 x 4 places and 8 times."""
    shapes: dict[str, tuple[int, ...]] = {
        "visual_embed.patch_embed.proj.weight": (32, 3, 16, 16),
        "visual_embed.patch_embed.proj.bias": (32,),
        "visual_embed.patch_embed.spatial_pos_embed.weight": (16, 32),
        "visual_embed.patch_embed.temporal_pos_embed.weight": (8, 32),
        "visual_embed.embeddings_norm.weight": (32,),
        "visual_embed.embeddings_norm.bias": (32,),
        "logit_scale": (),
    }
    for layer in range(depth):
        linear = {
            "self_attn.in_proj": (96, 32),
            "self_attn.out_proj": (32, 32),
            "linear1": (128, 32),
            "linear2": (32, 128),
        }
        for name, shape in linear.items():
            shapes[f"layers.{layer}.{name}.weight"] = shape
            shapes[f"layers.{layer}.{name}.bias"] = shape[:1]
        for norm in ("norm1", "norm2"):
            shapes[f"layers.{layer}.{norm}.weight"] = shapes[f"layers.{layer}.{norm}.bias"] = (32,)
        shapes[f"layers.{layer}.gamma_1"] = shapes[f"layers.{layer}.gamma_2"] = (32,)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def timm_convnext() -> tuple[State, nn.Module]:
    """Weights of a small ConvNeXt of timm, and the network without what follows the stages."""
    network = timm.create_model("convnext_tiny", num_classes=7, **SMALL_CONVNEXT)
    return dict(randomize(network).state_dict()), network


def as_original_convnext(state: State) -> State:
    """The names of ConvNeXt's authors."""
    parts = (
        (r"stem\.", "downsample_layers.0."),
        (r"stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"head\.norm\.", "norm."),
        (r"head\.fc\.", "head."),
    )
    return {_replaced(name, parts): x for name, x in state.items()}


def as_hf_convnext(state: State) -> State:
    """The names of Hugging Face's classifier."""
    parts = (
        (r"^stem\.0", "convnext.embeddings.patch_embeddings"),
        (r"^stem\.1", "convnext.embeddings.layernorm"),
        (r"^stages", "convnext.encoder.stages"),
        (r"\.downsample\.", ".downsampling_layer."),
        (r"\.blocks\.(\d)\.norm", r".blocks.\1.layernorm"),
        (r"\.blocks\.", ".layers."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"\.gamma", ".layer_scale_parameter"),
        (r"^head\.norm\.", "convnext.layernorm."),
        (r"^head\.fc\.", "classifier."),
    )
    return {_replaced(name, parts): x for name, x in state.items()}


def _replaced(name: str, parts: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in parts:
        name = re.sub(pattern, replacement, name)
    return name

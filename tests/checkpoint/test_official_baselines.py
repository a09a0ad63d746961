"""Single networks of the reference compute what timm's networks compute."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from piip_d2.checkpoint import (
    build_from_official,
    convert_backbone_state_dict,
    export_backbone_state_dict,
)

WIDTH, DEPTH, HEADS, SIDE = 48, 3, 4, 64


def randomized(names_and_shapes: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.2 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        for name, x in names_and_shapes.items()
    }


def upsamplers() -> dict[str, Tensor]:
    """What a single network has behind its last block, under the reference's names."""
    deconvolution = torch.empty(WIDTH, WIDTH, 2, 2)
    shapes = {"weight": deconvolution, "bias": torch.empty(WIDTH)}
    layers = {
        f"{layer}.{part}": x for layer in ("up1.0", "up1.3", "up2.0") for part, x in shapes.items()
    }
    norm = {f"up1.1.{part}": torch.empty(WIDTH) for part in ("weight", "bias")}
    return randomized(layers | norm)


def maps_of(x: Tensor, up: dict[str, Tensor]) -> list[Tensor]:
    fine = F.conv_transpose2d(x, up["up1.0.weight"], up["up1.0.bias"], stride=2)
    fine = fine.permute(0, 2, 3, 1)
    fine = F.layer_norm(fine, (WIDTH,), up["up1.1.weight"], up["up1.1.bias"], eps=1e-6)
    fine = F.gelu(fine).permute(0, 3, 1, 2)
    return [
        F.conv_transpose2d(fine, up["up1.3.weight"], up["up1.3.bias"], stride=2),
        F.conv_transpose2d(x, up["up2.0.weight"], up["up2.0.bias"], stride=2),
        x,
        F.max_pool2d(x, 2),
    ]


@pytest.mark.parametrize("kind", ["vit_models", "InternViT6B"])
def test_vision_transformers(kind: str) -> None:
    network = VisionTransformer(
        img_size=SIDE,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        init_values=1.0,
        class_token=False,
        global_pool="",
        num_classes=0,
    ).double()
    weights = randomized(network.state_dict())
    network.load_state_dict(weights)
    network.norm = torch.nn.Identity()
    config = {"type": kind, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    config |= {"pretrain_img_size": SIDE, "patch_size": 16, "qkv_bias": True, "with_fpn": True}
    config |= {"norm_layer_type": "LayerNorm", "qk_normalization": False, "with_cp": False}
    official = {name: x for name, x in weights.items() if not name.startswith("norm.")}
    if kind == "vit_models":
        names = {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}
        for ours, theirs in names.items():
            official = {name.replace(ours, theirs): x for name, x in official.items()}
    else:
        table = official["pos_embed"]
        official["pos_embed"] = torch.cat([torch.ones_like(table[:, :1]), table], dim=1)
    up = upsamplers()
    official |= up

    ours = build_from_official(config).double().eval()
    ours.load_state_dict(convert_backbone_state_dict(official, config))
    images = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        side = SIDE // 16
        x = network.eval()(images).transpose(1, 2).reshape(2, WIDTH, side, side)
        for actual, expected in zip(ours(images).values(), maps_of(x, up), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-9)
    assert set(export_backbone_state_dict(ours.state_dict(), config)) == set(official)


def test_convnext() -> None:
    depths, widths = (1, 2, 3, 1), (8, 16, 24, 32)
    network = timm.create_model(
        "convnext_tiny", depths=depths, dims=widths, features_only=True
    ).double()
    weights = randomized(network.state_dict())
    network.load_state_dict(weights)
    prefix = "convnext_model."
    parts = {
        "stem_0.": f"{prefix}embeddings.patch_embeddings.",
        "stem_1.": f"{prefix}embeddings.layernorm.",
        "stages_": f"{prefix}encoder.stages.",
        ".downsample.": ".downsampling_layer.",
        ".blocks.": ".layers.",
        ".conv_dw.": ".dwconv.",
        ".norm.": ".layernorm.",
        ".mlp.fc": ".pwconv",
        ".gamma": ".layer_scale_parameter",
    }
    official = {}
    for name, x in weights.items():
        for theirs, hugging_face in parts.items():
            name = name.replace(theirs, hugging_face)
        official[name] = x
    config = {"type": "ConvNextHFWrapper", "pretrained": "convnext-of-a-test"}
    sizes = {"convnext-of-a-test": {"depths": depths, "hidden_sizes": widths}}
    ours = build_from_official(config, convnext_sizes=sizes).double().eval()
    ours.load_state_dict(convert_backbone_state_dict(official, config))
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        outputs = ours(images)
        for actual, expected in zip(outputs.values(), network.eval()(images), strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-9)
    assert [x.shape[-1] for x in outputs.values()] == [24, 12, 6, 3]
    norm = {f"{prefix}layernorm.{part}" for part in ("weight", "bias")}
    assert set(export_backbone_state_dict(ours.state_dict(), config)) == set(official) | norm

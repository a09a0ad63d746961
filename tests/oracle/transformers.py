"""The four kinds of vision transformers among the released branches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.oracle.named_layers import (
    Shapes,
    Weights,
    convolve,
    layer_norm,
    layer_shapes,
    linear,
    resize,
    rms_norm,
)
from tests.oracle.self_attention import attend

_COMMON: dict[str, Any] = {
    "patch_size": 16,
    "pretrain_img_size": 224,
    "mlp_ratio": 4,
    "qkv_bias": True,
    "window_attn": False,
    "window_size": 14,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "deit": {**_COMMON, "use_flash_attn": False, "Mlp_block": "Mlp"},
    "beit": _COMMON,
    "perceiver": _COMMON,
    "intern": {
        **_COMMON,
        "patch_size": 14,
        "qkv_bias": False,
        "qk_normalization": True,
        "norm_layer_type": "RMSNorm",
        "mlp_type": "regular",
    },
}
_NAMES: dict[str, str] = {
    "patches": "patch_embed.proj",
    "block": "blocks.",
    "qkv": "attn.qkv",
    "out": "attn.proj",
    "widen": "mlp.fc1",
    "narrow": "mlp.fc2",
    "attention_scale": "gamma_1",
    "mlp_scale": "gamma_2",
}
_OTHER_NAMES: dict[str, dict[str, str]] = {
    "intern": {"attention_scale": "ls1.gamma", "mlp_scale": "ls2.gamma"},
    "perceiver": {
        "patches": "visual_embed.patch_embed.proj",
        "block": "layers.",
        "qkv": "self_attn.in_proj",
        "out": "self_attn.out_proj",
        "widen": "linear1",
        "narrow": "linear2",
    },
}
_PLACES = "visual_embed.patch_embed.spatial_pos_embed.weight"
_TIMES = "visual_embed.patch_embed.temporal_pos_embed.weight"
_NUM_TIMES = 8


class VisionTransformer:
    """A branch of one of four families: deit, beit, perceiver or intern."""

    def __init__(self, family: str, config: Mapping[str, Any], prefix: str) -> None:
        self.family = family
        self.prefix = prefix
        self.options = {**_OPTIONS[family], **config}
        self.names = {**_NAMES, **_OTHER_NAMES.get(family, {})}
        self.width: int = self.options["embed_dim"]
        self.num_blocks: int = self.options["depth"]
        self.window_sizes = _for_each(self.options["window_size"], self.num_blocks)
        uses_windows = _for_each(self.options["window_attn"], self.num_blocks)
        self.windows = [
            size if use is True and size > 0 else None
            for use, size in zip(uses_windows, self.window_sizes, strict=True)
        ]
        self.has_rms_norm = self.options.get("norm_layer_type") == "RMSNorm"

    def width_after(self, block: int) -> int:
        return self.width

    def shapes(self) -> Shapes:
        patch, width = self.options["patch_size"], self.width
        num_places = (self.options["pretrain_img_size"] // patch) ** 2
        shapes = layer_shapes(self.names["patches"], width, 3, patch, patch)
        if self.family == "perceiver":
            shapes |= {_PLACES: (num_places, width), _TIMES: (_NUM_TIMES, width)}
            shapes |= layer_shapes("visual_embed.embeddings_norm", width)
        elif self.family != "beit":
            has_class_row = self.family == "intern"
            shapes["pos_embed"] = (1, num_places + has_class_row, width)
        for block in range(self.num_blocks):
            start = f"{self.names['block']}{block}."
            shapes |= {start + name: shape for name, shape in self._block_shapes(block).items()}
        return {self.prefix + name: shape for name, shape in shapes.items()}

    def embed(self, weights: Weights, images: Tensor) -> Tensor:
        stride = self.options["patch_size"]
        features = convolve(weights, self.prefix + self.names["patches"], images, stride)
        if self.family == "beit":
            return features
        if self.family == "perceiver":
            table = weights[self.prefix + _PLACES]
            features = features + weights[self.prefix + _TIMES][0]
        else:
            table = weights[f"{self.prefix}pos_embed"][0]
            # The first row is the class token's, which these networks do without.
            table = table[1:] if self.family == "intern" else table
        side = math.isqrt(len(table))
        height, width = features.shape[1:3]
        grid = table.unflatten(0, (1, side, side))
        features = features + resize(grid, height, width, mode="bicubic")
        if self.family == "perceiver":
            name = f"{self.prefix}visual_embed.embeddings_norm"
            features = layer_norm(weights, name, features, eps=1e-5)
        return features

    def run_block(self, weights: Weights, features: Tensor, block: int) -> Tensor:
        start = f"{self.prefix}{self.names['block']}{block}."
        names = {role: start + name for role, name in self.names.items()}
        normed = self._norm(weights, f"{start}norm1", features)
        attended = attend(
            normed,
            partial(self._make_qkv, weights, start),
            num_heads=self.options["num_heads"],
            window=self.windows[block],
            pads_features=self.family != "deit" or self.options["use_flash_attn"],
            bias=self._relative_positions(weights, start, block),
        )
        change = linear(weights, names["out"], attended)
        features = features + weights[names["attention_scale"]] * change
        normed = self._norm(weights, f"{start}norm2", features)
        is_fused = "fused_mlp" in (self.options.get("Mlp_block"), self.options.get("mlp_type"))
        hidden = linear(weights, names["widen"], normed)
        hidden = F.gelu(hidden, approximate="tanh" if is_fused else "none")
        return features + weights[names["mlp_scale"]] * linear(weights, names["narrow"], hidden)

    def _block_shapes(self, block: int) -> Shapes:
        width, names = self.width, self.names
        hidden = int(width * self.options["mlp_ratio"])
        norm_has_bias = not self.has_rms_norm
        has_qkv_bias = self.options["qkv_bias"]
        shapes: Shapes = {names["attention_scale"]: (width,), names["mlp_scale"]: (width,)}
        for norm in ("norm1", "norm2"):
            shapes |= layer_shapes(norm, width, with_bias=norm_has_bias)
        in_one = has_qkv_bias and self.family != "beit"
        shapes |= layer_shapes(names["qkv"], 3 * width, width, with_bias=in_one)
        if self.family == "beit":
            size, num_heads = self.window_sizes[block], self.options["num_heads"]
            shapes["attn.relative_position_bias_table"] = ((2 * size - 1) ** 2, num_heads)
            shapes["attn.relative_position_index"] = (size**2, size**2)
            if has_qkv_bias:
                shapes |= {"attn.q_bias": (width,), "attn.v_bias": (width,)}
        if self.options.get("qk_normalization"):
            for norm in ("attn.q_norm", "attn.k_norm"):
                shapes |= layer_shapes(norm, width, with_bias=norm_has_bias)
        shapes |= layer_shapes(names["out"], width, width)
        shapes |= layer_shapes(names["widen"], hidden, width)
        return shapes | layer_shapes(names["narrow"], width, hidden)

    def _norm(self, weights: Weights, name: str, features: Tensor) -> Tensor:
        if self.has_rms_norm:
            return rms_norm(weights, name, features)
        eps = 1e-5 if self.family == "perceiver" else 1e-6
        return layer_norm(weights, name, features, eps)

    def _make_qkv(self, weights: Weights, start: str, features: Tensor) -> Tensor:
        qkv = linear(weights, start + self.names["qkv"], features)
        if self.family == "beit" and self.options["qkv_bias"]:
            query_bias, value_bias = (weights[f"{start}attn.{part}_bias"] for part in "qv")
            qkv = qkv + torch.cat([query_bias, torch.zeros_like(query_bias), value_bias])
        if self.options.get("qk_normalization"):
            query, key, value = qkv.chunk(3, dim=-1)
            query = self._norm(weights, f"{start}attn.q_norm", query)
            key = self._norm(weights, f"{start}attn.k_norm", key)
            qkv = torch.cat([query, key, value], dim=-1)
        return qkv

    def _relative_positions(self, weights: Weights, start: str, block: int) -> Tensor | None:
        if self.family != "beit":
            return None
        index = weights[f"{start}attn.relative_position_index"]
        return weights[f"{start}attn.relative_position_bias_table"][index].permute(2, 0, 1)


def _for_each(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * count
